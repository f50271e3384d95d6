"""The spool partition of a node, byte for byte as docs/formats.md describes it. Nothing here does I/O."""

import struct
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from host_tools.errors import LimpetError
from host_tools.spool.dating import UNTOLD, Channel, Reading, Stretch, TimeKnown, date

PARTITION_NAME = "spool"
SECTOR_SIZE = 4096
FEWEST_SECTORS = 3
HEADER_SIZE = 112
"""Bytes of a sector before its channel table: part A, part B and its copy."""

MAGIC = b"LPSP"
"""What every sector begins with from its first erase on."""

_SLOT = 16
_BLANK_SLOT = b"\xff" * _SLOT
_VERSION = 1
# magic, version, zeros, erase count, CRC-32
_PART_A = struct.Struct("<4sB3xII")
# epoch, owner, base seq, boot, proof, offset, trust, 0, cursor, table's length, 0, table's CRC, 0, CRC-32
_PART_B = struct.Struct("<IIIII6sBxIHxxIxxxxI")
_PARTS_B = (16, 64)
_BLANK_PART_B = b"\xff" * _PART_B.size
_LONGEST_TABLE = 2048
# kind, low byte of the sequence number, body, CRC-32
_RECORD = struct.Struct("<BB10sI")
_READING = struct.Struct("<IHi")
_LAST_REASON = 31
_BOOT, _TIME, _ACK = 0x80, 0x81, 0x82
_LOST_SECTOR = 256  # a sector uses fewer numbers than that
_MOST_DECIMALS = 9


class SpoolFormatError(LimpetError):
    """These bytes cannot be a spool partition."""


class State(StrEnum):
    """What a sector is to the ring."""

    BLANK = "blank"
    PREPARED = "prepared"
    LIVE = "live"
    FREE = "free"
    """Another node's, or of an epoch that is over."""
    DAMAGED = "damaged"
    """It was open, but its header does not say for what."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers `first` to `last` without a reading: "full", dropped to make room, or "damaged"."""

    first: int
    last: int
    why: str


@dataclass(frozen=True, slots=True)
class Opening:
    """Part B of a sector's header: how matters stood when the node opened it."""

    epoch: int
    owner: int
    base_seq: int
    boot: int
    proof: int
    offset_ms: int
    trust: int
    cursor: int
    table_len: int
    table_crc: int
    crc: int


@dataclass(frozen=True, slots=True)
class Sector:
    """One sector, by its place in the partition. `erases` is None where the header does not tell."""

    index: int
    state: State
    erases: int | None
    opening: Opening | None
    data: bytes

    @property
    def table_end(self) -> int:
        """Where the slots begin."""
        assert self.opening is not None
        return HEADER_SIZE + -(-self.opening.table_len // _SLOT) * _SLOT

    def channels(self) -> tuple[Channel, ...] | None:
        """The sector's channel table, or None when it is damaged."""
        assert self.opening is not None
        text = self.data[HEADER_SIZE : HEADER_SIZE + self.opening.table_len]
        if zlib.crc32(text) != self.opening.table_crc:
            return None
        try:
            rows = [line.rsplit(",", 2) for line in text.decode().splitlines()]
            table = tuple(Channel(name, unit, int(decimals)) for name, unit, decimals in rows)
        except ValueError:
            return None
        return table if all(0 <= channel.decimals <= _MOST_DECIMALS for channel in table) else None


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
        table_end = live[-1].table_end if live else HEADER_SIZE + _SLOT
        return (len(self.sectors) - 1) * ((SECTOR_SIZE - table_end) // _SLOT - 1)

    @property
    def wear(self) -> tuple[int, int] | None:
        """The fewest and the most erases of a sector (none for a blank one); None when no header tells."""
        told = (
            0 if each.erases is None and each.state is State.BLANK else each.erases for each in self.sectors
        )
        counts = [count for count in told if count is not None]
        return (min(counts), max(counts)) if counts else None


def owner_of(node_id: str) -> int:
    """The number by which a spool knows its node."""
    return zlib.crc32(node_id.encode())


def decode(partition: bytes, node_id: str | None = None) -> Spool:
    """Read a whole partition.

    Without `node_id` the owner is the one that most sectors name. Raises SpoolFormatError when the size is no
    spool's; whatever the bytes are, it raises nothing else.
    """
    check_size(len(partition))
    found = [
        _sector(index, partition[start : start + SECTOR_SIZE])
        for index, start in enumerate(range(0, len(partition), SECTOR_SIZE))
    ]
    owner = owner_of(node_id) if node_id is not None else _likely_owner(found)
    epoch = _epoch(found, owner)
    sectors = tuple(_freed(sector, owner, epoch) for sector in found)
    live = sorted((sector for sector in sectors if sector.state is State.LIVE), key=_age)
    ring = _Ring(live, _lost_behind(live[-1], sectors) if live else 0)
    items, proof = ring.items()
    return Spool(
        sectors, epoch, owner, ring.boot, ring.cursor, ring.first, ring.next, proof, ring.damaged, items
    )


def check_size(size: int) -> None:
    """Raise SpoolFormatError for a size that no spool partition has."""
    if size % SECTOR_SIZE:
        raise SpoolFormatError(
            f"A spool has whole sectors of {SECTOR_SIZE} bytes, and this one has {size} bytes: read it again "
            "in full."
        )
    if size < FEWEST_SECTORS * SECTOR_SIZE:
        raise SpoolFormatError(
            f"A spool has {FEWEST_SECTORS} sectors or more, and this one has {size // SECTOR_SIZE}: "
            "read it again in full."
        )


def read_header(data: bytes) -> tuple[int | None, Opening | None]:
    """The erase count and the opening that the first HEADER_SIZE bytes of a sector hold, None for damage."""
    magic, version, erases, crc = _PART_A.unpack_from(data)
    a_is_good = (magic, version) == (MAGIC, _VERSION) and zlib.crc32(data[: _PART_A.size - 4]) == crc
    opening = next(filter(None, (_opening(data[at : at + _PART_B.size]) for at in _PARTS_B)), None)
    return (erases if a_is_good else None), opening


def _sector(index: int, data: bytes) -> Sector:
    erases, opening = read_header(data)
    first, copy = (data[at : at + _PART_B.size] for at in _PARTS_B)
    if opening is not None:
        state = State.LIVE
    elif copy != _BLANK_PART_B:  # it comes before any record
        state = State.DAMAGED
    elif erases is not None and first == _BLANK_PART_B:
        state = State.PREPARED
    else:
        state = State.BLANK
    return Sector(index, state, erases, opening, data)


def _opening(part: bytes) -> Opening | None:
    epoch, owner, base_seq, boot, proof, offset, trust, cursor, length, table_crc, crc = _PART_B.unpack(part)
    if zlib.crc32(part[: _PART_B.size - 4]) != crc or length > _LONGEST_TABLE:
        return None
    return Opening(
        epoch, owner, base_seq, boot, proof, _signed(offset), trust, cursor, length, table_crc, crc
    )


def _signed(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


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


def _freed(sector: Sector, owner: int | None, epoch: int | None) -> Sector:
    opening = sector.opening
    if opening is None or (opening.owner, opening.epoch) == (owner, epoch):
        return sector
    return Sector(sector.index, State.FREE, sector.erases, opening, sector.data)


def _age(sector: Sector) -> tuple[int, int, bool]:
    # A sector without readings shares its first number with the one behind it.
    assert sector.opening is not None
    return sector.opening.base_seq, sector.opening.boot, not _is_closed(sector)


def _is_closed(sector: Sector) -> bool:
    return sector.data[-_SLOT:] != _BLANK_SLOT


def _lost_behind(newest: Sector, sectors: tuple[Sector, ...]) -> int:
    """How many sectors may have come behind the newest, and are lost."""
    if not _is_closed(newest):
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


def _record(slot: bytes, seed: int) -> tuple[int, int, bytes] | None:
    kind, seq_low, body, crc = _RECORD.unpack(slot)
    return (kind, seq_low, body) if zlib.crc32(slot[: _SLOT - 4], seed) == crc else None


class _Ring:
    """The live sectors from the oldest to the newest, walked once."""

    def __init__(self, live: Sequence[Sector], lost_sectors: int) -> None:
        self._stretches: list[Stretch] = []
        self._gaps: list[Gap] = []
        self.damaged = 0
        self.cursor = 0
        self.boot = 0
        self.first = self.next = live[0].opening.base_seq if live and live[0].opening else 0
        tables = {
            each.opening.table_crc: table for each in live if each.opening and (table := each.channels())
        }
        for sector in live:
            opening = sector.opening
            assert opening is not None
            self._reach(opening.base_seq)
            self.cursor = max(self.cursor, opening.cursor)
            self._begin(opening.boot)
            self._stretches[-1].entries.append(TimeKnown(opening.offset_ms, opening.trust, opening.proof))
            bad, doubts = self._walk(sector, opening, tables.get(opening.table_crc))
            if sector is live[-1]:  # what is lost here may have been a reading that was delivered, or a boot
                self._reach(self.next + bad + lost_sectors * _LOST_SECTOR)
                self.boot += doubts

    def items(self) -> tuple[tuple[Reading | Gap, ...], int]:
        """All readings and gaps in the order of their numbers, and the newest time proved."""
        dated, proof = date(self._stretches)
        gaps = self._gaps
        if self.cursor < self.first:
            gaps = [Gap(self.cursor, self.first - 1, "full"), *gaps]
        items: list[Reading | Gap] = [*dated, *gaps]
        items.sort(key=lambda item: item.first if isinstance(item, Gap) else item.seq)
        return tuple(items), proof

    def _walk(self, sector: Sector, opening: Opening, table: Sequence[Channel] | None) -> tuple[int, int]:
        """Take the records of a sector.

        Returns how many damaged slots stand behind the last one, and how many before it held no reading.
        """
        seq = opening.base_seq
        bad = doubts = 0
        for at in range(sector.table_end, SECTOR_SIZE, _SLOT):
            slot = sector.data[at : at + _SLOT]
            if slot == _BLANK_SLOT:
                continue
            record = _record(slot, opening.crc)
            if record is None:
                if at < SECTOR_SIZE - _SLOT:  # the last slot never holds a reading
                    self.damaged += 1
                    bad += 1
                continue
            kind, seq_low, body = record
            missing = seq_low - seq & 0xFF
            seq += missing
            self._reach(seq)
            if bad > missing:  # one of the slots held no reading: perhaps the record that began a boot
                doubts += bad - missing
                self._begin(None)
            bad = 0
            if kind <= _LAST_REASON:
                self._take(seq, kind, body, table)
                seq += 1
            elif kind == _BOOT:
                self._begin(int.from_bytes(body[:4], "little"))
            elif kind == _TIME:
                self._stretches[-1].entries.append(TimeKnown(_signed(body[:6]), body[6]))
            elif kind == _ACK:
                self.cursor = max(self.cursor, int.from_bytes(body[:4], "little"))
        return bad, doubts

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

    def _take(self, seq: int, reason: int, body: bytes, table: Sequence[Channel] | None) -> None:
        uptime_s, packed, value = _READING.unpack(body)
        index = packed & 0x3F
        uptime_ms = uptime_s * 1000 + (packed >> 6)
        if seq < self.next or table is None or index >= len(table):
            self.damaged += 1  # it came already, or nobody can say what it is a reading of
            self._reach(seq + 1)
            channel = UNTOLD
        else:
            channel = table[index]
            self.next = seq + 1
        stretch = self._stretches[-1]
        stretch.entries.append(Reading(seq, stretch.boot, uptime_ms, channel, reason, value))
