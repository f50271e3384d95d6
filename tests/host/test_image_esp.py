"""ESP images: what limpet reads is what esptool reads, and what a chip would not start is told."""

import hashlib
import io
import random

import pytest
from esptool.bin_image import LoadFirmwareImage

from host_tools import boards, partitions
from host_tools.boards import CHIPS
from host_tools.image import esp, stand_in, stock
from tests.host import official

MIB = 0x100000


@pytest.fixture(scope="module", params=official.CHIPS)
def chip(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def image(chip: str) -> bytes:
    return official.official(chip).read_bytes()


def app_of(image: bytes, chip: str) -> bytes:
    return image[0x10000 - CHIPS[chip].bootloader_offset :]


def esptool_reads(chip: str, data: bytes) -> dict[str, object]:
    """What esptool finds in an image, in our words; it checks checksum and hash."""
    file = io.BytesIO(data)
    file.name = "image"
    read = LoadFirmwareImage(chip, file)
    read.verify()
    assert read.stored_digest == read.calc_digest
    return {
        "chip": read.ROM_LOADER.CHIP_NAME,
        "entry": read.entrypoint,
        "size": read.data_length + 32,
        "segments": [(each.addr, each.file_offs + 8, len(each.data)) for each in read.segments],
    }


def limpet_reads(data: bytes) -> dict[str, object]:
    read = esp.parse(data)
    return {
        "chip": read.chip,
        "entry": read.entry,
        "size": read.size,
        "segments": [(each.address, each.offset, each.size) for each in read.segments],
    }


def test_the_numbers_of_the_chips_are_those_of_the_boards() -> None:
    assert {each.esptool_name: each.image_chip_id for each in CHIPS.values()}.items() <= {
        name: number for number, name in esp.CHIPS.items()
    }.items()


def test_official_images_are_read_as_esptool_reads_them(chip: str, image: bytes) -> None:
    for program in (image, app_of(image, chip)):
        assert limpet_reads(program) == esptool_reads(chip, program)
        assert esp.validate(program, CHIPS[chip].esptool_name) is None
    said = esp.parse(app_of(image, chip)).description
    assert said is not None
    assert (said.idf, said.built[:11]) == ("v5.5.1", "Dec  9 2025")


def test_an_outline_needs_little_of_the_image(image: bytes) -> None:
    read = 0

    def counted(offset: int, size: int) -> bytes:
        nonlocal read
        read += size
        return image[offset : offset + size]

    assert esp.outline(counted) == esp.parse(image)
    assert read < 400


def test_an_official_image_is_split_into_its_two_programs(chip: str, image: bytes) -> None:
    about = CHIPS[chip]
    programs = stock.split(image, "f", about.esptool_name, about.bootloader_offset)
    assert image.startswith(programs.bootloader)
    assert app_of(image, chip) == programs.app
    assert limpet_reads(programs.bootloader) == esptool_reads(chip, programs.bootloader)


def test_the_flash_size_in_the_header_is_changed_as_esptool_changes_it(image: bytes, chip: str) -> None:
    bootloader = image[: esp.parse(image).size]
    assert esp.parse(bootloader).flash_size == 4 * MIB
    larger = esp.with_flash_size(bootloader, 16 * MIB)
    assert esp.parse(larger).flash_size == 16 * MIB
    assert esptool_reads(chip, larger) == esptool_reads(chip, bootloader)
    assert [n for n in range(len(bootloader) - 32) if bootloader[n] != larger[n]] == [3]
    assert larger[3] & 0xF == bootloader[3] & 0xF
    assert esp.with_flash_size(larger, 4 * MIB) == bootloader
    with pytest.raises(
        esp.EspImageError, match=r"^no header can tell a flash of 0x300000 bytes: it is 1, 2, 4"
    ):
        esp.with_flash_size(bootloader, 3 * MIB)


@pytest.mark.parametrize("name", CHIPS)
def test_the_stand_in_is_well_formed(name: str) -> None:
    chip = CHIPS[name].esptool_name
    for program in (stand_in.bootloader(chip, 8 * MIB), stand_in.app(chip, 8 * MIB)):
        assert limpet_reads(program) == esptool_reads(name, program)
        assert esp.validate(program, chip) is None
        assert esp.parse(program).flash_size == 8 * MIB
        assert stand_in.TEXT.encode() in program
    said = esp.parse(stand_in.app(chip, MIB)).description
    assert said is not None
    assert said.project == "limpet stand-in"


def test_what_a_chip_would_not_start_is_told() -> None:
    good = stand_in.app("ESP32", 4 * MIB)

    def changed(at: int, value: int) -> bytes:
        return good[:at] + bytes([value]) + good[at + 1 :]

    sentences = {
        b"": "it begins with nothing instead of 0xe9",
        b"\xff" * 100: "it begins with 0xff instead of 0xe9",
        good[:10]: "it is cut short, after 10 bytes",
        good[:30]: "it is cut short, before segment 1 of 1",
        good[:200]: "it is cut short, within segment 1 of 1",
        good[:-1]: f"it is cut short, and should have {len(good)} bytes",
        changed(1, 0): "it claims to have 0 segments",
        changed(1, 17): "it claims to have 17 segments",
        changed(1, 2): "it is cut short, within segment 2 of 2",
        changed(100, good[100] ^ 1): "its checksum does not fit its bytes",
        changed(len(good) - 1, good[-1] ^ 1): "its SHA-256 does not fit its bytes",
        changed(3, 0x50): "its SHA-256 does not fit its bytes",
    }
    for data, sentence in sentences.items():
        assert esp.validate(data, "ESP32") == sentence
    assert esp.validate(good, "ESP32-S3") == "it is for the ESP32, not for the ESP32-S3"
    assert esp.validate(good + b"\xff" * 1000, "ESP32") is None


def test_an_image_without_a_digest_and_one_of_an_unknown_chip() -> None:
    good = stand_in.app("ESP32-C3", 4 * MIB)
    bare = good[:23] + b"\0" + good[24:-32]
    assert esp.parse(bare).size == len(bare)
    unknown = bytearray(good)
    unknown[12:14] = b"\x34\x12"
    unknown[-32:] = hashlib.sha256(unknown[:-32]).digest()
    assert esp.validate(bytes(unknown), "ESP32") == "it is for the chip number 4660, not for the ESP32"


def test_damage_is_never_accepted_and_never_a_crash(image: bytes) -> None:
    bootloader = image[: esp.parse(image).size]
    chance = random.Random(1)
    refused = 0
    for _ in range(1500):
        damaged = bytearray(bootloader)
        for _ in range(chance.choice((1, 1, 2, 20))):
            damaged[chance.randrange(chance.choice((32, len(damaged))))] ^= 1 << chance.randrange(8)
        data = bytes(damaged[: chance.choice((len(damaged), chance.randrange(len(damaged))))])
        try:
            esp.parse(data)
        except esp.EspImageError:
            refused += 1
        else:
            # Two bits that cancel out, or the one that may go: without the flag no digest can be wrong.
            assert data == bootloader or data[23] != bootloader[23]
    assert refused > 1400


def test_the_programs_description_is_fit_for_a_terminal() -> None:
    text = b"\x1b[2J\xff\n".ljust(32, b"\0")
    app = esp.app_description("x", "1")
    content = app[:48] + text + app[80:]
    said = esp.parse(esp.build(0, MIB, 0x3F400020, content)).description
    assert said is not None
    assert said.project == "\ufffd[2J\ufffd\ufffd"


def test_partition_tables_of_official_images_have_what_ours_keeps(chip: str, image: bytes) -> None:
    stock_table = partitions.decode(image[0x8000 - CHIPS[chip].bootloader_offset :])
    for name in boards.known_boards():
        board = boards.load_board(name)
        if board.chip == chip:
            assert board.partition_table()[: len(stock_table)] == stock_table
