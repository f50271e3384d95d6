"""The readings' way through power cuts: a ring of sectors in a flash partition of its own (docs/formats.md).

A reading is a record of 16 bytes, durable when append() returns; its number never comes again. Records go
into the newest sector. The next one is erased ahead, and opened when this one is full: first its table, then
the copy of part B, then part B, and only then is the full one closed. So a sector that is closed had a
successor, and one that is open has a whole table. When no sector is free the oldest goes, with whatever is
in it.
"""

import struct
import time
from array import array
from binascii import crc32

from micropython import const

from limpet import RELEASED
from limpet.reader import Reader
from limpet.record import (
    ACK,
    BOOT,
    FAILED,
    FIRST,
    FREE,
    MAGIC,
    PART_A,
    PART_B,
    RECORD,
    TIME,
    VERSION,
    SpoolError,
    read,
)

_SECTOR = const(4096)
_FEWEST = const(3)
_SLOT = const(16)
_LAST = const(255)  # the slot that closes a sector
_HALF = const(128)
_FEW = const(8)  # slots left when the next sector is erased at last
_COPY = const(64)
_TABLE_MAX = const(2048)
_CHANNELS = const(64)
_ACK_EVERY = const(64)
_SYNCED = const(2)
_OUT_OF_RANGE = const(5)  # reason of a reading
_MAX_BATCH = const(64)
_ERASE_MS = const(60)
_TURN_MS = const(1000)
_POLL_MS = const(20)
_TRIES = const(3)
# What goes on: what it needs must not begin it once more.
_WRITING = const(0)
_LOOKING_AHEAD = const(1)
_TURNING = const(2)
_BLANK_SLOT = b"\xff" * 16


class Spool:
    """`device` is an esp32.Partition, or works like one; `owner` is the node's id. start() begins to write.

    Raises SpoolError if the partition is too small, or cannot be read at all.
    `cursor`: the first reading that is not acknowledged. `first`: the oldest that is held. `next`: the number
    of the next. `capacity`: about how many it can hold. `lost`: readings that this boot dropped before they
    were acknowledged. `damaged`: slots that were skipped. `errors`: failures of the flash. `proof`: the
    newest time (unix s) that the flash proves, 0 for none. `fault`: what was wrong with the partition, or
    None. `slack`: None, or a function that tells for how many ms nobody minds an erase.
    """

    def __init__(self, device, owner):
        from limpet.recovery import Recovery  # needed once; whoever likes may unload it then

        self.device = device
        self._owner = crc32(owner.encode())
        count = device.ioctl(4, 0)
        if device.ioctl(5, 0) != _SECTOR or count < _FEWEST:
            raise SpoolError("the spool needs three blocks of 4096 bytes or more")
        self.slack = None
        self._bases = array("I", [FREE] * count)
        self._go_on(Recovery(device, self._owner, self._bases))
        self.channels = []  # type: list[tuple[str, str, int]]
        self.table_crc = self._table_len = 0
        self.capacity = (count - 1) * (_LAST - FIRST // _SLOT)
        self.started = False
        self.synced_ms = 0  # the first offset of this boot that a time server has told
        self.marks = 0
        self.lost = self.damaged = 0
        self._counted = (0, 0)  # the last damaged slot that is counted
        self._begun = False  # whether the flash knows of this boot
        self._stale = False  # whether the newest sector's channel table is another one
        self._stage = _WRITING
        self._has_failed = False  # whether no sector could be erased
        self._rest_until = time.ticks_ms()
        self._offset = self._trust = self._uptime = 0
        self._rec = bytearray(_SLOT)
        self._body = memoryview(self._rec)[:12]
        self._part = bytearray(_SLOT)  # of what is not a record of this sector
        self._part12 = memoryview(self._part)[:12]
        self._head = bytearray(48)
        self._batch = bytearray(0)
        self._size = 1
        self._held = 0  # readings in the batch

    def _go_on(self, found):
        self._epoch = found.epoch
        self.epoch = "%08x" % found.epoch
        self.boot = found.boot
        self.proof = found.proof
        self.next = found.next
        self.first = min(min(self._bases), found.next)
        self.cursor = found.cursor
        self.fault = found.fault
        self.errors = found.errors
        self._place = found.place  # of the newest sector, or -1
        self._slot = found.slot  # the next one there
        self._seed = found.seed
        self._table = found.table_crc
        self._unclosed = found.unclosed
        self._ready = found.ready  # the sector that comes next, or -1
        self._proved = False  # whether that is blank for certain
        self._wear = found.wear
        self._kept = found.cursor  # the cursor that the flash has
        self.durable = found.next  # all below are in flash

    def __len__(self):
        return self.next - self.cursor

    def reader(self):
        """A Reader that begins at the cursor."""
        return Reader(self)

    # The ring

    def _before(self, base):
        """The sector with the largest base below `base`, or -1."""
        found = -1
        for place, each in enumerate(self._bases):
            if each < base and (found < 0 or each > self._bases[found]):
                found = place
        return found

    def after(self, base):
        """The sector with the smallest base above `base`, or -1."""
        found = -1
        for place, each in enumerate(self._bases):
            if base < each < FAILED and (found < 0 or each < self._bases[found]):
                found = place
        return found

    def holding(self, seq):
        """The sector that holds the reading `seq`, if any does; -1 when it was dropped."""
        return self._before(seq + 1)

    def base(self, place):
        """The number that a sector begins with; of one that is not in the ring, none that there is."""
        return self._bases[place]

    def end(self, place):
        """The slot behind the last one of a sector that may hold a record."""
        return self._slot if place == self._place else _LAST

    def skipped(self, base, slot):
        """A reader has met a damaged slot of the sector that begins with `base`; each is counted once."""
        if (base, slot) > self._counted:
            self._counted = (base, slot)
            self.damaged += 1

    # Writing

    def start(self, channels, offset_ms=0, trust=0, batch=1, batch_ms=0, cause=0):
        """Begin this boot; nothing is written before there is a reading or a mark.

        `channels` as in Sampler.channels; `offset_ms` and `trust` are what is known of the time already;
        up to `batch` readings may wait in RAM for up to `batch_ms`; `cause` is the reset's. Raises SpoolError
        for more channels than fit.
        """
        self.channels = [(name, unit, decimals) for name, unit, decimals, _, _, _ in channels]
        size = crc = 0
        for channel in self.channels:
            line = _line(channel)
            size += len(line)
            crc = crc32(line, crc)
        if len(self.channels) > _CHANNELS or size > _TABLE_MAX:
            raise SpoolError("the spool takes 64 channels, and 2048 bytes of their names and units")
        self._table_len = size
        self.table_crc = crc
        self.capacity = (len(self._bases) - 1) * (_LAST - self._first_slot())
        self._stale = self._place >= 0 and self._table != crc
        self.boot += 1
        self._cause = cause
        self._size = max(1, min(batch, _MAX_BATCH))
        if self._size > 1:
            self._batch = bytearray(self._size * _SLOT)
        self._batch_ms = batch_ms
        self.started = True
        if trust:
            self._know(offset_ms, trust)

    def append(self, s, ms, channel, reason, value):
        """Take a reading of `channel` (an index), taken at uptime `s`, `ms`; `reason` 0 for a good one.

        It never raises. What the flash refuses is tried elsewhere; if that fails too, the reading's number is
        missing, and `errors` tells.
        """
        if not -0x80000000 <= value <= 0x7FFFFFFF:
            reason = _OUT_OF_RANGE
            value = 0
        self._uptime = s
        if not self._begun:
            self._begin()
        self._put(reason, s, ms << 6 | channel, value)

    def mark(self, offset_ms, trust):
        """From here on uptime 0 of this boot was at `offset_ms` (unix), with the trust of a Clock."""
        self._know(offset_ms, trust)
        if not self.started or not self._has_room():
            self._begun = False  # it comes with the next reading
        elif self._begun:
            self._put_time()
        else:
            self._begin()

    def ack(self, end, first=None):
        """The readings below `end` are done with.

        With `first` the broker has got those from `first` on: what was dropped of them is not lost after all.
        The flash learns of it now and then; after a power cut some may come again.
        """
        end = min(end, self.next)
        if end <= self.cursor:
            return
        if first is not None and first < self.first:
            self.lost -= max(0, min(end, self.first) - max(first, self.cursor))
        self.cursor = end
        behind = end - self._kept
        if behind < _ACK_EVERY or not self.started or not self._left():
            return
        if self._has_room() or behind > len(self):
            self._put_cursor()

    def flush(self):
        """Write what waits in RAM."""
        held = self._held
        if held:
            self._held = 0
            self._write(memoryview(self._batch)[: held * _SLOT])

    def run(self):
        """Write batches in time, and erase sectors ahead (a task)."""
        while True:
            wait = _TURN_MS
            if self._size > 1:
                wait = min(wait, self._batch_ms)
                if self._held:
                    left = time.ticks_diff(self._flush_at, time.ticks_ms())
                    if left <= 0:
                        self.flush()
                    else:
                        wait = min(wait, left)
            if not self._proved and self._place >= 0 and (self._slot >= _HALF or self._stale):
                if self.slack is None or self.slack() >= _ERASE_MS:
                    self._look_ahead()
                else:
                    wait = min(wait, _POLL_MS)
            yield max(wait, _POLL_MS)

    def _know(self, offset_ms, trust):
        self._prove()
        self._offset = offset_ms
        self._trust = trust
        self.marks += 1
        if trust >= _SYNCED and not self.synced_ms:
            self.synced_ms = offset_ms

    def _prove(self):
        if self._trust >= _SYNCED:
            self.proof = max(self.proof, self._offset // 1000 + self._uptime)

    def _has_room(self):
        # A sector without readings would have the base of the next: other records get half of it at most.
        return self._place < 0 or self._slot < _HALF or self.next > self._bases[self._place]

    def _begin(self):
        """Tell the flash which boot this is, and what it knows of the time."""
        self._begun = True  # an error sets it back
        if self._unclosed:
            self._close(self._unclosed[0], self._unclosed[1], self._bases[self._place])
            self._unclosed = None
        self._put(BOOT, self.boot, self._cause, 0)
        if self._trust:
            self._put_time()

    def _put_time(self):
        self._put(TIME, self._offset & 0xFFFFFFFF, self._offset >> 32, self._trust)

    def _put_cursor(self):
        self._kept = self.cursor
        self._put(ACK, self.cursor, 0, 0)

    def _put(self, kind, a, b, c):
        """Write a record; a reading may go to the batch.

        The others are programmed alone: a power cut may spoil any part of what is programmed at once, and
        damage among readings must not be mistaken for the beginning of a boot.
        """
        if kind >= BOOT:
            self.flush()
        if self._stage == _WRITING and self._left() <= _FEW:
            self._make_room()
        rec = self._rec
        struct.pack_into(RECORD, rec, 0, kind, self.next & 0xFF, a, b, c, 0)
        struct.pack_into("<I", rec, 12, crc32(self._body, self._seed))
        if kind < BOOT:
            self.next += 1
        if self._size == 1 or kind >= BOOT:
            self._write(rec)
            return
        if not self._held:
            self._flush_at = time.ticks_add(time.ticks_ms(), self._batch_ms)
        at = self._held * _SLOT
        self._batch[at : at + _SLOT] = rec
        self._held += 1
        if self._held == self._size:
            self.flush()

    def _left(self):
        """How many records the newest sector still takes."""
        if self._stale or self._place < 0:
            return 0
        return _LAST - self._slot - self._held

    def _make_room(self):
        if not self._left():
            self.flush()
        if not self._proved:
            self._look_ahead()
        if not self._left():
            self._turn(self.next)

    def _look_ahead(self):
        """Have the next sector erased."""
        self.flush()
        self._stage = _LOOKING_AHEAD
        try:
            if self._ready >= 0:
                self._proved = self._is_blank(self._ready)
            if not self._proved:
                self._prepare()
        finally:
            self._stage = _WRITING

    def _write(self, records):
        """Program whole records into the next slots; what the flash refuses, elsewhere."""
        for attempt in range(_TRIES):
            end = self._slot + len(records) // _SLOT
            if end > _LAST or attempt == _TRIES - 1:
                records = bytearray(records)  # its buffer may be needed
                if self._stage != _WRITING or not self._turn(self.durable):
                    self.errors += 1
                    break
                self._seal(records)
                end = self._slot + len(records) // _SLOT
            if self._program(records, end):
                break
        self.durable = self.next

    def _program(self, records, end):
        """Program the slots up to `end`; whether the records stand there."""
        at = self._slot * _SLOT
        self._slot = end
        try:
            self.device.writeblocks(self._place, records, at)
            return True
        except OSError:
            self.errors += 1
        try:
            # They come again elsewhere, so they should not stand here.
            self.device.writeblocks(self._place, bytes(len(records)), at)
        except OSError:
            self.errors += 1
        self._begun = False  # behind damage a reader wants to be told again which boot it is in
        return False

    def _seal(self, records):
        """Give records the CRCs of the newest sector."""
        view = memoryview(records)
        for at in range(0, len(records), _SLOT):
            struct.pack_into("<I", records, at + 12, crc32(view[at : at + 12], self._seed))

    # From sector to sector

    def _prepare(self):
        """Erase a sector, the oldest if none is free. False when the flash fails."""
        now = time.ticks_ms()
        if self._has_failed and time.ticks_diff(self._rest_until, now) > 0:
            return False
        bases = self._bases
        refused = []
        for _ in range(_TRIES):
            place = self._candidate()
            if place < 0:
                break
            base = bases[place]
            if base < FAILED:
                self._keep_cursor(base)
            try:
                self._erase(place)
            except OSError:
                self.errors += 1
                bases[place] = FAILED
                if base < FAILED:
                    refused.append((place, base))
                continue
            if base < FAILED:
                self.lost += max(0, self._end(base) - max(self.cursor, base))
                bases[place] = FREE
            self._ready = place
            self._proved = True
            break
        for place, base in refused:
            bases[place] = base  # its readings are still there, perhaps
        self.first = min(min(bases), self.next)
        self._has_failed = not self._proved
        if self._has_failed:
            self._rest_until = time.ticks_add(now, _TURN_MS)  # that must not take up all the time
            for place, base in enumerate(bases):
                if base == FAILED:
                    bases[place] = FREE  # there is nothing better to try the next time
        return self._proved

    def _candidate(self):
        """The next free sector behind the newest, else the oldest of the ring; -1 when all have failed."""
        bases = self._bases
        count = len(bases)
        for i in range(1, count + 1):
            place = (self._place + i) % count
            if bases[place] == FREE:
                return place
        place = self.after(-1)
        return -1 if place == self._place else place

    def _end(self, base):
        """The number behind the last one of the sector that begins with `base`, and is not the newest."""
        return self._bases[self.after(base)]

    def _keep_cursor(self, base):
        # What is missing without that sector is told from the cursor on: the flash must have the right one.
        if self._stage == _LOOKING_AHEAD and self._left() and self._kept < min(self.cursor, self._end(base)):
            self._put_cursor()

    def _erase(self, place):
        part = self._part
        read(self.device, place, part, 0)
        magic, version, erases, crc = struct.unpack(PART_A, part)
        if (magic, version, crc) != (MAGIC, VERSION, crc32(self._part12)):
            erases = self._wear  # nobody knows; not fewer than any other, though
        self.device.ioctl(6, place)
        struct.pack_into(PART_A, part, 0, MAGIC, VERSION, erases + 1, 0)
        struct.pack_into("<I", part, 12, crc32(self._part12))
        self.device.writeblocks(place, part, 0)

    def _is_blank(self, place):
        """Whether nothing stands behind part A."""
        head = self._head
        blank = b"\xff" * len(head)
        try:
            for at in range(_SLOT, _SECTOR, len(head)):
                read(self.device, place, head, at)
                if head != blank:
                    return False
            return True
        except OSError:
            self.errors += 1
            return False

    def _turn(self, base):
        """Open the sector that is ready; `base` is the number of its first reading. False when that fails."""
        self._stage = _TURNING
        try:
            for _ in range(_TRIES - 1):
                if not self._proved and not self._prepare():
                    break
                place = self._ready
                self._ready = -1
                self._proved = False
                if self._open(place, base):
                    return True
        finally:
            self._stage = _WRITING
        return False

    def _open(self, place, base):
        device = self.device
        head = self._head
        try:
            at = FIRST
            for channel in self.channels:
                line = _line(channel)
                device.writeblocks(place, line, at)
                at += len(line)
            self._prove()
            struct.pack_into(
                PART_B,
                head,
                0,
                self._epoch,
                self._owner,
                base,
                self.boot,
                max(self.proof, RELEASED),  # a reading of this firmware is not older than the firmware
                self._offset & 0xFFFFFFFF,
                self._offset >> 32,
                self._trust,
                self.cursor,
                self._table_len,
                self.table_crc,
                0,
                0,
            )
            seed = crc32(memoryview(head)[:44])
            struct.pack_into("<I", head, 44, seed)
            device.writeblocks(place, head, _COPY)
            device.writeblocks(place, head, _SLOT)
        except OSError:
            self.errors += 1
            self._bases[place] = FAILED
            self._spoil(place)
            return False
        old = self._place
        if old >= 0:
            self._close(old, self._seed, base)
            if self._bases[old] == base:  # no reading came into it
                self._bases[old] = FREE
        self._bases[place] = base
        self._place = place
        self._seed = seed
        self._slot = self._first_slot()
        self._stale = False
        self._kept = self.cursor
        self.first = min(self.first, base)
        return True

    def _spoil(self, place):
        """See to it that a sector which could not be opened does not look open."""
        for at in (_COPY, _SLOT):
            try:
                self.device.writeblocks(place, bytes(len(self._head)), at)
            except OSError:
                self.errors += 1

    def _close(self, place, seed, next):
        """Write the record that says of a sector that it has a successor, whose base is `next`."""
        if self._bases[place] >= FAILED:
            return
        part = self._part
        try:
            read(self.device, place, part, _LAST * _SLOT)
            if part == _BLANK_SLOT:
                struct.pack_into(RECORD, part, 0, ACK, next & 0xFF, self.cursor, 0, 0, 0)
                struct.pack_into("<I", part, 12, crc32(self._part12, seed))
                self.device.writeblocks(place, part, _LAST * _SLOT)
        except OSError:
            self.errors += 1

    def _first_slot(self):
        return (FIRST + self._table_len + _SLOT - 1) // _SLOT


def _line(channel):
    return ("%s,%s,%d\n" % channel).encode()
