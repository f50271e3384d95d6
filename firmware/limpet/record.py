"""A sector of the spool as it stands in flash (docs/formats.md): its header, and a walk along its slots."""

import struct
from binascii import crc32

from micropython import const

# What load() finds.
BLANK = const(0)  # no reading was ever in it; to be erased, though
READY = const(1)  # erased for certain, and not opened yet
LIVE = const(2)
DAMAGED = const(3)

# What step() finds: one of these, or the reason of a reading (below 32).
BOOT = const(0x80)
TIME = const(0x81)
ACK = const(0x82)
BAD = const(0x100)
NOTHING = const(0x101)

# In place of a base: of a sector without readings, and of one that has failed in this boot.
FREE = const(0xFFFFFFFF)
FAILED = const(0xFFFFFFFE)

MAGIC = b"LPSP"
VERSION = const(1)
FIRST = const(112)  # where the channel table begins
RECORD = const("<BBIHiI")  # kind, low byte of the number; three fields of body; CRC
PART_A = const("<4sIII")  # magic, version, erases, CRC
# epoch, owner, base, boot, proof; offset (i48), trust; cursor; length and CRC of the table; CRC
PART_B = const("<5IIhHIIIII")

_READINGS = const(32)  # kinds below are readings
_SLOT = const(16)
_SLOTS = const(256)
_LAST = const(255)
_COPY = const(64)
_TABLE_MAX = const(2048)
_SYNCED = const(2)
_TRIES = const(3)
_BLANK = b"\xff" * 48
_BLANK_SLOT = b"\xff" * 16


class SpoolError(Exception):
    """The partition cannot be used as a spool; the text says why."""


def read(device, place, buf, at):
    """Read from a sector. A flash that fails once may work the next time; raises OSError when it does not."""
    for _ in range(_TRIES - 1):
        try:
            return device.readblocks(place, buf, at)
        except OSError:
            pass
    return device.readblocks(place, buf, at)


class Walk:
    """Goes along the slots of a sector, and knows at each what gives its readings their meaning.

    `seq`: the number that comes next. `boot`: the boot of the readings here; below 0 where a slot is damaged
    that may have begun another one than `known`, the last boot seen. `offset`, `trust`: its time, as told
    until here. `floor`: unix s before which it cannot have begun. `proof`, `cursor`: the newest ones so far.
    `bad`: damaged slots since the last record. `top`: the slot behind the last that is not blank.
    """

    def __init__(self, device):
        self._device = device
        self._head = bytearray(64)
        self._b = memoryview(self._head)[16:]
        self._sealed = self._b[:44]
        self._rec = bytearray(_SLOT)
        self._body = memoryview(self._rec)[:12]
        self.place = -1

    def load(self, place):
        """Stand before the first slot of a sector; what the sector is. Raises OSError."""
        head = self._head
        self.place = -1
        read(self._device, place, head, 0)
        magic, version, self.erases, crc = struct.unpack_from(PART_A, head)
        self.stamped = (magic, version, crc) == (MAGIC, VERSION, crc32(memoryview(head)[:12]))
        if not self.stamped:
            self.erases = 0
        blank = self._b == _BLANK
        if blank and head[:16] == _BLANK_SLOT:
            return BLANK
        if not self._open():
            read(self._device, place, self._b, _COPY)
            if not self._open():
                # Readings come after part B, that after its copy, that after the table.
                if self._b != _BLANK:
                    return DAMAGED
                return READY if self.stamped and blank else BLANK
        self.place = place
        return LIVE

    def _open(self):
        (
            self.epoch,
            self.owner,
            self.base,
            self.boot,
            self.proof,
            low,
            high,
            self.trust,
            self.cursor,
            self.table_len,
            self.table_crc,
            _,
            self.seed,
        ) = struct.unpack(PART_B, self._b)
        if self.seed != crc32(self._sealed) or self.table_len > _TABLE_MAX:
            return False
        self.trust &= 0xFF
        self.offset = low | high << 32 if self.trust else 0
        self.floor = self.offset // 1000 if self.trust >= _SYNCED else self.proof
        self.known = self.boot
        self.seq = self.base
        self.slot = self.top = (FIRST + self.table_len + _SLOT - 1) // _SLOT
        self.end = _SLOTS
        self.bad = self.doubts = self._blank = self._uptime = 0
        return True

    def step(self):
        """Take the next slot that is not blank: its kind, BAD, or NOTHING at the end.

        A reading's fields are in `a` (uptime in s), `b` (ms << 6 | channel) and `c` (value), and its number
        is seq - 1.
        """
        while self.slot < self.end:
            slot = self.slot
            self.slot = slot + 1
            try:
                read(self._device, self.place, self._rec, slot * _SLOT)
            except OSError:
                return self._skip(slot)
            kind, low, self.a, self.b, self.c, crc = struct.unpack_from(RECORD, self._rec)
            if crc != crc32(self._body, self.seed):
                if self._rec == _BLANK_SLOT:
                    self._blank += 1
                    continue
                return self._skip(slot)
            self.top = slot + 1
            missing = (low - self.seq) & 0xFF
            if missing or self.bad or self._blank:
                doubts = self.bad + self._blank - missing
                if doubts < 0:  # no number goes by without a slot: this record came before
                    continue
                self.seq += missing
                if doubts and slot < _LAST:
                    self._doubt(doubts)
                self.bad = self._blank = 0
            if kind < _READINGS:
                self.seq += 1
                if self.a > self._uptime:
                    self._uptime = self.a
            elif kind == TIME:
                self.prove()
                self.offset = self.a | self.b << 32
                self.trust = self.c & 0xFF
            elif kind == BOOT:
                self._begin(self.a)
            elif kind == ACK and self.a > self.cursor:
                self.cursor = self.a
            return kind
        return NOTHING

    def prove(self):
        """The newest time (unix s) that is certain to have passed."""
        if self.trust >= _SYNCED:
            self.proof = max(self.proof, self.offset // 1000 + self._uptime)
        return self.proof

    def is_of(self, boot):
        """Whether the readings here are of this boot, which was still going on, or is told of, later on."""
        return boot == self.boot or (self.boot < 0 and boot == self.known)

    def _skip(self, slot):
        self.top = slot + 1
        if slot < _LAST:  # the last one never was a reading
            self.bad += 1
        return BAD

    def _begin(self, boot):
        if boot != self.known:
            self.floor = self.prove()
            self.offset = self.trust = self._uptime = 0
            self.known = boot
        self.boot = boot

    def _doubt(self, count):
        # No number is missing for a slot that holds nothing: it may have begun a boot, or told the time.
        self.doubts += count
        self.prove()
        if self.trust >= _SYNCED:
            self.floor = self.offset // 1000
        self.offset = self.trust = self._uptime = 0
        self.boot = -self.seq - 1

    def has_table(self):
        """Whether the sector's channel table is whole. Raises OSError."""
        crc = 0
        at = FIRST
        rest = self.table_len
        while rest:
            piece = self._rec if rest >= _SLOT else memoryview(self._rec)[:rest]
            read(self._device, self.place, piece, at)
            crc = crc32(piece, crc)
            at += _SLOT
            rest -= len(piece)
        return crc == self.table_crc

    def table(self):
        """The sector's channels as (name, unit, decimals); None when the table is damaged. Raises OSError."""
        text = bytearray(self.table_len)
        read(self._device, self.place, text, FIRST)
        if crc32(text) != self.table_crc:
            return None
        channels = []
        for line in bytes(text).decode().split("\n")[:-1]:
            name, unit, decimals = line.rsplit(",", 2)
            channels.append((name, unit, int(decimals)))
        return channels
