"""Flash images: composing one for a board, and telling whether one can boot. Pure but for `claim`."""

import contextlib
import fcntl
from collections.abc import Iterator, Mapping
from pathlib import Path

from littlefs import LittleFS, LittleFSError

from host_tools import micropython, partitions, paths
from host_tools.boards import Board
from host_tools.errors import LimpetError
from host_tools.pki.files import exists

BLOCK = 4096
_BLANK = b"\xff"
# How the ESP32 port mounts its littlefs: flashbdev.py of the stock image.
_GRAIN = 32
_FEWEST_BLOCKS = 2  # littlefs keeps its root in a pair
_REMEDY = "name another file, or leave --flash out to get a new one"
SETTINGS_NAME = "limpet.json"


class ImageError(LimpetError):
    """A flash image that cannot be made, or cannot boot."""


def firmware_files() -> dict[str, bytes]:
    """The node's files by path: boot.py and main.py as they are, the package `limpet` as byte code.

    The interpreter starts only `boot.py` and `main.py` by name, so these two stay source. Raises LimpetError
    when a module does not compile, or when there is no firmware.
    """
    if not (paths.FIRMWARE / "main.py").is_file():
        raise ImageError(f"There is no firmware in {paths.FIRMWARE}: run limpet from a whole checkout.")
    files = {name: (paths.FIRMWARE / name).read_bytes() for name in ("boot.py", "main.py")}
    package = paths.FIRMWARE / "limpet"
    for source in sorted(package.rglob("*.py")):
        name = source.relative_to(paths.FIRMWARE).as_posix()
        files[name.removesuffix(".py") + ".mpy"] = micropython.cross_compile(source, name)
    return files


def compose(board: Board, files: Mapping[str, bytes], identity: bytes | None = None) -> bytes:
    """A whole flash for `board`: partition table, identity partition, littlefs with `files`; the rest blank.

    The same input gives the same bytes. Raises ImageError when the files do not fit.
    """
    flash = bytearray(_BLANK * board.flash_size)
    table = board.partition_table()

    def put(offset: int, data: bytes) -> None:
        flash[offset : offset + len(data)] = data

    put(partitions.TABLE_OFFSET, partitions.encode(table))
    if identity is not None:
        place = partitions.find(table, "identity")
        if len(identity) > place.size:
            raise ImageError(f"The identity has {len(identity)} bytes, but its partition only {place.size}.")
        put(place.offset, identity)
    vfs = partitions.find(table, "vfs")
    put(vfs.offset, filesystem(files, vfs.size))
    return bytes(flash)


def filesystem(files: Mapping[str, bytes], size: int) -> bytes:
    """A littlefs of `size` bytes as the ESP32 mounts it. Raises ImageError when the files do not fit."""
    fs = _littlefs(size)
    fs.format()
    fs.mount()
    try:
        for name, data in sorted(files.items()):
            parent = Path(name).parent.as_posix()
            if parent != ".":
                fs.makedirs(parent, exist_ok=True)
            with fs.open(name, "wb") as f:
                f.write(data)
    except LittleFSError as e:
        total = sum(map(len, files.values()))
        raise ImageError(
            f"The files ({total} bytes) do not fit into a filesystem of {size} bytes ({e})."
        ) from None
    fs.unmount()
    return bytes(fs.context.buffer)


def check(flash: bytes, name: str, board: Board) -> None:
    """Raise ImageError, with the remedy, when a board could not boot from `flash`, which is called `name`."""
    _check_size(len(flash), name, board)
    if flash.count(_BLANK) == len(flash):
        raise ImageError(f"{name} is blank, every byte is 0xFF: {_REMEDY}.")
    try:
        table = partitions.decode(flash[partitions.TABLE_OFFSET :])
        vfs = partitions.find(table, "vfs")
    except partitions.PartitionTableError as e:
        raise ImageError(f"{name} cannot boot: {e}") from None
    if vfs.end > len(flash) or vfs.offset % BLOCK or vfs.size % BLOCK or vfs.size < _FEWEST_BLOCKS * BLOCK:
        raise ImageError(
            f"{name} cannot boot: its partition 'vfs' (0x{vfs.size:x} bytes at 0x{vfs.offset:x}) is not a "
            f"part of the flash that can hold a filesystem: {_REMEDY}."
        )
    area = flash[vfs.offset : vfs.end]
    if area[:512].count(_BLANK) == 512:
        return  # MicroPython makes a new filesystem where the first block is blank
    fs = _littlefs(vfs.size)
    fs.context.buffer[:] = area
    try:
        fs.mount()
        for folder, _, names in fs.walk("/"):
            for each in names:
                with fs.open(f"{folder.rstrip('/')}/{each}", "rb") as f:
                    f.read()
    except (LittleFSError, OSError, ValueError) as e:
        raise ImageError(f"{name} has a damaged littlefs in partition 'vfs' ({e}): {_REMEDY}.") from None


@contextlib.contextmanager
def claim(path: Path, board: Board) -> Iterator[None]:
    """Check a flash file, and keep it for one virtual board as long as the `with` block runs.

    Raises ImageError when a board could not boot from it, or not write to it, or when another has it.
    """
    if not exists(path):
        raise ImageError(f"{path} does not exist: add --new to make it, or name another file.")
    if not path.is_file():
        raise ImageError(f"{path} is not a file: name the flash file, or leave --flash out.")
    try:
        file = path.open("r+b")
    except OSError as e:
        raise ImageError(
            f"{path} cannot be opened for reading and writing ({e.strerror}): let it be written, or name "
            "another file."
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ImageError(
                f"{path} is the flash of a virtual board that runs: end that one, or name another file."
            ) from None
        _check_size(path.stat().st_size, str(path), board)
        check(file.read(), str(path), board)
        yield


def _check_size(size: int, name: str, board: Board) -> None:
    if size != board.flash_size:
        raise ImageError(
            f"{name} has {size} bytes, but the flash of '{board.name}' has {board.flash_size}: {_REMEDY}."
        )


def _littlefs(size: int) -> LittleFS:
    return LittleFS(
        block_size=BLOCK,
        block_count=size // BLOCK,
        read_size=_GRAIN,
        prog_size=_GRAIN,
        cache_size=4 * _GRAIN,
        lookahead_size=_GRAIN,
        mount=False,
    )
