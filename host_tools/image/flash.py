"""The whole flash of a board as one image: composing it, and the parts of it that flashing writes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from host_tools import partitions
from host_tools.boards import Board
from host_tools.image import esp
from host_tools.image import stand_in as stand_ins
from host_tools.image.errors import ImageError
from host_tools.image.stock import Programs, app_partition, split
from host_tools.image.volume import filesystem

_BLANK = b"\xff"


@dataclass(frozen=True, slots=True)
class Region:
    """Bytes that flashing writes to `offset`: whole sectors, from the beginning of one."""

    name: str
    offset: int
    data: bytes


def compose(
    board: Board,
    files: Mapping[str, bytes],
    identity: bytes | None = None,
    micropython: bytes | None = None,
    *,
    stand_in: bool = False,
) -> bytes:
    """A whole flash for `board`: MicroPython, partition table, identity, littlefs with `files`; else blank.

    `micropython` is a stock image, one file from the bootloader on. A board that names none gets the
    stand-in, and so does any other with `stand_in`. The same input gives the same bytes. Raises
    ImageError when something is missing, does not fit, or is not for this board's chip.
    """
    table = board.partition_table()
    try:
        programs = _programs(board, micropython, stand_in)
        # The bootloader refuses a partition table that goes beyond the size that its own header tells.
        bootloader = esp.with_flash_size(programs.bootloader, board.flash_size)
    except esp.EspImageError as error:
        raise ImageError(f"There is no '{board.name}' with such a flash, {error}: mend its file.") from None
    place = app_partition(table)
    if len(programs.app) > place.size:
        raise ImageError(
            f"MicroPython takes {len(programs.app)} bytes, but partition '{place.name}' of '{board.name}' "
            f"has {place.size}: use the board's own image, or make that partition larger."
        )
    flash = bytearray(_BLANK * board.flash_size)

    def put(offset: int, data: bytes) -> None:
        flash[offset : offset + len(data)] = data

    put(board.features.bootloader_offset, bootloader)
    put(partitions.TABLE_OFFSET, partitions.encode(table))
    put(place.offset, programs.app)
    if identity is not None:
        slot = partitions.find(table, "identity")
        if len(identity) > slot.size:
            raise ImageError(f"The identity has {len(identity)} bytes, but its partition only {slot.size}.")
        put(slot.offset, identity)
    vfs = partitions.find(table, "vfs")
    put(vfs.offset, filesystem(files, vfs.size))
    return bytes(flash)


def regions(board: Board, flash: bytes) -> tuple[Region, ...]:
    """What flashing writes of a whole flash image: bootloader, partition table, program, filesystem.

    The program ends with its last sector, the filesystem is written whole, and the identity only where the
    image has one. What a node keeps for itself (nvs, phy_init, spool) is never written. `flash` is an image
    that `board` starts: `host_tools.flashing.source` checks that.
    """
    table = board.partition_table()
    start = board.features.bootloader_offset
    app = app_partition(table)
    size = esp.parse(flash[app.offset : app.end]).size

    def region(name: str, offset: int, end: int) -> Region:
        return Region(name, offset, flash[offset:end])

    def found() -> Iterator[Region]:
        yield region("bootloader", start, partitions.TABLE_OFFSET)
        yield region("partition table", partitions.TABLE_OFFSET, partitions.TABLE_OFFSET + partitions.SECTOR)
        yield region(app.name, app.offset, app.offset + -(-size // partitions.SECTOR) * partitions.SECTOR)
        for each in table:
            data = flash[each.offset : each.end]
            if each.name == "vfs" or (each.name == "identity" and data.count(_BLANK) < len(data)):
                yield Region(each.name, each.offset, data)

    return tuple(found())


def _programs(board: Board, micropython: bytes | None, stand_in: bool) -> Programs:
    chip = board.features.esptool_name
    if micropython is not None:
        return split(micropython, "The image of MicroPython", chip, board.features.bootloader_offset)
    if board.micropython is not None and not stand_in:
        raise ImageError(
            f"The board '{board.name}' runs {board.micropython.name}, and no image of MicroPython was given."
        )
    return Programs(stand_ins.bootloader(chip, board.flash_size), stand_ins.app(chip, board.flash_size))
