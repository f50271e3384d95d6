"""A chip in its bootloader, by our way into esptool."""

import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_tools.errors import NoDeviceError
from host_tools.esp.chip import LinkError, Security, connect
from host_tools.virtual.rom.efuses import Efuses
from tests.host.flashing import OLD_SAYS, bench, used
from tests.host.stand import wait_until

KINDS = ("virtual", "esp32s3_generic", "esp32c3_generic", "esp32c6_generic")
NAMES = dict(zip(KINDS, ("ESP32", "ESP32-S3", "ESP32-C3", "ESP32-C6"), strict=True))
OPEN = Security(encrypted=False, secure_boot=False, secure_download=False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("known", [True, False])
def test_who_it_is_and_back_again(
    tmp_path: Path, kind: str, known: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also without knowing how its reset is wired. Nothing is written; the board runs on as before."""
    with bench(tmp_path) as put:
        rig = put(used(kind), kind=kind)
        rig.says(OLD_SAYS)
        before = rig.flash.read_bytes()
        with connect(rig.url, rig.kind if known else None) as chip:
            assert (chip.port, chip.name, chip.mac, chip.security) == (rig.url, NAMES[kind], rig.mac, OPEN)
            assert chip.flash_size == rig.kind.flash_size
            assert chip.revision >= 0
            chip.reset()
            assert any(OLD_SAYS in line for line in chip.lines(20)) or OLD_SAYS in rig.log
        rig.says(OLD_SAYS, times=2)
        assert rig.flash.read_bytes() == before
        assert rig.board.flash_chip.programmed == 0
    assert capfd.readouterr() == ("", "")  # esptool keeps quiet


def test_its_flash(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    with bench(tmp_path) as put:
        rig = put()
        with connect(rig.url, rig.kind, baud=921600) as chip:
            chip.write([(0x10000, b"a" * 0x3000), (0x20000, b"b" * 0x1000)], lambda *so: told.append(so))
            assert chip.read(0x12FF0, 0x20) == b"a" * 0x10 + b"\xff" * 0x10
            assert chip.md5(0x20000, 0x1000) == hashlib.md5(b"b" * 0x1000).hexdigest()
            chip.erase(0x10000, 0x1000)
            assert chip.read(0x10000, 0x2000) == b"\xff" * 0x1000 + b"a" * 0x1000
            chip.erase_all()
        assert not rig.flash.read_bytes().strip(b"\xff")
    assert told[-1] == (0x4000, 0x4000)
    assert told == sorted(told)


def test_its_security(tmp_path: Path) -> None:
    with bench(tmp_path) as put:
        for kind, efuses in (
            ("virtual", Efuses(flash_encryption=True)),
            ("virtual", Efuses(secure_boot=True)),
            ("esp32c3_generic", Efuses(secure_boot=True)),
            ("esp32s3_generic", Efuses(flash_encryption=True, secure_boot=True)),
            ("esp32s3_generic", Efuses(secure_download=True)),
        ):
            rig = put(kind=kind, efuses=efuses)
            with connect(rig.url, rig.kind) as chip:
                assert chip.security == Security(
                    efuses.flash_encryption, efuses.secure_boot, efuses.secure_download
                )
                assert chip.mac == ("" if efuses.secure_download else rig.mac)
                if not efuses.secure_download:  # also where the stub may not run, and the ROM must do it
                    assert [chip.read(offset, 64) for offset in (0, 0x10000)] == [b"\xff" * 64] * 2


def test_a_port_that_goes(tmp_path: Path) -> None:
    with bench(tmp_path) as put:
        rig = put()
        with connect(rig.url, rig.kind) as chip:
            chip.hurry()
            rig.inside(lambda: rig.board.vanish(3600))
            with pytest.raises(LinkError, match=r"while it was asked for a hash \(.+\); see to"):
                chip.md5(0, 4096)


@pytest.mark.parametrize("known", [True, False])
def test_nobody_answers(tmp_path: Path, known: bool) -> None:
    with bench(tmp_path) as put:
        rig = put()
        rig.board.faults.deaf = True
        with (
            pytest.raises(NoDeviceError, match=r"no ESP32 answers in its bootloader \(.*No serial data"),
            connect(rig.url, rig.kind if known else None, deadline=0.1),
        ):
            pass


# A second ROM, by somebody else. It has no lines, so it is not reset.

# While it sends flash it waits 50 ms for each acknowledgement: too short for a busy machine.
PATIENT = "from esp32_mock_bootloader import cli, server; server._CLIENT_RECV_TIMEOUT = 30.0; cli.main()"


@pytest.fixture(params=["esp32", "esp32s3", "esp32c6"])
def mock(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Its chip and its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    command = [sys.executable, "-c", PATIENT, "run", "--chip", request.param, "--port"]
    log = tmp_path / "mock.log"
    # Else it keeps a list of its like in a folder that is all users' together, or the first one's alone.
    own = {**os.environ, "ESP32_MOCK_BOOTLOADER_STATE_DIR": str(tmp_path)}
    with (
        log.open("w") as out,
        subprocess.Popen([*command, str(number)], stdout=out, stderr=out, env=own) as process,
    ):
        try:
            wait_until(lambda: _listens(number), f"a ROM on port {number}")
            yield request.param, f"socket://127.0.0.1:{number}"
        finally:
            process.kill()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_rom_by_somebody_else(mock: tuple[str, str]) -> None:
    chip_name, url = mock
    content = bytes(range(256)) * 64
    with connect(url) as chip:
        assert chip.name.lower().replace("-", "") == chip_name
        assert (chip.flash_size, chip.security) == (0x400000, OPEN)
        chip.write([(0x20000, content)])
    with connect(url) as chip:  # it hangs up some seconds after a write
        assert chip.md5(0x20000, len(content)) == hashlib.md5(content).hexdigest()
        chip.erase(0x20000, 0x1000)
        assert chip.md5(0x20000, 0x2000) == hashlib.md5(b"\xff" * 0x1000 + content[0x1000:0x2000]).hexdigest()
        # esptool cannot read more than once from it.
        assert chip.read(0x21000, 16) == content[0x1000:0x1010]
