"""A whole spool partition: its sectors put in order, its readings dated, its gaps found (docs/formats.md)."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from host_tools.spool.dating import UNTOLD, Channel, Reading, Stretch, TimeKnown, date
from host_tools.spool.format import (
    HEADER_SIZE,
    SECTOR_SIZE,
    SLOT_SIZE,
    Kind,
    Record,
    Sector,
    State,
    check_size,
    owner_of,
    read_sector,
    walk,
)

_LOST_SECTOR = 256  # a sector uses fewer numbers than that


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers `first` to `last` without a reading: "full", dropped to make room, or "damaged"."""

    first: int
    last: int
    why: str


@dataclass(frozen=True, slots=True)
class Spool:
    """A decoded partition. All numbers are those that the node would find after a reset.

    `epoch` is None where nothing was written by the owner. `items` holds every reading and gap in the order
    of their numbers, acknowledged ones included, from `first` or from `cursor`, whichever is the smaller.
    """

    sectors: tuple[Sector, ...]
    epoch: int | None
    owner: int | None
    boot: int
    cursor: int
    first: int
    next: int
    proof: int
    damaged: int
    """Slots that hold no valid record."""
    items: tuple[Reading | Gap, ...]

    @property
    def readings(self) -> tuple[Reading, ...]:
        return tuple(item for item in self.items if isinstance(item, Reading))

    @property
    def gaps(self) -> tuple[Gap, ...]:
        return tuple(item for item in self.items if isinstance(item, Gap))

    def count(self, state: State) -> int:
        """How many sectors are in this state."""
        return sum(sector.state is state for sector in self.sectors)

    @property
    def capacity(self) -> int:
        """About how many readings fit: one sector is always free, or on its way there."""
        live = [sector for sector in self.sectors if sector.state is State.LIVE]
        table_end = live[-1].table_end if live else HEADER_SIZE + SLOT_SIZE
        return (len(self.sectors) - 1) * ((SECTOR_SIZE - table_end) // SLOT_SIZE - 1)

    @property
    def wear(self) -> tuple[int, int] | None:
        """The fewest and the most erases of a sector (none for a blank one); None when no header tells."""
        told = (
            0 if each.erases is None and each.state is State.BLANK else each.erases for each in self.sectors
        )
        counts = [count for count in told if count is not None]
        return (min(counts), max(counts)) if counts else None


def decode(partition: bytes, node_id: str | None = None) -> Spool:
    """Read a whole partition.

    Without `node_id` the owner is the one that most sectors name. Raises SpoolFormatError when the size is no
    spool's; whatever the bytes are, it raises nothing else.
    """
    check_size(len(partition))
    found = [
        read_sector(index, partition[start : start + SECTOR_SIZE])
        for index, start in enumerate(range(0, len(partition), SECTOR_SIZE))
    ]
    owner = owner_of(node_id) if node_id is not None else _likely_owner(found)
    epoch = _epoch(found, owner)
    live = _ring(
        each for each in found if each.opening and (each.opening.owner, each.opening.epoch) == (owner, epoch)
    )
    sectors = tuple(_as_free(each) if each.opening and each not in live else each for each in found)
    ring = _Ring(live, _lost_behind(live[-1], sectors) if live else 0)
    items, proof = ring.items()
    return Spool(
        sectors, epoch, owner, ring.boot, ring.cursor, ring.first, ring.next, proof, ring.damaged, items
    )


def _likely_owner(sectors: Iterable[Sector]) -> int | None:
    counts: dict[int, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for sector in sectors:
        if sector.opening:
            many, proof = counts[sector.opening.owner]
            counts[sector.opening.owner] = (many + 1, max(proof, sector.opening.proof))
    return max(counts, key=lambda owner: counts[owner], default=None)


def _epoch(sectors: Iterable[Sector], owner: int | None) -> int | None:
    ours = [each.opening for each in sectors if each.opening and each.opening.owner == owner]
    newest = max(ours, key=lambda opening: (opening.boot, opening.base_seq), default=None)
    return newest.epoch if newest else None


def _ring(sectors: Iterable[Sector]) -> list[Sector]:
    """One sector a base, the oldest first.

    Of two with the same base one has no readings, or is a copy: the one that reaches farther counts.
    """
    best: dict[int, tuple[tuple[int, int, bool], Sector]] = {}
    for sector in sectors:
        base = sector.opened.base_seq
        walked = walk(sector)
        boots = [each.number() for each in walked.records if each.kind is Kind.BOOT]
        reach = (walked.next, boots[-1] if boots else sector.opened.boot, not sector.is_closed)
        if base not in best or reach > best[base][0]:
            best[base] = (reach, sector)
    return [best[base][1] for base in sorted(best)]


def _as_free(sector: Sector) -> Sector:
    return replace(sector, state=State.FREE)


def _lost_behind(newest: Sector, sectors: tuple[Sector, ...]) -> int:
    """How many sectors may have come behind the newest, and are lost."""
    if not newest.is_closed:
        return 0
    lost = 0
    is_ready = False
    for sector in sectors[newest.index + 1 :] + sectors[: newest.index]:
        if sector.state in (State.DAMAGED, State.FREE):
            lost += 1
        elif sector.state is not State.LIVE:
            is_ready = is_ready or sector.erases is not None
            lost += not is_ready
    return lost


class _Ring:
    """The live sectors from the oldest to the newest, walked once."""

    def __init__(self, live: Sequence[Sector], lost_sectors: int) -> None:
        self._stretches: list[Stretch] = []
        self._gaps: list[Gap] = []
        self.damaged = 0
        self.cursor = 0
        self.boot = 0
        self.first = self.next = live[0].opened.base_seq if live else 0
        tables = {each.opened.table_crc: table for each in live if (table := each.channels())}
        limits = [each.opened.base_seq for each in live[1:]]
        for sector, limit in zip_longest(live, limits):
            opening = sector.opened
            self._reach(opening.base_seq)
            self.cursor = max(self.cursor, opening.cursor)
            self._begin(opening.boot)
            self._stretches[-1].entries.append(TimeKnown(opening.offset_ms, opening.trust, opening.proof))
            walked = walk(sector)
            self.damaged += walked.damaged
            doubts = 0
            for record in walked.records:
                if limit is not None and record.kind is Kind.READING and record.seq >= limit:
                    break  # the sector behind has it
                self._reach(record.seq)
                if record.doubts:  # one of them may have been the record that began a boot
                    doubts += record.doubts
                    self._begin(None)
                self._take(record, tables.get(opening.table_crc))
            if limit is None:  # what is lost here may have been a reading that was delivered, or a boot
                self._reach(self.next + walked.bad + lost_sectors * _LOST_SECTOR)
                self.boot += doubts
        self.cursor = min(self.cursor, self.next)  # what was acknowledged may be gone altogether

    def items(self) -> tuple[tuple[Reading | Gap, ...], int]:
        """All readings and gaps in the order of their numbers, and the newest time proved."""
        dated, proof = date(self._stretches)
        gaps = self._gaps
        if self.cursor < self.first:
            gaps = [Gap(self.cursor, self.first - 1, "full"), *gaps]
        items: list[Reading | Gap] = [*dated, *gaps]
        items.sort(key=lambda item: item.first if isinstance(item, Gap) else item.seq)
        return tuple(items), proof

    def _begin(self, boot: int | None) -> None:
        known = self._stretches[-1].known if self._stretches else 0
        if boot is None or not self._stretches or boot != self._stretches[-1].boot:
            self._stretches.append(Stretch(boot, known if boot is None else boot))
        self.boot = max(self.boot, boot or 0)

    def _reach(self, seq: int) -> None:
        """All numbers below `seq` are used; those that no reading has had are missing."""
        if seq <= self.next:
            return
        first = self._gaps.pop().first if self._gaps and self._gaps[-1].last == self.next - 1 else self.next
        self._gaps.append(Gap(first, seq - 1, "damaged"))
        self.next = seq

    def _take(self, record: Record, table: Sequence[Channel] | None) -> None:
        stretch = self._stretches[-1]
        if record.kind is Kind.BOOT:
            self._begin(record.number())
        elif record.kind is Kind.TIME:
            stretch.entries.append(TimeKnown(*record.time()))
        elif record.kind is Kind.ACK:
            self.cursor = max(self.cursor, record.number())
        elif record.kind is Kind.READING:
            uptime_ms, index, value = record.reading()
            channel = UNTOLD
            if table is None or index >= len(table):
                self.damaged += 1
                self._reach(record.seq + 1)
            else:
                channel = table[index]
                self.next = record.seq + 1
            stretch.entries.append(
                Reading(record.seq, stretch.boot, uptime_ms, channel, record.reason, value)
            )
