"""The real esptool against a chip whose flash or supply fails."""

import random
from pathlib import Path

import pytest

from tests.host.rom_server import esptool, rom_server

DATA = random.Random(9).randbytes(200_000)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "data.bin"
    path.write_bytes(DATA)
    return path


def test_brownout_in_the_middle_of_a_write_and_then_again(tmp_path, file):
    with rom_server(tmp_path) as server:
        server.keep = False
        server.flash.brownout = 100_000
        said = esptool(server.url, "write-flash", "0x10000", file, ok=False)
        assert server.brownouts == 1
        assert "Hash of data verified" not in said
        written = server.flash.path.read_bytes()[0x10000:]
        assert written[:100_000] == DATA[:100_000]
        assert written[100_000 + 256 : 200_000] == b"\xff" * (100_000 - 256)
        assert "Hash of data verified" in esptool(server.url, "write-flash", "0x10000", file)
    assert server.flash.path.read_bytes()[0x10000:][: len(DATA)] == DATA


def test_a_read_only_chip_is_found_by_its_digest(tmp_path, file):
    with rom_server(tmp_path, "esp32s3") as server:
        server.flash.read_only = True
        said = esptool(server.url, "write-flash", "0x10000", file, ok=False)
    assert "the written flash region is empty" in said
    assert server.flash.path.read_bytes() == b"\xff" * server.flash.size


def test_the_rom_itself_notices_a_read_only_chip(tmp_path, file):
    with rom_server(tmp_path, "esp32c3") as server:
        server.flash.read_only = True
        said = esptool(server.url, "write-flash", "0x10000", file, options=["--no-stub"], ok=False)
    assert "0108: Flash write error" in said


def test_a_slow_flash_is_waited_for(tmp_path, file):
    with rom_server(tmp_path) as server:
        server.flash.slow = 1  # erase 200 kB in half a second, and program them in a third
        said = esptool(server.url, "write-flash", "0x10000", file)
    assert "Hash of data verified" in said
    assert server.flash.path.read_bytes()[0x10000:][: len(DATA)] == DATA
