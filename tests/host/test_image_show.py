"""`limpet image show`: every kind of image is explained, everything else refused, and no secret is told."""

import dataclasses
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_tools import boards, image, partitions, paths, settings
from host_tools.errors import LimpetError, NoDeviceError
from host_tools.image import esp, listing
from host_tools.image.contents import Holding, Program, SpoolFill
from host_tools.image.explain import Explanation, explain
from host_tools.image.listing import File, Files, Settings
from host_tools.image.source import BoardSource, FileSource
from host_tools.image.told import as_json, text
from host_tools.partitions import Partition
from host_tools.pki import partition as identity
from host_tools.virtual.rom.efuses import Efuses
from tests.host import shell, spool_vectors
from tests.host.in_process import limpet
from tests.host.official import CHIPS, official
from tests.host.shell import refused
from tests.host.virtual_rig import BLANK, Rig, boards_on_bench

BOARD = boards.load_board("virtual")
TABLE = BOARD.partition_table()
ESP32 = boards.load_board("esp32_generic")
KEY = b"the node's own private key"
NODE = identity.encode(identity.Identity("n01", KEY, (b"certificate",), (b"authority",)))
PASSWORD = b"an example, not a secret"


@pytest.fixture(scope="module")
def firmware() -> dict[str, bytes]:
    return image.firmware_files()


@pytest.fixture(scope="module")
def node_settings() -> bytes:
    checked = settings.check(paths.ROOT / "docs" / "node.example.toml")
    return settings.dump(settings.to_node_json(checked.node_file, BOARD))


@pytest.fixture(scope="module")
def used(firmware: dict[str, bytes], node_settings: bytes) -> bytes:
    """The flash of a node that has worked for a while, with real MicroPython in it."""
    files = {**firmware, "limpet.json": node_settings, "notes/mine.txt": b"mine"}
    flash = bytearray(image.compose(ESP32, files, NODE, official("esp32").read_bytes()))
    spool = partitions.find(TABLE, "spool")
    written = spool_vectors.partition(SPOOL)
    flash[spool.offset : spool.offset + len(written)] = written
    return bytes(flash)


SPOOL = spool_vectors.named("low byte of the sequence number wraps")


def explained(data: bytes, firmware: dict[str, bytes] | None = None) -> Explanation:
    return explain(FileSource("f", data), firmware)


def said(data: bytes, firmware: dict[str, bytes] | None = None) -> str:
    return "\n".join(text(explained(data, firmware)))


def holdings(found: Explanation) -> dict[str, str]:
    return {each.partition.name: each.holding.text() for each in found.parts}


def put(flash: bytes, offset: int, data: bytes) -> bytes:
    return flash[:offset] + data + flash[offset + len(data) :]


def test_the_flash_of_a_node_is_explained_without_its_secrets(
    used: bytes, firmware: dict[str, bytes]
) -> None:
    found = explained(used, firmware)
    assert (found.kind, found.chip, found.problems) == ("flash", "ESP32", ())
    assert "esp32_generic" in found.boards
    total = sum(each.size for each in found.filesystem.files) if found.filesystem else 0
    count = len(firmware) + 2
    told = holdings(found)
    spool = told.pop("spool")
    assert spool == "a spool of 128 sectors, 1 in use: 10 readings wait, 10 are held, about 30988 fit"
    assert told == {
        "nvs": "blank",
        "phy_init": "blank",
        "factory": "MicroPython 1.27.0 of 2025-12-09 for the ESP32, ESP-IDF v5.5.1, 1698016 bytes",
        "identity": "the identity of n01, in slot 0",
        "vfs": f"littlefs, {count} files of {total} bytes, this checkout's firmware, settings for board "
        "'virtual'",
    }
    lines = said(used, firmware)
    assert (
        "  runs     MicroPython 1.27.0 of 2025-12-09, Generic ESP32 module with ESP32, ESP-IDF v5.5.1\n"
        in lines
    )
    assert "\n  0x200000  identity           16 KiB  the identity of n01, in slot 0\n" in lines
    for secret in (PASSWORD, KEY, b"plant", b"certificate"):
        assert secret in used
        assert secret.decode() not in lines
        assert secret.decode() not in json.dumps(as_json(found))


def test_the_same_for_programs(used: bytes, firmware: dict[str, bytes]) -> None:
    told = as_json(explained(used, firmware))
    spool = {"sectors": 128, "in_use": 1, "waiting": 10, "held": 10, "capacity": 30988, "foreign": 0}
    assert told.pop("spool") == spool
    files = {each["path"]: (each["bytes"], each["is"]) for each in told.pop("files")}
    assert files == {
        **{path: (len(data), "same") for path, data in firmware.items()},
        "limpet.json": (files["limpet.json"][0], "settings"),
        "notes/mine.txt": (4, "other"),
    }
    assert [each["name"] for each in told["partitions"]] == [each.name for each in TABLE]
    assert told.pop("partitions")[2] == {
        "name": "factory",
        "type": "app factory",
        "offset": 0x10000,
        "size": 0x1F0000,
        "in_table": True,
        "holds": "MicroPython 1.27.0 of 2025-12-09 for the ESP32, ESP-IDF v5.5.1, 1698016 bytes",
        "program": {
            "chip": "ESP32",
            "bytes": 1698016,
            "project": None,
            "version": None,
            "esp_idf": "v5.5.1",
            "checked": True,
        },
    }
    assert told == {
        "source": "f",
        "kind": "flash",
        "bytes": 0x400000,
        "chip": "ESP32",
        "mac": None,
        "header_flash_size": 0x400000,
        "micropython": {
            "version": "1.27.0",
            "date": "2025-12-09",
            "machine": "Generic ESP32 module with ESP32",
        },
        "esp_idf": "v5.5.1",
        "boards": list(explained(used).boards),
        "identity": {"node": "n01", "slot": 0, "trial": False, "pending": False},
        "firmware": "same",
        "missing": [],
        "settings": {"board": "virtual", "sensors": ["bme280", "probe", "wind"]},
        "problems": [],
    }


def test_another_firmware_is_told_file_by_file(firmware: dict[str, bytes]) -> None:
    files = dict(firmware)
    del files["limpet/clock.mpy"]
    files["limpet/node.mpy"] += b"x"
    files["main.py"] = b"#" * len(files["main.py"])
    lines = said(image.compose(BOARD, files), firmware)
    assert "another firmware than this checkout's, no settings" in lines
    found = explained(image.compose(BOARD, files), firmware).filesystem
    assert found
    assert found.missing == ("limpet/clock.mpy",)
    assert {each.path for each in found.files if each.is_ == "differs"} == {"limpet/node.mpy", "main.py"}
    assert "differs from this checkout's" in lines
    missing = [line.split() for line in lines.splitlines() if line.endswith("missing")]
    assert missing == [["/limpet/clock.mpy", "missing"]]


@pytest.mark.parametrize("chip", CHIPS)
def test_official_images_are_explained(chip: str) -> None:
    found = explained(official(chip).read_bytes())
    name = boards.CHIPS[chip].esptool_name
    assert (found.kind, found.chip, found.problems) == ("stock", name, ())
    assert found.bootloader_offset == boards.CHIPS[chip].bootloader_offset
    assert isinstance(found.bootloader, Program)
    banner = as_json(found)["micropython"]
    assert (banner["version"], banner["date"]) == ("1.27.0", "2025-12-09")
    assert banner["machine"].replace("-", "").upper().count(chip.upper()) >= 1
    assert list(holdings(found)) == ["nvs", "phy_init", "factory"]


def test_parts_of_an_image_are_explained(used: bytes, firmware: dict[str, bytes]) -> None:
    vfs = partitions.find(TABLE, "vfs")
    app = explained(used[0x10000:0x200000])
    assert (app.kind, app.chip) == ("program", "ESP32")
    assert app.application
    assert app.application.micropython
    assert "a program alone, which goes into a partition" in said(used[0x10000:0x200000])
    files = explained(used[vfs.offset : vfs.end], firmware)
    assert files.kind == "filesystem"
    assert files.filesystem
    assert files.filesystem.firmware == "same"
    table = explained(used[0x8000:0x9000])
    assert (table.kind, list(holdings(table))) == ("table", [each.name for each in TABLE])
    assert explained(b"\xff" * 4096).kind == "blank"
    bootloader = explained(used[:0x8000])
    assert bootloader.problems == ("There is no partition table at 0x8000: a board does not boot from this.",)
    assert isinstance(bootloader.bootloader, Program)


def test_the_filesystem_that_stock_micropython_makes_is_found() -> None:
    stock = official("esp32").read_bytes()
    flash = (b"\xff" * 0x1000 + stock).ljust(0x200000, b"\xff")
    made = image.filesystem({"boot.py": b"# one"}, 0x200000)
    found = explained(flash + made)
    (vfs,) = [each for each in found.parts if each.partition.name == "vfs"]
    assert not vfs.is_in_table
    assert vfs.partition == Partition("vfs", 1, 0x81, 0x200000, 0x200000)
    assert vfs.holding == Files((File("boot.py", 5, "unknown"),), (), None, 0x200000)
    assert "littlefs, 1 file of 5 bytes; not in the table" in said(flash + made)


def test_a_program_of_somebody_else_is_explained() -> None:
    table = partitions.encode(
        [Partition("app0", 0, 0x10, 0x10000, 0x100000), Partition("spiffs", 1, 0x82, 0x110000, 0xF0000)]
    )
    content = esp.app_description("weather-station", "v2") + bytes(500)
    flash = bytearray(b"\xff" * 0x200000)
    for offset, data in {
        0x1000: esp.build(0, 0x200000, 0x3FFF0030, esp.bootloader_description()),
        0x8000: table,
        0x10000: esp.build(0, 0x200000, 0x3F400020, content),
        0x110000: b"\0",
    }.items():
        flash[offset : offset + len(data)] = data
    lines = said(bytes(flash))
    assert "  runs     weather-station\n" in lines
    assert "app0                1 MiB  weather-station v2 for the ESP32, 832 bytes\n" in lines
    assert lines.endswith("  0x110000  spiffs            960 KiB  in use")


DAMAGED = {
    "no bootloader": (
        lambda f: put(f, 0x1000, b"\xff" * 0x7000),
        "There is no bootloader that would start: a board does not boot from this.",
    ),
    "damaged bootloader": (
        lambda f: put(f, 0x2000, b"x"),
        "There is no bootloader that would start: a board does not boot from this.",
    ),
    "no program": (
        lambda f: put(f, 0x10000, b"\xff" * 0x1F0000),
        "There is no program that would start: a board does not boot from this.",
    ),
    "damaged program": (
        lambda f: put(f, 0x20000, bytes(2)),
        "There is no program that would start: a board does not boot from this.",
    ),
    "damaged table": (
        lambda f: put(f, 0x8004, b"x"),
        "The partition table is damaged: its MD5 checksum does not fit its entries. Flash a whole image.",
    ),
    "cut short": (
        lambda f: f[:0x300000],
        "It ends at 0x300000, before the end of 'vfs': it is cut short, or the flash is smaller than the "
        "table says.",
    ),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damage_is_told(used: bytes, damage: str) -> None:
    change, problem = DAMAGED[damage]
    assert explained(change(used)).problems == (problem,)
    assert f"  problem  {problem}" in said(change(used))


def test_what_is_damaged_in_a_partition_is_told_there(used: bytes, firmware: dict[str, bytes]) -> None:
    damaged = put(used, 0x200000, b"XXXX")
    damaged = put(damaged, 0x284000, bytes(0x4000))
    told = holdings(explained(damaged, firmware))
    assert told["identity"] == "no usable identity (slot 0: bad magic; slot 1: blank)"
    assert told["vfs"] == "damaged littlefs (LittleFSError -84: LFS_ERR_CORRUPT)"
    cut = official("esp32").read_bytes()[:500_000]
    assert (
        holdings(explained(cut))["factory"]
        == "no program that would start (it is cut short, within segment 3 of 6)"
    )


def test_a_filesystem_is_found_while_one_of_its_first_two_blocks_is_erased() -> None:
    made = image.filesystem({"boot.py": b"# one"}, 0x200000)

    def held(flash: bytes) -> Holding:
        return listing.filesystem(lambda at, n: flash[at : at + n], len(flash), None)

    whole = held(made)
    assert isinstance(whole, Files)
    left = [held(put(made, block * 4096, b"\xff" * 4096)) for block in (0, 1)]
    assert whole in left  # the newer block alone is the whole; the older alone is an older state
    assert not any("blank" in each.text() for each in left)
    assert held(b"\xff" * len(made)).text().startswith("blank")


def test_the_readings_of_another_node_are_told(used: bytes) -> None:
    other = identity.encode(identity.Identity("n02", KEY, (b"certificate",), (b"authority",)))
    told = holdings(explained(put(used, 0x200000, other)))
    assert told["spool"] == "a spool of 128 sectors, empty, 1 of another node"


def test_names_in_an_image_do_not_command_the_terminal() -> None:
    lines = said(image.compose(BOARD, {"\x1b[2Jevil.py": b""}))
    assert "/\ufffd[2Jevil.py" in lines
    assert "\x1b" not in lines


def test_settings_that_make_no_sense_are_settings_all_the_same() -> None:
    for content in (
        b"",
        b"[]",
        b"{",
        b'{"board": 1}',
        b"\xff",
        b'{"board":"x","sensors":[{}]}',
        b"x" * 20_000,
    ):
        found = explained(image.compose(BOARD, {"limpet.json": content})).filesystem
        assert found
        assert (found.settings, found.files[0].is_) == (None, "settings")
    good = b'{"board":"b","sensors":[{"name":"s"}]}'
    found = explained(image.compose(BOARD, {"limpet.json": good})).filesystem
    assert found
    assert found.settings == Settings("b", ("s",))


def test_random_damage_is_explained_or_refused_but_never_a_crash(
    used: bytes, firmware: dict[str, bytes]
) -> None:
    small = image.compose(BOARD, {"a/b.py": b"x" * 9000, "boot.py": firmware["boot.py"]}, NODE)
    places = [n for n in range(0, len(small), 4096) if small[n : n + 4096] != b"\xff" * 4096]
    for seed in range(60):
        chance = random.Random(seed)
        flash = bytearray(small)
        for _ in range(chance.randrange(1, 8)):
            at = chance.choice(places) + chance.randrange(128)
            size = chance.choice((1, 16, 256))
            flash[at : at + size] = chance.choice((chance.randbytes, bytes))(size)
        data = bytes(flash[: chance.choice((len(flash), chance.randrange(len(flash))))])
        try:
            found = explained(data, firmware)
            assert list(text(found))
            json.dumps(as_json(found))
        except LimpetError as error:
            assert str(error).startswith("f")


GARBAGE = {
    "empty": (b"", "is empty, no image: fetch it again."),
    "page": (
        b"<!DOCTYPE html>",
        "is an HTML page, such as a web site's error message, no image: fetch the image itself.",
    ),
    "gzip": (b"\x1f\x8b\x08\0", "is a gzip archive, no image: unpack it."),
    "uf2": (
        b"UF2\n\x57\x51\x5d\x9e",
        "is a UF2 file, for boards that flash like a USB stick, no image: take the .bin file.",
    ),
    "elf": (b"\x7fELF", "is an ELF file, for a debugger, no image: take the .bin file."),
    "text": (b"[board]\n", "is a text, no image: name an image."),
    "zeros": (bytes(5000), "is nothing but zeros, no image: fetch it again."),
    "noise": (
        bytes(range(128, 256)) * 40,
        "is no image that limpet can read: it begins with 80 81 82 83, and there is no partition table at "
        "0x8000; name an image, or one of a whole flash.",
    ),
    "program": (
        b"\xe9\x02" + bytes(90),
        "is no program that would start (its checksum does not fit its bytes): fetch it again.",
    ),
}


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_is_refused_with_a_sentence(what: str) -> None:
    data, sentence = GARBAGE[what]
    with pytest.raises(image.ImageError) as caught:
        explained(data)
    assert str(caught.value) == f"f {sentence}"


# From the shell, and from boards


def test_a_file_from_the_shell(tmp_path: Path, used: bytes) -> None:
    (tmp_path / "used.bin").write_bytes(used)
    done = shell.limpet("image", "show", tmp_path / "used.bin")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{tmp_path / 'used.bin'}: a whole flash, 4 MiB\n")
    assert "this checkout's firmware" in done.out
    assert PASSWORD.decode() not in done.out
    told = json.loads(limpet("image", "show", tmp_path / "used.bin", "--json").out)
    assert told["identity"] == {"node": "n01", "slot": 0, "trial": False, "pending": False}


def test_what_is_no_source(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "page.bin").write_bytes(b"<html>")
    nothing = f"There is no file or serial port '{tmp_path / 'none'}': name an image, or plug the board in."
    refused(limpet("image", "show", tmp_path / "none"), nothing, code=3)
    refused(limpet("image", "show", tmp_path), f"{tmp_path} is a folder: name the image in it.")
    refused(limpet("image", "show", tmp_path / "fifo"), f"{tmp_path / 'fifo'} is not a file: name the image.")
    page = limpet("image", "show", "--json", tmp_path / "page.bin")
    assert json.loads(page.out)["exit_code"] == page.code == 1
    assert limpet("image", "show").code == 2


class Chip:
    """A flash that counts what is read of it, and may stop answering."""

    def __init__(self, flash: bytes, lasts: int | None = None) -> None:
        self.flash = flash
        self.lasts = lasts
        self.bytes = 0
        self.pages: set[int] = set()

    def read(self, offset: int, size: int) -> bytes:
        assert offset % 256 == 0
        pages = set(range(offset // 256, -(-(offset + size) // 256)))
        assert not pages & self.pages, "read twice"
        self.pages |= pages
        self.bytes += size
        if self.lasts is not None and self.bytes > self.lasts:
            raise NoDeviceError("the cable")
        return self.flash[offset : offset + size]


def test_of_a_board_only_what_is_needed_is_read(used: bytes, firmware: dict[str, bytes]) -> None:
    chip = Chip(used)
    from_board = explain(BoardSource("f", chip, len(used), "ESP32", "24:0a:c4:00:00:01"), firmware)
    assert chip.bytes < 400_000
    from_file = explained(used, firmware)
    told = as_json(from_board)
    assert (told["chip"], told["mac"]) == ("ESP32", "24:0a:c4:00:00:01")
    for name in ("micropython", "esp_idf", "boards", "identity", "files", "settings", "problems", "kind"):
        assert told[name] == as_json(from_file)[name], name
    spools = [
        next(each.holding for each in found.parts if isinstance(each.holding, SpoolFill))
        for found in (from_board, from_file)
    ]
    assert spools[0] == dataclasses.replace(spools[1], waiting=None, held=None)
    assert "not read to its end" in holdings(from_board)["factory"]


def test_a_board_that_stops_answering_is_told_wherever_it_stops(
    used: bytes, firmware: dict[str, bytes]
) -> None:
    for lasts in range(0, 200_000, 9_999):
        source = BoardSource("f", Chip(used, lasts), len(used), "ESP32", "")
        with pytest.raises(NoDeviceError, match="the cable"):
            explain(source, firmware)


@pytest.fixture(scope="module")
def rig(used: bytes) -> Iterator[Rig]:
    with boards_on_bench(1, "esp32_generic", used) as (rig,):
        yield rig


def test_a_board_on_a_port_is_explained_and_restarts(rig: Rig) -> None:
    rig.says("limpet ")
    since = len(rig.log)
    done = limpet("image", "show", rig.url, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["source"], told["chip"]) == (rig.url, "ESP32")
    assert told["mac"] == ":".join(f"{byte:02x}" for byte in rig.board.mac)
    assert told["identity"] == {"node": "n01", "slot": 0, "trial": False, "pending": False}
    assert told["firmware"] == "same"
    assert told["micropython"]["version"] == "1.27.0"
    assert PASSWORD.decode() not in done.out + done.err
    rig.says("waiting for download", since)
    rig.says("limpet ", since)


def test_a_blank_board_is_explained() -> None:
    with boards_on_bench(1, flash=BLANK) as (rig,):
        done = limpet("image", "show", rig.url)
    assert done.code == 0, done.err
    assert done.out.splitlines()[0] == f"{rig.url}: blank, every byte is 0xFF: nothing was flashed, 4 MiB"


def test_a_board_with_flash_encryption_is_refused() -> None:
    with boards_on_bench(1, efuses=Efuses(flash_encryption=True)) as (rig,):
        done = limpet("image", "show", rig.url)
    assert (done.code, done.out) == (4, "")
    assert done.err.endswith(": what the board holds cannot be read, because its flash is encrypted.\n")
