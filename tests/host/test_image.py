"""Flash images: what compose makes boots and is accepted, and what is damaged is refused with a sentence."""

import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from littlefs import LittleFS

from host_tools import boards, image, partitions, paths
from host_tools.errors import LimpetError
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


def with_table(flash: bytes, table: bytes) -> bytes:
    return flash[: partitions.TABLE_OFFSET] + table + flash[partitions.TABLE_OFFSET + len(table) :]


def with_vfs(flash: bytes, **changes: int) -> bytes:
    table = [replace(p, **changes) if p.name == "vfs" else p for p in TABLE]  # type: ignore[arg-type]
    return with_table(flash, partitions.encode(table))


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


def test_a_module_that_does_not_compile_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "FIRMWARE", tmp_path)
    with pytest.raises(image.ImageError) as missing:
        image.firmware_files()
    assert str(missing.value) == f"There is no firmware in {tmp_path}: run limpet from a whole checkout."
    (tmp_path / "limpet").mkdir()
    for name, text in {"boot.py": "", "main.py": "", "limpet/bad.py": "a = 1\nb = = 2\n"}.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(LimpetError) as broken:
        image.firmware_files()
    where = tmp_path / "limpet" / "bad.py"
    assert str(broken.value) == f"{where}:2: SyntaxError: invalid syntax; mend it and try again."


def test_a_good_one_is_accepted(good: bytes) -> None:
    image.check(good, "f", BOARD)
    image.check(good[: VFS.offset] + b"\xff" * VFS.size, "f", BOARD)  # MicroPython makes the filesystem


ANOTHER = "name another file, or leave --flash out to get a new one."
DAMAGED = {
    "empty": (lambda f: b"", f"f has 0 bytes, but the flash of 'virtual' has 4194304: {ANOTHER}"),
    "short": (lambda f: f[:-1], f"f has 4194303 bytes, but the flash of 'virtual' has 4194304: {ANOTHER}"),
    "long": (lambda f: f + b"x", f"f has 4194305 bytes, but the flash of 'virtual' has 4194304: {ANOTHER}"),
    "blank": (lambda f: b"\xff" * len(f), f"f is blank, every byte is 0xFF: {ANOTHER}"),
    "zeros": (
        lambda f: bytes(len(f)),
        "f cannot boot: There is no partition table here: entry 0 begins with 0x0000 instead of 0xaa50. "
        "Flash a whole image.",
    ),
    "no table": (
        lambda f: with_table(f, b"\xff" * 0xC00),
        "f cannot boot: The partition table is blank: nothing was flashed. Flash a whole image.",
    ),
    "failing MD5": (
        lambda f: f[:0x8004] + bytes([f[0x8004] ^ 1]) + f[0x8005:],
        "f cannot boot: The partition table is damaged: its MD5 checksum does not fit its entries. "
        "Flash a whole image.",
    ),
    "no vfs": (
        lambda f: with_table(f, partitions.encode([p for p in TABLE if p.name != "vfs"])),
        "f cannot boot: There is no partition 'vfs' in the table: it has nvs, phy_init, factory, identity, "
        "spool. Flash an image made for this board.",
    ),
    "vfs past the end": (
        lambda f: with_vfs(f, size=0x200000),
        "f cannot boot: its partition 'vfs' (0x200000 bytes at 0x284000) is not a part of the flash that can "
        f"hold a filesystem: {ANOTHER}",
    ),
    "vfs of one block": (
        lambda f: with_vfs(f, size=0x1000),
        "f cannot boot: its partition 'vfs' (0x1000 bytes at 0x284000) is not a part of the flash that can "
        f"hold a filesystem: {ANOTHER}",
    ),
    "corrupt littlefs": (
        lambda f: f[: VFS.offset] + b"\x5a" * 8192 + f[VFS.offset + 8192 :],
        "f has a damaged littlefs in partition 'vfs' (LittleFSError -84: LFS_ERR_CORRUPT): " + ANOTHER,
    ),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_each_damage_is_told(good: bytes, damage: str) -> None:
    make: Callable[[bytes], bytes]
    make, sentence = DAMAGED[damage]
    with pytest.raises(image.ImageError) as refused:
        image.check(make(good), "f", BOARD)
    assert str(refused.value) == sentence


def test_random_damage_is_accepted_or_told_but_never_a_crash(good: bytes) -> None:
    used = [n for n in range(0, len(good), 4096) if good[n : n + 4096] != b"\xff" * 4096]
    told = 0
    for seed in range(300):
        chance = random.Random(seed)
        flash = bytearray(good)
        for _ in range(chance.randrange(1, len(used))):
            start = chance.choice(used) + chance.randrange(128)  # what is used of a block begins at its start
            size = chance.choice((1, 16, 256))
            flash[start : start + size] = chance.choice((chance.randbytes, bytes))(size)
        try:
            image.check(bytes(flash), "f", BOARD)
        except LimpetError as error:
            told += 1
            assert str(error).startswith("f ")
    assert told > 100
