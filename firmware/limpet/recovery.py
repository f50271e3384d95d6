"""Finds out at start what the spool's flash holds. It is not needed again until the next one."""

import os
import struct

from micropython import const

from limpet.record import FAILED, FREE, LIVE, NOTHING, READY, SpoolError, Walk

_LAST = const(255)  # the slot that closes a sector
_LOST_SECTOR = const(256)  # numbers; a sector uses fewer


class Recovery:
    """Reads a header a sector, and the newest sector. `bases`, all FREE at first, get what each begins with.

    `place` is the newest sector, -1 if there is none, `slot` the next one in it, `seed` and `table_crc` are
    its header's (-1 for a damaged table). `unclosed` is (place, seed) of the sector before it, or None;
    `ready` one that is erased, or -1. Raises SpoolError if the flash cannot be read.
    """

    def __init__(self, device, owner, bases):
        self._owner = owner
        self._bases = bases
        self._walk = Walk(device)
        self._age = (-1, -1)  # the highest boot, and base
        self.epoch = self.boot = self.cursor = self.next = self.proof = self.wear = self.errors = (
            self.seed
        ) = 0
        self.place = self.ready = self.table_crc = -1
        self.slot = _LAST
        self.unclosed = self.fault = None
        is_foreign = self._read_headers()
        if self.errors == len(bases):
            raise SpoolError("the spool's flash cannot be read")
        if self.place < 0:
            self.epoch = struct.unpack("<I", os.urandom(4))[0]
            if is_foreign:
                self.fault = "the spool was another node's; its readings are given up"
            return
        try:
            self._read_newest()
        except OSError:
            raise SpoolError("the newest sector of the spool cannot be read")

    def _read_headers(self):
        """Find the sectors of the ring; whether there are others'."""
        walk = self._walk
        is_foreign = False
        for place in range(len(self._bases)):
            try:
                state = walk.load(place)
            except OSError:
                self.errors += 1
                self._bases[place] = FAILED
                continue
            self.wear = max(self.wear, walk.erases)
            if state == READY:
                self.ready = place
            elif state == LIVE and walk.owner == self._owner:
                self._admit(place)
            elif state == LIVE:
                is_foreign = True
        return is_foreign

    def _admit(self, place):
        """Take a sector of ours into the ring."""
        walk = self._walk
        bases = self._bases
        age = (walk.boot, walk.base)
        if walk.epoch != self.epoch and self.place >= 0:
            # The epoch with the highest boot counts; sectors of the other are free.
            if age < self._age:
                return
            for i in range(place):
                if bases[i] < FAILED:
                    bases[i] = FREE
            self.place = -1
            self.cursor = self.proof = 0
        self.epoch = walk.epoch
        self._age = max(self._age, age)
        self.cursor = max(self.cursor, walk.cursor)
        self.proof = max(self.proof, walk.proof)
        base = walk.base
        for twin in range(place):
            if bases[twin] == base:
                # One of them has no readings, or is no more than a copy.
                if self._reach(twin) >= self._reach(place):
                    return
                bases[twin] = FREE
                if self.place == twin:
                    self.place = place
        bases[place] = base
        if self.place < 0 or base > bases[self.place]:
            self.place = place

    def _reach(self, place):
        """Of two sectors with the same base the one counts that reaches farther; next the later one."""
        walk = self._walk
        if walk.load(place) == LIVE:
            while walk.step() != NOTHING:
                pass
        return walk.seq, walk.known, walk.top <= _LAST

    def _read_newest(self):
        walk = self._walk
        walk.load(self.place)
        while walk.step() != NOTHING:
            pass
        self.seed = walk.seed
        self.slot = min(walk.top, _LAST)
        # What is damaged at the end may have been readings, and delivered.
        self.next = walk.seq + walk.bad
        self.boot = max(self._age[0], walk.known) + walk.doubts
        self.proof = max(self.proof, walk.prove())
        self.cursor = min(max(self.cursor, walk.cursor), self.next)
        if walk.has_table():
            self.table_crc = walk.table_crc
        if walk.top > _LAST:
            lost = self._count_successors()
            if lost:
                self.next += lost * _LOST_SECTOR
                self.fault = "the newest sector of the spool is damaged; its readings are lost"
        before = max([base for base in self._bases if base < self._bases[self.place]], default=-1)
        for place, base in enumerate(self._bases):
            if base == before and walk.load(place) == LIVE:
                self.unclosed = (place, walk.seed)

    def _count_successors(self):
        """The newest sector is closed, so there was one behind it. How many there may have been."""
        walk = self._walk
        lost = 0
        is_ready = False
        count = len(self._bases)
        for i in range(1, count):
            place = (self.place + i) % count
            if self._bases[place] == FAILED:
                lost += 1
            elif self._bases[place] == FREE:
                state = walk.load(place)
                if walk.stamped and state < LIVE:
                    is_ready = True  # those behind it were not opened, or are damaged
                elif state >= LIVE or not is_ready:
                    lost += 1
        return lost
