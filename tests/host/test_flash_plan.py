"""What of an image is written to a chip: only what differs, and in which order."""

from itertools import pairwise

from host_tools.flashing.job import Job, bauds_from
from host_tools.flashing.plan import PIECE, TABLE, Span, pieces, plan

BOOTLOADER = Span(0x1000, 0x5000)
APP = Span(0x10000, 0x25000)
VFS = Span(0x284000, 0x17C000)
ALL = list(pieces([BOOTLOADER, TABLE, APP, VFS]))


def test_pieces_are_blocks_of_the_flash_and_cover_each_region_once() -> None:
    assert [tuple(piece) for piece in pieces([APP])] == [
        (0x10000, 0x10000),
        (0x20000, 0x10000),
        (0x30000, 0x5000),
    ]
    assert next(pieces([VFS])) == Span(0x284000, 0xC000)  # up to the next block
    for region in (BOOTLOADER, TABLE, APP, VFS):
        inside = list(pieces([region]))
        assert inside[0].offset == region.offset
        assert inside[-1].end == region.end
        assert all(one.end == other.offset for one, other in pairwise(inside))
        assert all(piece.offset // PIECE == (piece.end - 1) // PIECE for piece in inside)


def differing(*changed: Span) -> dict[Span, str]:
    return {piece: "other" if piece in changed else "same" for piece in ALL}


WANTED = dict.fromkeys(ALL, "same")
TOTAL = sum(piece.size for piece in ALL)


def test_nothing_differs() -> None:
    todo = plan(WANTED, WANTED)
    assert (todo.needed, todo.runs, todo.table, todo.size, todo.same) == (False, (), False, 0, TOTAL)


def test_the_table_is_written_whenever_something_is() -> None:
    first, second, third = pieces([APP])
    todo = plan(WANTED, differing(first, second))
    assert (todo.needed, todo.table) == (True, False)
    assert todo.runs == (Span(0x10000, 0x20000),)  # neighbours are one
    assert todo.size == 0x20000 + TABLE.size
    assert todo.same == TOTAL - todo.size
    assert plan(WANTED, differing(first, third)).runs == (first, third)


def test_the_table_alone_and_everything() -> None:
    todo = plan(WANTED, differing(TABLE))
    assert (todo.runs, todo.table, todo.size) == ((), True, TABLE.size)
    todo = plan(WANTED, differing(*ALL))
    assert todo.runs == (BOOTLOADER, APP, VFS)
    assert (todo.size, todo.same) == (TOTAL, 0)


def test_speeds_begin_with_the_one_asked_for() -> None:
    assert bauds_from(921600) == (921600, 460800, 115200)
    assert bauds_from(2000000) == (2000000, 921600, 460800, 115200)
    assert bauds_from(115200) == (115200,)
    assert bauds_from(57600) == (57600,)


def test_a_job_survives_its_line() -> None:
    job = Job("/dev/x", "uart", (921600, 115200), 7, (BOOTLOADER, TABLE), False, True, r"\blimpet \d")
    assert Job.load(job.dump()) == job
