"""Flash images: what compose makes boots, and what does not fit is refused with a sentence."""

import re
from pathlib import Path

import pytest
from littlefs import LittleFS

from host_tools import boards, image, partitions, paths
from host_tools.boards import Board
from host_tools.errors import LimpetError
from host_tools.image import esp, stand_in
from host_tools.image.explain import explain
from host_tools.image.source import FileSource
from tests.host.official import CHIPS, official
from tests.host.stand import Stand

BOARD = boards.load_board("virtual")
TABLE = BOARD.partition_table()
VFS = partitions.find(TABLE, "vfs")
FILES = {
    "boot.py": b"",
    "main.py": b"print('hello')\n",
    "limpet/a.mpy": bytes(range(256)) * 40,
    "limpet/b/c.mpy": b"c",
}


@pytest.fixture(scope="module")
def good() -> bytes:
    return image.compose(BOARD, FILES, b"identity")


def test_the_same_input_gives_the_same_bytes(good: bytes) -> None:
    assert image.compose(BOARD, dict(reversed(FILES.items())), b"identity") == good
    assert image.firmware_files() == image.firmware_files()


def test_everything_is_in_its_place(good: bytes) -> None:
    assert len(good) == BOARD.flash_size
    assert partitions.decode(good[partitions.TABLE_OFFSET :]) == TABLE
    identity = partitions.find(TABLE, "identity")
    assert good[identity.offset : identity.end] == b"identity".ljust(identity.size, b"\xff")
    fs = LittleFS(block_size=4096, block_count=VFS.size // 4096, mount=False)
    fs.context.buffer[:] = good[VFS.offset : VFS.end]
    fs.mount()
    found = {}
    for folder, _, names in fs.walk("/"):
        for name in names:
            path = f"{folder}/{name}".lstrip("/")
            with fs.open(path, "rb") as f:
                found[path] = f.read()
    assert found == FILES


def generic(chip: str, **changes: object) -> Board:
    return boards.load_board(f"{chip}_generic").model_copy(update=changes)


@pytest.fixture(scope="module", params=CHIPS)
def chip(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_with_an_official_image_everything_is_in_its_place(chip: str) -> None:
    board = generic(chip)
    stock = official(chip).read_bytes()
    flash = image.compose(board, FILES, None, stock)
    start = board.features.bootloader_offset
    assert set(flash[:start]) <= {0xFF}
    assert flash[start : partitions.TABLE_OFFSET] == stock[: partitions.TABLE_OFFSET - start]
    app = stock[0x10000 - start :]
    assert flash[0x10000 : 0x10000 + len(app)] == app
    assert partitions.decode(flash[partitions.TABLE_OFFSET :]) == board.partition_table()
    for place in board.partition_table():
        if place.name not in ("factory", "vfs"):
            assert set(flash[place.offset : place.end]) == {0xFF}, place.name
    assert image.compose(board, FILES, None, stock) == flash


def test_on_a_larger_flash_the_bootloader_is_told_its_size() -> None:
    table = [
        each.model_copy(update={"size": 0x57C000}) if each.name == "vfs" else each
        for each in generic("esp32s3").partition
    ]
    board = generic("esp32s3", flash_size=0x800000, partition=table)
    flash = image.compose(board, FILES, None, official("esp32s3").read_bytes())
    assert esp.validate(flash, "ESP32-S3") is None
    assert esp.parse(flash).flash_size == board.flash_size == len(flash)


def test_a_flash_of_a_size_that_does_not_exist_is_refused() -> None:
    sentence = (
        "There is no 'virtual' with such a flash, no header can tell a flash of 0x500000 bytes: it is 1, 2,"
    )
    with pytest.raises(image.ImageError, match=sentence):
        image.compose(BOARD.model_copy(update={"flash_size": 0x500000}), {})


def test_the_program_goes_where_the_boards_own_table_has_it() -> None:
    moved = [
        each.model_copy(update={"offset": 0x20000, "size": 0x1E0000}) if each.name == "factory" else each
        for each in generic("esp32").partition
    ]
    flash = image.compose(generic("esp32", partition=moved), {}, None, official("esp32").read_bytes())
    assert set(flash[0x10000:0x20000]) == {0xFF}
    assert esp.validate(flash[0x20000:0x200000], "ESP32") is None


def test_without_micropython_a_board_gets_the_stand_in_if_it_may() -> None:
    for name in boards.known_boards():
        board = boards.load_board(name)
        if board.micropython is not None:
            sentence = f"'{name}' runs {board.micropython.name}, and no image of MicroPython was given.$"
            with pytest.raises(image.ImageError, match=sentence):
                image.compose(board, FILES)
        flash = image.compose(board, FILES, stand_in=True)
        for start in (board.features.bootloader_offset, 0x10000):
            assert esp.validate(flash[start:], board.features.esptool_name) is None
        assert flash.count(stand_in.TEXT.encode()) == 2
        assert explain(FileSource("f", flash), None).problems == ()


def test_a_stock_image_that_is_none_is_refused() -> None:
    board = generic("esp32")
    good = official("esp32").read_bytes()
    sentences = {
        b"": "is empty, no image of MicroPython: fetch it again.",
        b"<!DOCTYPE html><html>404": "is an HTML page, such as a web site's error message, no image",
        b"\x1f\x8b\x08" + good: "is a gzip archive, no image of MicroPython: unpack it.",
        good[:-1]: r"is no whole image of MicroPython for the ESP32 \(it is cut short, ",
        good[:30000]: r"is no whole image of MicroPython for the ESP32 \(The partition table is cut short",
        good[: len(good) - 9] + b"x" + good[-8:]: r"\(its SHA-256 does not fit its bytes\)",
        official("esp32c3").read_bytes(): r"\(it is for the ESP32-C3, not for the ESP32\)",
        good[0xF000:]: r"ESP32 \(There is no partition table here",
    }
    for data, sentence in sentences.items():
        with pytest.raises(image.ImageRefusedError, match=sentence) as refused:
            image.compose(board, FILES, None, data)
        assert refused.value.exit_code == 4


def test_a_program_that_is_larger_than_its_partition_is_refused() -> None:
    small = [
        each.model_copy(update={"size": 0x100000}) if each.name == "factory" else each
        for each in generic("esp32").partition
    ]
    with pytest.raises(
        image.ImageError, match=r"^MicroPython takes 1698016 bytes, but partition 'factory' of "
    ):
        image.compose(generic("esp32", partition=small), {}, None, official("esp32").read_bytes())


# What flashing writes


def test_the_regions_are_all_that_a_board_needs_to_boot(chip: str) -> None:
    board = generic(chip)
    stock = official(chip).read_bytes()
    flash = image.compose(board, FILES, None, stock)
    found = {each.name: each for each in image.regions(board, flash)}
    assert list(found) == ["bootloader", "partition table", "factory", "vfs"]
    start = board.features.bootloader_offset
    assert (found["bootloader"].offset, len(found["bootloader"].data)) == (start, 0x8000 - start)
    assert (found["partition table"].offset, len(found["partition table"].data)) == (0x8000, 0x1000)
    assert 0 <= len(found["factory"].data) - (len(stock) - 0x10000 + start) < 0x1000
    written = bytearray(b"\xff" * len(flash))
    for each in found.values():
        assert each.offset % 0x1000 == len(each.data) % 0x1000 == 0
        written[each.offset : each.offset + len(each.data)] = each.data
    assert written == flash


def test_an_identity_is_a_region_only_where_there_is_one(good: bytes) -> None:
    assert [each.name for each in image.regions(BOARD, good)][-2:] == ["identity", "vfs"]
    without = image.compose(BOARD, FILES)
    assert "identity" not in {each.name for each in image.regions(BOARD, without)}


# The firmware


def test_the_firmware_is_byte_code_but_for_what_the_interpreter_starts_by_name() -> None:
    files = image.firmware_files()
    sources = {p.relative_to(paths.FIRMWARE).as_posix() for p in (paths.FIRMWARE / "limpet").rglob("*.py")}
    assert set(files) == {"boot.py", "main.py"} | {s.removesuffix(".py") + ".mpy" for s in sources}
    assert all(data.startswith(b"M\x06") for name, data in files.items() if name.endswith(".mpy"))


def test_micropython_boots_from_it_and_reads_every_byte(tmp_path: Path) -> None:
    main = b"""
import binascii, hashlib, os
def look(folder):
    for name, kind, *_ in os.ilistdir(folder):
        path = folder + "/" + name
        if kind == 0x4000:
            look(path)
        else:
            with open(path, "rb") as f:
                print("file", path, binascii.hexlify(hashlib.sha256(f.read()).digest()).decode())
look("")
print("all read")
"""
    import hashlib

    files = FILES | {"main.py": main}
    with Stand(tmp_path) as stand:
        node = stand.node(files=files, identity=b"").start()
        node.says("all read")
        seen = dict(re.findall(r"^file /(\S+) (\w+)$", node.log, re.MULTILINE))
    assert seen == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(
        image.ImageError, match=r"^The files \(2000000 bytes\) do not fit into a filesystem of 1556480 "
    ):
        image.compose(BOARD, {"big": bytes(2_000_000)})
    with pytest.raises(
        image.ImageError, match=r"^The identity has 20000 bytes, but its partition only 16384"
    ):
        image.compose(BOARD, FILES, bytes(20_000))


def test_a_module_that_does_not_compile_is_named(tmp_path: Path) -> None:
    with pytest.raises(image.ImageError) as missing:
        image.firmware_files(tmp_path)
    assert str(missing.value) == f"There is no firmware in {tmp_path}: run limpet from a whole checkout."
    (tmp_path / "limpet").mkdir()
    for name, text in {"boot.py": "", "main.py": "", "limpet/bad.py": "a = 1\nb = = 2\n"}.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(LimpetError) as broken:
        image.firmware_files(tmp_path)
    where = tmp_path / "limpet" / "bad.py"
    assert str(broken.value) == f"{where}:2: SyntaxError: invalid syntax; mend it and try again."
