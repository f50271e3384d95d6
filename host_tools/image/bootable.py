"""Whether a board could boot the filesystem of a flash image."""

from littlefs import LittleFSError

from host_tools import partitions
from host_tools.boards import Board
from host_tools.image.errors import ImageError
from host_tools.image.volume import BLOCK, FEWEST_BLOCKS, littlefs

_BLANK = b"\xff"
_REMEDY = "name another file, or have a new one made"


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
    if vfs.end > len(flash) or vfs.offset % BLOCK or vfs.size % BLOCK or vfs.size < FEWEST_BLOCKS * BLOCK:
        raise ImageError(
            f"{name} cannot boot: its partition 'vfs' (0x{vfs.size:x} bytes at 0x{vfs.offset:x}) is not a "
            f"part of the flash that can hold a filesystem: {_REMEDY}."
        )
    area = flash[vfs.offset : vfs.end]
    if area[:512].count(_BLANK) == 512:
        return  # MicroPython makes a new filesystem where the first block is blank
    fs = littlefs(vfs.size)
    fs.context.buffer[:] = area
    try:
        fs.mount()
        for folder, _, names in fs.walk("/"):
            for each in names:
                with fs.open(f"{folder.rstrip('/')}/{each}", "rb") as f:
                    f.read()
    except (LittleFSError, OSError, ValueError) as e:
        raise ImageError(f"{name} has a damaged littlefs in partition 'vfs' ({e}): {_REMEDY}.") from None


def _check_size(size: int, name: str, board: Board) -> None:
    if size != board.flash_size:
        raise ImageError(
            f"{name} has {size} bytes, but the flash of '{board.name}' has {board.flash_size}: {_REMEDY}."
        )
