"""Reads the spool's readings back: in their order, with their time, and with what is missing between them."""

from micropython import const

from limpet.record import BAD, LIVE, NOTHING, TIME, Walk

# What look() finds.
END = const(0)
READING = const(1)
GAP = const(2)
HELD = const(3)

_READINGS = const(32)
_SYNCED = const(2)
# quality of a reading's time; 0 and 1 are TIME records' trust, less 2
_HOLDOVER = const(1)
_RECOVERED = const(2)
_UNKNOWN = const(3)
_NO_BOOT = const(-0x100000000)


class Reader:
    """look() says what is at the position, skip() goes behind it.

    READING: `seq`; `channel`, a tuple of name, unit and decimals; `reason`, `value`; `unix_ms`; `quality` of
    that time, 0 synced, 1 holdover, 2 recovered, 3 unknown; `later_s`, 0, or with quality 3 by how many
    seconds the reading may be later than told (None: nobody knows).
    GAP: numbers `seq` to `last` are missing; `why`: "full" or "damaged".
    HELD: a reading of this boot, which has no time yet. With `force` set it comes with quality 3.
    END: nothing more, for now.
    """

    def __init__(self, spool):
        self._spool = spool
        self._walk = Walk(spool.device)
        self._table = None  # type: list[tuple[str, str, int]] | None
        self._table_crc = -1
        # Of a boot without a sure time: the boot; the marks seen; the first sure time behind, and its boot.
        self._undated = 0
        self._marks = -1
        self._sure_boot = 0
        self._sure_ms = None  # type: int | None
        self.force = False
        self.channel = ("", "", 0)
        self.seq = self.last = self.reason = self.value = self.unix_ms = self.quality = 0
        self.later_s = 0  # type: int | None
        self.why = ""
        self._at = -1
        self._found = -1  # the reading that the walk has come to, while it is not behind the position
        self.seek(spool.cursor)

    def seek(self, seq):
        """Go to the number `seq`."""
        if seq != self._at:
            self._walk.place = -1
            self._found = -1  # the reading that the walk has found, when it is ahead of the position
        self._at = seq
        self._what = END

    def look(self):
        """What is at the position; the same until skip(), once there is something."""
        if self._what != END:
            return self._what
        spool = self._spool
        walk = self._walk
        while self._at < spool.next:
            if self._at >= spool.durable:
                spool.flush()  # a number that was seen outside must not come again
            if walk.place < 0 or spool.base(walk.place) != walk.base:
                self._found = -1
                if spool.holding(self._at) < 0:
                    return self._gap(max(self._at + 1, min(spool.first, spool.next)), "full")
                if not self._open():
                    return self._gap(self._end(self._at), "damaged")
            if self._found < 0 and not self._step():
                end = self._end(walk.base)
                if self._at < end:
                    return self._gap(end, "damaged")
                if self._at < spool.next:
                    walk.place = -1
            elif self._found > self._at:
                return self._gap(self._found, "damaged")
            elif self._found == self._at:
                return self._take()
        return END

    def skip(self):
        """Go behind what look() has found."""
        self._at = self.last + 1
        self._what = END
        if self._found < self._at:
            self._found = -1

    def _gap(self, end, why):
        self.seq = self._at
        self.last = end - 1
        self.why = why
        self._what = GAP
        return GAP

    def _end(self, seq):
        """The base of the sector behind the one that holds `seq`, or the number that comes next of all."""
        after = self._spool.after(seq)
        return self._spool.base(after) if after >= 0 else self._spool.next

    def _open(self):
        """Begin with the sector that holds the position. False when it cannot be read."""
        spool = self._spool
        walk = self._walk
        place = spool.holding(self._at)
        try:
            if walk.load(place) == LIVE and walk.base == spool.base(place):
                self._find_table(place)
                return True
        except OSError:
            spool.errors += 1
        walk.place = -1
        return False

    def _find_table(self, place):
        """The channels of the sector; where they are damaged, those of another one that has the same."""
        spool = self._spool
        walk = self._walk
        crc = walk.table_crc
        if crc == self._table_crc:
            return
        self._table_crc = -1
        if spool.started and crc == spool.table_crc:
            self._table = spool.channels
        else:
            self._table = walk.table()
            if self._table is None:
                other = spool.holding(spool.first)
                while self._table is None and other >= 0:
                    if walk.load(other) == LIVE and walk.table_crc == crc:
                        self._table = walk.table()
                    other = spool.after(spool.base(other))
                walk.load(place)
        if self._table is not None:
            self._table_crc = crc

    def _step(self):
        """Take a slot. False when the sector has no more."""
        spool = self._spool
        walk = self._walk
        walk.end = spool.end(walk.place)
        kind = walk.step()
        if kind == NOTHING:
            return False
        if kind < _READINGS:
            seq = walk.seq - 1
            if self._table is None or walk.b & 63 >= len(self._table):
                spool.skipped(walk.base, walk.slot)
            elif seq >= self._at:
                self._found = seq
                self._reason = kind
        elif kind == BAD:
            spool.skipped(walk.base, walk.slot)
        return True

    def _take(self):
        """The reading that the walk has found."""
        walk = self._walk
        self.seq = self.last = self._found
        self.channel = self._table[walk.b & 63]  # type: ignore[index]
        self.reason = self._reason
        self.value = walk.c
        uptime_ms = walk.a * 1000 + (walk.b >> 6)
        self.later_s = 0
        self.quality = walk.trust - _SYNCED
        offset = walk.offset
        if walk.trust < _SYNCED:
            self._look_out()
            if self._sure_ms is not None and walk.is_of(self._sure_boot):
                self.quality = _RECOVERED
                offset = self._sure_ms
            elif walk.trust:
                self.quality = _HOLDOVER
            elif self._is_now() and not self.force:
                return HELD
            else:
                self.quality = _UNKNOWN
                offset = walk.floor * 1000
                self.later_s = self._later_s(offset + uptime_ms, uptime_ms)
        self.unix_ms = offset + uptime_ms
        self._what = READING
        return READING

    def _is_now(self):
        return self._spool.started and self._walk.is_of(self._spool.boot)

    def _later_s(self, unix_ms, uptime_ms):
        """By how much a reading of a boot without time may be later than `unix_ms`."""
        latest = self._sure_ms
        if latest is None:
            return None
        # The boot with the sure time began when this one had ended; unless it may be the same one.
        if self._walk.boot < 0 or self._sure_boot < 0:
            latest += uptime_ms
        return max(0, -((unix_ms - latest) // 1000))

    def _look_out(self):
        """Find the first sure time behind the position, of this boot or another."""
        spool = self._spool
        walk = self._walk
        if self._is_now():
            self._undated = _NO_BOOT
            self._sure_boot = spool.boot
            self._sure_ms = spool.synced_ms or None
        elif self._undated != walk.boot or (self._sure_ms is None and self._marks != spool.marks):
            self._marks = spool.marks
            self._undated = walk.boot
            self._sure_ms = None
            try:
                if not self._search(Walk(spool.device)) and spool.synced_ms:
                    self._sure_boot = spool.boot
                    self._sure_ms = spool.synced_ms
            except OSError:
                spool.errors += 1

    def _search(self, walk):
        """Find it in the flash, with a walk of its own. Headers tell which sectors to search."""
        spool = self._spool
        here = place = self._walk.place
        walk.load(here)
        walk.end = self._walk.slot
        while walk.step() != NOTHING:
            pass
        proof = walk.prove()
        if self._scan(walk):
            return True
        while True:
            after = spool.after(spool.base(place))
            if after >= 0 and walk.load(after) == LIVE and (walk.trust >= _SYNCED or walk.proof > proof):
                boot, told = walk.boot, walk.offset
                if walk.trust < _SYNCED:
                    boot, told = _NO_BOOT, walk.proof * 1000 + 999
            elif after >= 0:
                place = after
                continue
            else:
                told = None
            if place != here and walk.load(place) == LIVE and self._scan(walk):
                return True
            if told is None:
                return False
            self._sure_boot = boot
            self._sure_ms = told
            return True

    def _scan(self, walk):
        """Go on to the next TIME record that is sure. False when there is none in this sector."""
        walk.end = self._spool.end(walk.place)
        while True:
            kind = walk.step()
            if kind == NOTHING:
                return False
            if kind == TIME and walk.trust >= _SYNCED:
                self._sure_boot = walk.boot
                self._sure_ms = walk.offset
                return True
