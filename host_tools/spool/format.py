"""The sectors of a spool, byte for byte as docs/formats.md describes them. Nothing here does I/O."""

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from host_tools.errors import LimpetError
from host_tools.spool.dating import Channel

PARTITION_NAME = "spool"
SECTOR_SIZE = 4096
FEWEST_SECTORS = 3
HEADER_SIZE = 112
"""Bytes of a sector before its channel table: part A, part B and its copy."""

MAGIC = b"LPSP"
"""What every sector begins with from its first erase on."""

SLOT_SIZE = 16
_LAST_SLOT = SECTOR_SIZE - SLOT_SIZE
_BLANK_SLOT = b"\xff" * SLOT_SIZE
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
_READINGS = 32  # kinds below are readings
_MOST_DECIMALS = 9


class SpoolFormatError(LimpetError):
    """These bytes cannot be a spool partition."""


class State(StrEnum):
    """What a sector is to the ring."""

    BLANK = "blank"
    PREPARED = "prepared"
    LIVE = "live"
    FREE = "free"
    """Another node's, of an epoch that is over, or a copy: nothing in it counts."""
    DAMAGED = "damaged"
    """It was open, but its header does not say for what."""


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


class Kind(IntEnum):
    """What a record is. A reading's kind is its reason; 0 stands for all of them here."""

    READING = 0
    BOOT = 0x80
    TIME = 0x81
    ACK = 0x82
    OTHER = 0xFF
    """One that later versions may write."""


@dataclass(frozen=True, slots=True)
class Record:
    """A valid record. `seq` is a reading's own number, else the next one's.

    `doubts`: slots right before it that hold nothing, though no number is missing for them.
    """

    kind: Kind
    reason: int
    seq: int
    body: bytes
    doubts: int

    def reading(self) -> tuple[int, int, int]:
        """Uptime in ms, index of the channel, value."""
        uptime_s, packed, value = _READING.unpack(self.body)
        return uptime_s * 1000 + (packed >> 6), packed & 0x3F, value

    def number(self) -> int:
        """A boot, or a cursor."""
        return int.from_bytes(self.body[:4], "little")

    def time(self) -> tuple[int, int]:
        """Offset in ms, trust."""
        return _signed(self.body[:6]), self.body[6]


@dataclass(frozen=True, slots=True)
class Walked:
    """What is at the end of a sector's records.

    `next`: the number that comes then. `bad`: damaged slots behind the last record. `damaged`: all of them.
    """

    records: tuple[Record, ...]
    next: int
    bad: int
    damaged: int


@dataclass(frozen=True, slots=True)
class Sector:
    """One sector, by its place in the partition. `erases` is None where the header does not tell."""

    index: int
    state: State
    erases: int | None
    opening: Opening | None
    data: bytes

    @property
    def opened(self) -> Opening:
        """`opening`, of a sector that has one."""
        assert self.opening is not None
        return self.opening

    @property
    def is_closed(self) -> bool:
        """No record can follow: the last slot is used."""
        return self.data[-SLOT_SIZE:] != _BLANK_SLOT

    @property
    def table_end(self) -> int:
        """Where the slots begin."""
        return HEADER_SIZE + -(-self.opened.table_len // SLOT_SIZE) * SLOT_SIZE

    def channels(self) -> tuple[Channel, ...] | None:
        """The sector's channel table, or None when it is damaged."""
        text = self.data[HEADER_SIZE : HEADER_SIZE + self.opened.table_len]
        if zlib.crc32(text) != self.opened.table_crc:
            return None
        try:
            rows = [line.rsplit(",", 2) for line in text.decode().splitlines()]
            table = tuple(Channel(name, unit, int(decimals)) for name, unit, decimals in rows)
        except ValueError:
            return None
        return table if all(0 <= channel.decimals <= _MOST_DECIMALS for channel in table) else None


def owner_of(node_id: str) -> int:
    """The number by which a spool knows its node."""
    return zlib.crc32(node_id.encode())


def read_sector(index: int, data: bytes) -> Sector:
    """The sector with these SECTOR_SIZE bytes. Whose it is has yet to be seen: it is never free here."""
    erases, opening = _header(data)
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


def walk(sector: Sector) -> Walked:
    """The records of a sector that is open."""
    records = []
    seq = sector.opened.base_seq
    bad = blank = damaged = 0
    for at in range(sector.table_end, SECTOR_SIZE, SLOT_SIZE):
        slot = sector.data[at : at + SLOT_SIZE]
        kind, seq_low, body, crc = _RECORD.unpack(slot)
        if zlib.crc32(slot[: SLOT_SIZE - 4], sector.opened.crc) != crc:
            if slot == _BLANK_SLOT:
                blank += 1
            elif at < _LAST_SLOT:  # which never holds a reading
                bad += 1
                damaged += 1
            continue
        missing = seq_low - seq & 0xFF
        seq += missing
        # A sector may be closed before it is full.
        doubts = max(0, bad + blank - missing) if at < _LAST_SLOT else 0
        is_reading = kind < _READINGS
        what = Kind.READING if is_reading else Kind(kind) if kind in _KINDS else Kind.OTHER
        records.append(Record(what, kind if is_reading else 0, seq, body, doubts))
        seq += is_reading
        bad = blank = 0
    return Walked(tuple(records), seq, bad, damaged)


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


def _header(data: bytes) -> tuple[int | None, Opening | None]:
    magic, version, erases, crc = _PART_A.unpack_from(data)
    a_is_good = (magic, version) == (MAGIC, _VERSION) and zlib.crc32(data[: _PART_A.size - 4]) == crc
    opening = next(filter(None, (_opening(data[at : at + _PART_B.size]) for at in _PARTS_B)), None)
    return (erases if a_is_good else None), opening


def _opening(part: bytes) -> Opening | None:
    epoch, owner, base_seq, boot, proof, offset, trust, cursor, length, table_crc, crc = _PART_B.unpack(part)
    if zlib.crc32(part[: _PART_B.size - 4]) != crc or length > _LONGEST_TABLE:
        return None
    return Opening(
        epoch, owner, base_seq, boot, proof, _signed(offset), trust, cursor, length, table_crc, crc
    )


_KINDS = frozenset(Kind)


def _signed(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)
