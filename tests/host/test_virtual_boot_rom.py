"""What a chip prints before its program, and whether it gets that far: every kind of flash, on every chip."""

from collections.abc import Iterator

import pytest

from host_tools import boards, image, partitions
from host_tools.boards import Board
from host_tools.image import esp, stand_in
from host_tools.virtual import boot_rom
from host_tools.virtual.boot_rom import Reset, Start
from tests.host.virtual_rig import boards_on_bench

ESP32 = boards.load_board("virtual")
APP = next(p for p in ESP32.partition_table() if p.type == partitions.TYPE_APP)
GENERIC = ("esp32_generic", "esp32s3_generic", "esp32c3_generic", "esp32c6_generic")


def start(flash: bytes, board: Board = ESP32, why: Reset = Reset.POWER_ON) -> Start:
    return boot_rom.start(board, why, lambda offset, length: flash[offset : offset + length])


def composed(board: Board = ESP32) -> bytearray:
    return bytearray(image.compose(board, {}, stand_in=True))


@pytest.mark.parametrize("name", GENERIC)
def test_a_good_flash_boots(name: str) -> None:
    board = boards.load_board(name)
    found = start(bytes(composed(board)), board)
    assert found.failed is None
    assert "(SPI_FAST_FLASH_BOOT)" in found.text
    assert found.text.splitlines()[-1].startswith("entry 0x")
    assert "load:0x" in found.text


@pytest.mark.parametrize("name", GENERIC)
def test_blank_flash_is_an_endless_loop(name: str) -> None:
    board = boards.load_board(name)
    found = start(b"\xff" * board.flash_size, board)
    assert found.failed is Reset.RTC_WATCHDOG
    assert found.text.count("invalid header: 0xffffffff\r\n") == 8
    again = start(b"\xff" * board.flash_size, board, found.failed)
    assert "rst:0x10 (" in again.text
    assert again.failed is Reset.RTC_WATCHDOG


@pytest.mark.parametrize("name", GENERIC)
@pytest.mark.parametrize("why", Reset)
def test_every_chip_has_a_word_for_every_reset(name: str, why: Reset) -> None:
    board = boards.load_board(name)
    assert "rst:0x" in start(bytes(composed(board)), board, why).text
    text = boot_rom.download(board.chip, why)
    assert text.endswith("waiting for download\r\n")
    assert "DOWNLOAD" in text


def damaged() -> Iterator[tuple[str, bytes, str, Reset]]:
    """What is wrong, the flash, a line of the boot, and the reset that follows."""

    def change(offset: int, data: bytes) -> bytes:
        flash = composed()
        flash[offset : offset + len(data)] = data
        return bytes(flash)

    boot, table = ESP32.features.bootloader_offset, partitions.TABLE_OFFSET
    wrong_chip = stand_in.bootloader("ESP32-S3", ESP32.flash_size)
    small = stand_in.bootloader("ESP32", 0x200000)
    no_app = partitions.encode([p for p in ESP32.partition_table() if p.type != partitions.TYPE_APP])
    rom, second = Reset.RTC_WATCHDOG, Reset.BOOTLOADER
    magic = "E (60) flash_parts: partition 0 invalid magic number 0x"
    yield "text where the bootloader should be", change(boot, b"othe"), "invalid header: 0x6568746f", rom
    yield "a bootloader with a wrong bit", change(boot + 100, b"\x01"), "csum err:", rom
    yield "another chip's bootloader", change(boot, wrong_chip), "wrong chip id 0x0009", rom
    yield "no table", change(table, b"\xff" * partitions.TABLE_SIZE), magic + "ffff", second
    yield "a table that is text", change(table, b"\n\n"), magic + "a0a", second
    yield (
        "a table with a wrong bit",
        change(table + 4, b"\x01"),
        "flash_parts: Incorrect MD5 checksum",
        second,
    )
    yield "a bootloader for less flash", change(boot, small), "exceeds flash chip size 0x200000", second
    yield "a table without a program", change(table, no_app), "boot: No bootable app partitions", second
    blank = b"\xff" * APP.size
    yield "no program", change(APP.offset, blank), "invalid magic byte (nothing flashed here?)", second
    yield "half a program", change(APP.offset + 0x80, b"\xff" * 0x100), "E (60) esp_image: image at", second
    other = stand_in.app("ESP32-C3", ESP32.flash_size)
    yield "another chip's program", change(APP.offset, other), "mismatch chip ID, expected 0, found 5", second


@pytest.mark.parametrize(
    ("flash", "line", "then"), [pytest.param(*rest, id=name) for name, *rest in damaged()]
)
def test_what_does_not_boot(flash: bytes, line: str, then: Reset) -> None:
    found = start(flash)
    assert line in found.text
    assert found.failed is then


def test_the_next_program_when_the_first_is_broken() -> None:
    table = [
        partitions.Partition("factory", 0, 0, 0x10000, 0x10000),
        partitions.Partition("ota_0", 0, 0x10, 0x20000, 0x10000),
    ]
    flash = composed()
    flash[partitions.TABLE_OFFSET : partitions.TABLE_OFFSET + partitions.TABLE_SIZE] = partitions.encode(
        table
    )
    flash[0x10000:0x20000] = b"\xff" * 0x10000
    program = stand_in.app("ESP32", ESP32.flash_size)
    flash[0x20000 : 0x20000 + len(program)] = program
    assert start(bytes(flash)).failed is None
    flash[0x20000] = 0
    assert start(bytes(flash)).failed is Reset.BOOTLOADER


def test_the_segments_of_the_bootloader_are_named() -> None:
    flash = composed()
    bootloader = esp.parse(bytes(flash[ESP32.features.bootloader_offset :]))
    lines = start(bytes(flash)).text.splitlines()
    segment = bootloader.segments[0]
    assert f"load:0x{segment.address:08x},len:0x{segment.size:x}" in lines
    assert lines[-1] == f"entry 0x{bootloader.entry:08x}"


def test_a_board_loops_with_nothing_to_boot_and_boots_when_it_is_there() -> None:
    broken = composed()
    broken[APP.offset] = 0
    with boards_on_bench(flash=bytes(broken)) as (rig,):
        rig.says("rst:0x1 (POWERON_RESET)")
        rig.says("rst:0x3 (SW_RESET)", times=2)
        assert rig.board.pid is None
        rig.flash.write_bytes(composed())
        rig.says("MicroPython")
        assert rig.eval("__import__('machine').reset_cause()") == 2
