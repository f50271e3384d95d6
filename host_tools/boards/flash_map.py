"""What lies where in a board's flash, and a drawing of it to scale. Pure functions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from host_tools import partitions
from host_tools.boards.model import Board, type_name

KIB = 1024

Marks = tuple[str, str, str]
"""What is drawn for an area, for one of less than half a column, and for a gap: a character each."""

_HEAD = ("from", "size", "", "")
_LEAST_ROOM = 16


@dataclass(frozen=True)
class Area:
    """A piece of flash. `kind` is a partition's type and subtype, or empty."""

    name: str
    kind: str
    offset: int
    size: int
    used: bool = True

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.offset + self.size


def areas(board: Board) -> tuple[Area, ...]:
    """The whole flash from first byte to last: bootloader, table, partitions, and the gaps between."""
    start = board.features.bootloader_offset
    known = (
        Area("bootloader", "", start, partitions.TABLE_OFFSET - start),
        Area("partition table", "", partitions.TABLE_OFFSET, partitions.SECTOR),
        *(Area(each.name, type_name(each), each.offset, each.size) for each in board.partition_table()),
    )
    return tuple(_with_gaps(sorted(known, key=lambda area: area.offset), board.flash_size))


def _with_gaps(known: Sequence[Area], flash_size: int) -> Iterator[Area]:
    at = 0
    for area in (*known, Area("", "", flash_size, 0)):
        if area.offset > at:
            yield Area("unused", "", at, area.offset - at, used=False)
        if area.size:
            yield area
        at = area.end


def drawing(board: Board, width: int, marks: Marks) -> list[str]:
    """A line for each area, up to `width` columns wide: offset, size, name, kind, and its place to scale."""
    table = [_cells(area) for area in areas(board)]
    columns = [max(map(len, column)) for column in zip(_HEAD, *table, strict=True)]
    rows = [_row(cells, columns) for cells in (_HEAD, *table)]
    room = max(width - len(rows[0]) - 2, _LEAST_ROOM)
    scale = _scale(board.flash_size, room)
    drawn = [_bar(area, board.flash_size, room, marks) for area in areas(board)]
    return [f"{row}  {bar}".rstrip() for row, bar in zip(rows, (scale, *drawn), strict=True)]


def _cells(area: Area) -> tuple[str, str, str, str]:
    return (f"{area.offset // KIB}", f"{area.size // KIB}", area.name, area.kind)


def _row(cells: Sequence[str], columns: Sequence[int]) -> str:
    offset, size, name, kind = cells
    return f"{offset:>{columns[0]}} {size:>{columns[1]}}  {name:<{columns[2]}}  {kind:<{columns[3]}}"


def _scale(flash_size: int, room: int) -> str:
    end = f"{flash_size // KIB}"
    return f"0{end:>{room - 1}}"


def _bar(area: Area, flash_size: int, room: int, marks: Marks) -> str:
    full, small, gap = marks
    if 2 * area.size * room < flash_size:
        return " " * (area.offset * room // flash_size) + small
    first, last = (round(byte * room / flash_size) for byte in (area.offset, area.end))
    return " " * first + (full if area.used else gap) * (last - first)
