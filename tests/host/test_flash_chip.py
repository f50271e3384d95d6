"""The flash chip: NOR rules, wrapping addresses, its identity, and its faults."""

from pathlib import Path

import pytest

from host_tools.errors import LimpetError
from host_tools.virtual.flash_chip import BLOCK, SECTOR, FlashChip, PowerFailed

MIB = 1024 * 1024


@pytest.fixture
def chip(tmp_path: Path) -> FlashChip:
    return make(tmp_path)


def make(folder: Path, size: int = MIB, fill: bytes = b"\xff") -> FlashChip:
    path = folder / "flash.bin"
    path.write_bytes(fill * size)
    return FlashChip(path)


def test_what_is_programmed_is_read(chip):
    chip.program(0x1234, b"hello")
    assert chip.read(0x1233, 7) == b"\xffhello\xff"
    assert chip.path.read_bytes()[0x1234:0x1239] == b"hello"
    assert (chip.programmed, chip.violations) == (5, 0)


def test_programming_clears_bits_and_sets_none(chip):
    chip.program(0, b"\xf0\x0f\xff")
    chip.program(0, b"\xaa\xaa\xaa")
    assert chip.read(0, 3) == b"\xa0\x0a\xaa"
    assert chip.violations == 1


def test_clearing_more_bits_is_no_violation(chip):
    chip.program(0, b"\xf0")
    chip.program(0, b"\x30")
    assert chip.read(0, 1) == b"\x30"
    assert chip.violations == 0


def test_erase_sets_whole_sectors(chip):
    chip.program(SECTOR - 1, b"\0" * (SECTOR + 2))
    chip.erase(SECTOR, SECTOR)
    assert chip.read(SECTOR - 1, SECTOR + 2) == b"\0" + b"\xff" * SECTOR + b"\0"


@pytest.mark.parametrize(("offset", "length"), [(1, SECTOR), (0, 100)])
def test_part_of_a_sector_is_not_erased(chip, offset, length):
    with pytest.raises(ValueError, match="erase"):
        chip.erase(offset, length)


def test_the_chip_does_not_see_address_bits_beyond_its_size(chip):
    chip.program(chip.size - 2, b"abcd")
    assert chip.read(0, 2) == b"cd"
    assert chip.read(chip.size * 3 - 2, 4) == b"abcd"
    chip.erase(chip.size - SECTOR, 2 * SECTOR)
    assert chip.path.read_bytes() == b"\xff" * chip.size


def test_erasing_more_than_there_is_erases_everything(tmp_path):
    chip = make(tmp_path, fill=b"\0")
    chip.slow = 1
    assert chip.erase(0, 4096 * MIB) == pytest.approx(16 * 0.150)
    assert chip.path.read_bytes() == b"\xff" * MIB


def test_a_read_only_chip_ignores_program_and_erase(chip):
    chip.program(0, b"kept")
    chip.read_only = True
    chip.program(0, b"\0\0\0\0")
    chip.program(SECTOR, b"new")
    chip.erase(0, SECTOR)
    chip.erase_chip()
    assert chip.read(0, 4) == b"kept"
    assert chip.read(SECTOR, 3) == b"\xff\xff\xff"
    chip.read_only = False
    chip.erase(0, SECTOR)
    assert chip.read(0, 4) == b"\xff" * 4


def test_brownout_tears_the_page_and_happens_once(chip):
    chip.brownout = 1000
    chip.program(0, b"\0" * 600)
    with pytest.raises(PowerFailed):
        chip.program(600, b"\0" * 2000)
    content = chip.read(0, 4096)
    assert content[:1000] == bytes(1000)
    assert content[1024:] == b"\xff" * (4096 - 1024)  # up to the end of its page, no further
    assert content[1000:1024] not in (bytes(24), b"\xff" * 24)
    assert chip.brownout is None
    chip.program(2000, b"\0" * 2000)
    assert chip.read(2000, 2000) == bytes(2000)


def test_brownout_at_the_first_byte(chip):
    chip.brownout = 0
    with pytest.raises(PowerFailed):
        chip.program(512, b"\0" * 512)
    assert chip.read(0, 512) == b"\xff" * 512
    assert chip.read(768, 256) == b"\xff" * 256


def test_brownout_beyond_what_is_programmed_does_not_happen(chip):
    chip.brownout = 100
    chip.program(0, b"\0" * 100)
    assert chip.brownout == 0


def test_a_fast_chip_takes_no_time(chip):
    assert chip.program(0, b"\0" * 4096) == chip.erase(0, BLOCK) == chip.erase_chip() == 0


def test_a_slow_chip_takes_the_datasheets_times(chip):
    chip.slow = 1
    assert chip.program(0, b"\0" * 512) == pytest.approx(2 * 0.0004)
    assert chip.program(255, b"\0\0") == pytest.approx(2 * 0.0004)  # two pages
    assert chip.erase(0, 2 * SECTOR) == pytest.approx(0.090)
    assert chip.erase(BLOCK - SECTOR, BLOCK + 2 * SECTOR) == pytest.approx(0.150 + 2 * 0.045)
    assert chip.erase(SECTOR, SECTOR) == pytest.approx(0.045)
    assert chip.erase_chip() == pytest.approx(10 / 4)
    chip.slow = 3
    assert chip.erase(0, SECTOR) == pytest.approx(0.135)


@pytest.mark.parametrize(("mib", "capacity"), [(1, 0x14), (2, 0x15), (4, 0x16), (8, 0x17), (16, 0x18)])
def test_its_identity_tells_its_size(tmp_path, mib, capacity):
    assert make(tmp_path, mib * MIB).jedec_id == bytes((0xEF, 0x40, capacity))


@pytest.mark.parametrize("size", [0, 4096, 3 * MIB, 4 * MIB + 1])
def test_a_file_of_another_length_is_no_flash(tmp_path, size):
    with pytest.raises(LimpetError, match=r"flash\.bin: \d+ bytes; a flash chip has 1, 2, 4, 8 or 16 MiB"):
        make(tmp_path, size)


def test_a_missing_file_is_no_flash(tmp_path):
    with pytest.raises(LimpetError, match="No such file"):
        FlashChip(tmp_path / "none.bin")
