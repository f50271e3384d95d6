"""Readings between sampler and uplink: a ring in RAM. When full, the oldest go first, and are counted."""

import binascii
import os
import struct

from micropython import const

_RECORD = const("<IHBBi")  # uptime s, ms; channel; reason; value
_SIZE = const(12)


class Queue:
    """Holds the readings with sequence numbers `first` to `next` - 1."""

    def __init__(self, capacity):
        self.capacity = capacity
        self._ring = bytearray(capacity * _SIZE)
        # In RAM the numbers begin again with every boot, so every boot is an epoch of its own.
        self.epoch = binascii.hexlify(os.urandom(4)).decode()
        self.first = 0
        self.next = 0
        self.lost = 0

    def __len__(self):
        return self.next - self.first

    def append(self, uptime_ms, channel, reason, value):
        """Take a reading; a full queue drops its oldest for it."""
        if self.next - self.first == self.capacity:
            self.first += 1
            self.lost += 1
        at = self.next % self.capacity * _SIZE
        struct.pack_into(_RECORD, self._ring, at, uptime_ms // 1000, uptime_ms % 1000, channel, reason, value)
        self.next += 1

    def get(self, seq):
        """(uptime s, its ms, channel, reason, value) of a reading that the queue holds."""
        return struct.unpack_from(_RECORD, self._ring, seq % self.capacity * _SIZE)

    def ack(self, start, end):
        """The broker has the readings from `start` to `end` - 1, and everything before them."""
        if start < self.first:  # dropped while they were on their way: not lost after all
            self.lost -= min(end, self.first) - start
        if end > self.first:
            self.first = end
