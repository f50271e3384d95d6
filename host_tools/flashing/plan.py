"""What of an image has to be written to a chip. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from host_tools import partitions

PIECE = 0x10000
"""Bytes that are compared at a time: a flash chip's block, which it erases quicker than 16 sectors."""


class Span(NamedTuple):
    """A part of the flash."""

    offset: int
    size: int

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.offset + self.size


TABLE = Span(partitions.TABLE_OFFSET, partitions.SECTOR)
"""The partition table's sector. Without it nothing starts, so it is the first to go and the last to come."""


@dataclass(frozen=True)
class Plan:
    """What differs. When anything does: the table is erased, `runs` are written, and then the table."""

    runs: tuple[Span, ...]
    """All that differs but the table, in order; neighbours are one."""
    table: bool
    """The table differs."""
    same: int
    """Bytes that are there already."""

    @property
    def needed(self) -> bool:
        """Anything has to be written."""
        return bool(self.runs) or self.table

    @property
    def size(self) -> int:
        """Bytes to be written; the table is written whenever something is."""
        return sum(run.size for run in self.runs) + (TABLE.size if self.needed else 0)


def pieces(regions: Sequence[Span]) -> Iterator[Span]:
    """The regions, cut where a 64 KiB block begins."""
    for region in regions:
        start = region.offset
        while start < region.end:
            end = min(start // PIECE * PIECE + PIECE, region.end)
            yield Span(start, end - start)
            start = end


def plan(wanted: Mapping[Span, str], present: Mapping[Span, str]) -> Plan:
    """Compare the hashes of all pieces with those on the chip."""
    differ = [piece for piece, digest in wanted.items() if present[piece] != digest]
    same = sum(piece.size for piece in wanted if piece not in differ and (piece != TABLE or not differ))
    return Plan(tuple(_joined(piece for piece in differ if piece != TABLE)), TABLE in differ, same)


def _joined(spans: Iterator[Span]) -> Iterator[Span]:
    run: Span | None = None
    for span in sorted(spans):
        if run and run.end == span.offset:
            run = Span(run.offset, run.size + span.size)
        else:
            if run:
                yield run
            run = span
    if run:
        yield run
