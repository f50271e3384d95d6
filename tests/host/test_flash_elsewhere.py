"""Flashing boards that others made or brought: official images, Espressif's own server, and its command."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_tools import boards, image
from tests.host.flashing import NEW_SAYS, bench, composed, expected, firmware, flash
from tests.host.official import official
from tests.host.shell import DEADLINE, limpet
from tests.host.stand import wait_until

# Over a network the server resets a board by itself, with system calls that need a device. Ours is on a
# network again, so it is told which lines to set.
_SERVER_RESET = "[esptool]\ncustom_reset_sequence = D0|R1|W0.1|D1|R0|W0.05|D0\n"


def esptool(*words: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "esptool", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ["esp32_generic", "esp32s3_generic", "esp32c3_generic", "esp32c6_generic"])
def test_an_official_image(tmp_path: Path, kind: str) -> None:
    """MicroPython as its makers publish it."""
    board = boards.load_board(kind)
    micropython = official(board.chip)
    with bench(tmp_path) as put:
        rig = put(kind=kind)
        done = limpet("flash", "--board", kind, "--port", rig.url, "--micropython", micropython, "--json")
        assert done.code == 0, done.err
        report = json.loads(done.out)
        assert report["boards"][0]["proof"] == "limpet 0.1.0"
        wanted = image.compose(board, firmware(), micropython=micropython.read_bytes())
        assert rig.flash.read_bytes() == expected(b"\xff" * board.flash_size, wanted, kind)


def test_an_image_with_nothing_but_micropython(tmp_path: Path) -> None:
    """Its own banner is the proof then."""
    board = boards.load_board("virtual")
    file = tmp_path / "bare.bin"
    file.write_bytes(image.compose(board, {}))
    with bench(tmp_path) as put:
        rig = put()
        done = flash([rig.url], file)
        assert done.code == 0, done.err
        assert done.boards[0]["proof"].startswith("MicroPython ")


@contextlib.contextmanager
def server(tmp_path: Path, port: str) -> Iterator[str]:
    """Espressif's esp_rfc2217_server in front of a serial port."""
    config = tmp_path / "esptool.cfg"
    config.write_text(_SERVER_RESET)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    log = tmp_path / "server.log"
    with (
        log.open("w") as out,
        subprocess.Popen(
            [sys.executable, "-m", "esp_rfc2217_server", "-p", str(number), port],
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "ESPTOOL_CFGFILE": str(config)},
        ) as process,
    ):
        try:
            wait_until(lambda: "Waiting for connection" in log.read_text(), "the server")
            yield f"rfc2217://127.0.0.1:{number}"
        finally:
            process.kill()


def test_behind_espressifs_server(tmp_path: Path) -> None:
    """It does not answer when a line is set; pyserial's word for that is possible, and not needed."""
    file = tmp_path / "virtual.bin"
    file.write_bytes(composed())
    with bench(tmp_path) as put:
        rig = put()
        with server(tmp_path, rig.url) as url:
            done = flash([url], file)
            assert done.code == 0, done.err
            assert done.boards[0]["mac"] == rig.mac
            assert rig.flash.read_bytes() == expected(b"\xff" * 0x400000, composed())
            assert rig.log.count(NEW_SAYS) == 1  # and it was not reset once more
            again = flash([f"{url}?ign_set_control"], file)
            assert (again.code, again.boards[0]["written"]) == (0, 0)
            # The server itself resets a board when a client comes; whether that start gets so far is chance.
            assert rig.log.count(NEW_SAYS) in (2, 3)


@pytest.mark.soak  # esptool takes half a minute over a network, and waits most of it
def test_a_board_that_esptool_has_flashed(tmp_path: Path) -> None:
    """There is nothing left to write."""
    file = tmp_path / "virtual.bin"
    file.write_bytes(composed())
    with bench(tmp_path) as put:
        rig = put()
        esptool("--port", rig.url, "--baud", "921600", "write-flash", "0", file)
        done = flash([rig.url], file)
        assert (done.code, done.boards[0]["written"]) == (0, 0)
