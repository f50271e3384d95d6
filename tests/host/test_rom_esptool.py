"""The real esptool against our ROM and stub, on every chip: the command, and the library."""

import hashlib
import io
import random
from contextlib import contextmanager
from pathlib import Path

import esptool
import pytest
from esptool.util import FatalError

from host_tools.virtual.rom.efuses import Efuses
from host_tools.virtual.rom.engine import CHIPS
from tests.host.rom_server import MAC, MIB, rom_server
from tests.host.rom_server import esptool as command

NAMES = {"esp32": "ESP32", "esp32s3": "ESP32-S3", "esp32c3": "ESP32-C3", "esp32c6": "ESP32-C6"}
DATA = random.Random(4).randbytes(70_000) + b"well compressed" * 8_000  # some blocks of each kind


@contextmanager
def connected(url: str, *, stub: bool = True):
    """esptool's object for what is behind `url`, its flash attached."""
    with esptool.detect_chip(url, connect_mode="no-reset", connect_attempts=1) as esp:
        loader = esptool.run_stub(esp) if stub else esp
        esptool.attach_flash(loader)
        yield loader


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "data.bin"
    path.write_bytes(DATA)
    return path


@pytest.mark.parametrize("chip", CHIPS)
def test_the_command_writes_and_reads_back(tmp_path, chip, file):
    with rom_server(tmp_path, chip) as server:
        said = command(server.url, "write-flash", "0x11000", file)
        assert f"Connected to {NAMES[chip]} on" in said
        assert "Stub flasher running" in said
        assert "Hash of data verified" in said
        back = tmp_path / "back.bin"
        command(server.url, "read-flash", "0x11001", str(len(DATA)), back)
    expected = b"\xff" * 0x11000 + DATA
    expected += b"\xff" * (4 * MIB - len(expected))
    assert server.flash.path.read_bytes() == expected
    assert back.read_bytes() == DATA[1:] + b"\xff"


@pytest.mark.parametrize("chip", ["esp32", "esp32c6"])
def test_the_command_without_the_stub(tmp_path, chip, file):
    with rom_server(tmp_path, chip) as server:
        said = command(server.url, "write-flash", "-z", "0x1000", file, options=["--no-stub"])
        assert "compressed" in said
        assert "Hash of data verified" in said
        said = command(server.url, "write-flash", "-u", "0x100000", file, options=["--no-stub"])
        assert "Hash of data verified" in said
        assert not server.has_stub
    written = server.flash.path.read_bytes()
    assert written[0x1000 : 0x1000 + len(DATA)] == DATA
    assert written[0x100000 : 0x100000 + len(DATA)] == DATA
    assert written[0x100000 + len(DATA) :].count(0xFF) == len(written) - 0x100000 - len(DATA)


def test_the_command_changes_the_baud_rate_and_says_what_it_finds(tmp_path):
    with rom_server(tmp_path, "esp32s3", 8 * MIB) as server:
        said = command(server.url, "flash-id", options=["--baud", "921600"])
        assert "Manufacturer: ef" in said
        assert "Detected flash size: 8MB" in said
        assert server.baudrates == [115200, 921600]


@pytest.mark.parametrize("chip", CHIPS)
def test_the_library_meets_the_chip_that_it_expects(tmp_path, chip):
    with rom_server(tmp_path, chip) as server, connected(server.url) as esp:
        assert NAMES[chip] == esp.CHIP_NAME
        assert bytes(esp.read_mac("BASE_MAC")) == MAC
        if chip == "esp32c6":
            assert bytes(esp.read_mac("EUI64")) == MAC[:3] + b"\xff\xfe" + MAC[3:]
        assert esp.get_crystal_freq() == 40
        assert esp.get_chip_revision() == {"esp32": 300, "esp32s3": 2, "esp32c3": 4, "esp32c6": 1}[chip]
        assert not esp.get_flash_encryption_enabled()
        assert not esp.get_secure_boot_enabled()
        assert not esp.secure_download_mode
        assert esp.IS_STUB
        esp.erase_region(0, 0x2000)
        assert esp.flash_md5sum(0x3000, 100) == hashlib.md5(b"\xff" * 100).hexdigest()
        esptool.write_flash(esp, [(0, DATA[:4096])], flash_size="keep")
        assert esptool.read_flash(esp, 0, 4096, None) == DATA[:4096]
        esptool.erase_flash(esp)
        assert esptool.read_flash(esp, 0, 4096, None) == b"\xff" * 4096


@pytest.mark.parametrize("mib", [2, 4, 8, 16])
def test_flash_sizes(tmp_path, mib):
    with rom_server(tmp_path, "esp32c3", mib * MIB) as server, connected(server.url) as esp:
        assert esptool.detect_flash_size(esp) == f"{mib}MB"
        last = mib * MIB - 0x1000
        esptool.write_flash(esp, [(last, DATA[:4096])], flash_size="detect")
        assert server.flash.path.read_bytes()[last:] == DATA[:4096]


@pytest.mark.parametrize("chip", CHIPS)
def test_sfdp_and_status_registers(tmp_path, chip):
    with rom_server(tmp_path, chip) as server, connected(server.url) as esp:
        assert esp.read_spiflash_sfdp(0, 32) == 0x50444653
        assert esp.read_spiflash_sfdp(0x84, 32) == 4 * MIB * 8 - 1  # its density in bits
        assert esp.read_status(3) == 0
        esp.write_status(0x0240, 2)
        assert esp.read_status(2) == 0x0240
        server.flash.read_only = True
        assert esp.read_status(1) == 0x40 | 0x1C  # all blocks protected


@pytest.mark.parametrize("chip", CHIPS)
def test_encryption_and_secure_boot_are_seen(tmp_path, chip):
    efuses = Efuses(flash_encryption=True, secure_boot=True)
    with rom_server(tmp_path, chip, efuses=efuses) as server, connected(server.url) as esp:
        assert esp.get_flash_encryption_enabled()
        assert esp.is_flash_encryption_key_valid()
        assert esp.get_secure_boot_enabled()
        assert not esp.get_secure_boot_v1_enabled()
        assert not esp.secure_download_mode
        # esptool does without on the ESP32-C3, and starts it by a trick on the ESP32-S3.
        assert (chip != "esp32c3") == esp.IS_STUB
        with pytest.raises(FatalError, match="Active security features"):
            esptool.erase_flash(esp)


@pytest.mark.parametrize("flag", ["flash_encryption", "secure_boot"])
@pytest.mark.parametrize("chip", CHIPS)
def test_each_flag_alone(tmp_path, chip, flag):
    with (
        rom_server(tmp_path, chip, efuses=Efuses(**{flag: True})) as server,
        connected(server.url, stub=False) as esp,
    ):
        assert bool(esp.get_flash_encryption_enabled()) == (flag == "flash_encryption")
        assert bool(esp.get_secure_boot_enabled()) == (flag == "secure_boot")
        if chip != "esp32":
            info = esp.get_security_info()
            assert info["chip_id"] == esp.IMAGE_CHIP_ID
            assert info["parsed_flags"]["SECURE_BOOT_EN"] == (flag == "secure_boot")
            assert info["flash_crypt_cnt"] == (flag == "flash_encryption")
            assert (4 in info["key_purposes"], 9 in info["key_purposes"]) == (
                flag == "flash_encryption",
                flag == "secure_boot",
            )


@pytest.mark.parametrize("chip", ["esp32s3", "esp32c3", "esp32c6"])
def test_secure_download_serves_a_few_commands(tmp_path, chip):
    efuses = Efuses(secure_download=True)
    with rom_server(tmp_path, chip, efuses=efuses) as server, connected(server.url) as esp:
        assert NAMES[chip] == esp.CHIP_NAME
        assert esp.secure_download_mode
        assert not esp.IS_STUB
        with pytest.raises(FatalError, match="not supported in Secure Download Mode"):
            esp.read_reg(0x3F400000)
        with pytest.raises(FatalError, match="not supported in Secure Download Mode"):
            esp.flash_md5sum(0, 4096)
        assert esp.get_security_info(cache=False)["parsed_flags"]["SECURE_DOWNLOAD_ENABLE"]
        image = io.BytesIO(DATA[:8192])
        image.name = "data.bin"
        esptool.write_flash(esp, [(0x20000, image)], flash_size="4MB")
    assert server.flash.path.read_bytes()[0x20000:0x22000] == DATA[:8192]


def test_the_esp32_with_its_download_mode_off_never_answers(tmp_path):
    with (
        rom_server(tmp_path, "esp32", efuses=Efuses(secure_download=True)) as server,
        pytest.raises(FatalError, match="Failed to connect"),
    ):
        esptool.detect_chip(server.url, connect_mode="no-reset", connect_attempts=1)


@pytest.mark.parametrize(("chip", "wrong"), [("esp32", "esp32c3"), ("esp32c6", "esp32")])
def test_the_wrong_chip_is_noticed(tmp_path, chip, wrong):
    with rom_server(tmp_path, chip) as server:
        said = command(server.url, "flash-id", options=["--chip", wrong], ok=False)
    assert f"This chip is {NAMES[chip]}, not {NAMES[wrong]}" in said


def test_a_stub_that_runs_already_is_found(tmp_path):
    with rom_server(tmp_path, "esp32") as server:
        server.keep = True
        command(server.url, "flash-id", options=["--after", "no-reset-stub"])
        said = command(server.url, "flash-id", options=["--after", "no-reset"])
        assert "Stub flasher is already running" in said
        assert not server.has_stub  # --after no-reset ends it
        said = command(server.url, "flash-id")
        assert "Uploading stub flasher" in said
        assert server.runs == 0


@pytest.mark.parametrize("chip", ["esp32s3", "esp32c3"])
def test_watchdog_reset_leaves_the_download_mode(tmp_path, chip):
    with rom_server(tmp_path, chip) as server:
        command(server.url, "flash-id", options=["--after", "watchdog-reset"])
        assert server.runs == 1


def test_run_leaves_the_download_mode(tmp_path):
    with rom_server(tmp_path, "esp32") as server:
        command(server.url, "run", options=["--no-stub"])
        assert server.runs == 1
