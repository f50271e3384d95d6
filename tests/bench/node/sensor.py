"""Runs on the virtual board in the place of a driver: a sensor that answers at once and tells its lateness.

Of its spec it uses `leaves` (names of its channels), `count` (measurements, then it is silent) and `wait_ms`
(how long the first one takes). The value of a channel `late` is by how many microseconds its measurement
began after it was due; the others have values of the size that weather has.
"""

import time

UNITS = {"late": ("s", 6), "temperature": ("Cel", 2), "pressure": ("Pa", 2), "humidity": ("%RH", 2)}
VALUES = {"temperature": 2150, "pressure": 10065300, "humidity": 4530}
RANGE = (-1000000000, 1000000000)
NEVER_MS = 1 << 28


class Driver:
    def __init__(self, spec):
        self._leaves = spec["leaves"]
        self._left = spec["count"]
        self._wait = spec["wait_ms"]
        self._period = spec["period_ms"] * 1000
        self._due = None
        self._late = 0
        self.channels = tuple([(leaf,) + UNITS[leaf] + RANGE for leaf in self._leaves])
        self.reasons = bytearray(len(self._leaves))

    def start(self):
        now = time.ticks_us()
        if not self._left:
            print("sensor: done")
            return NEVER_MS
        if self._due is None:
            self._due = now
        self._late = time.ticks_diff(now, self._due)
        if self._late >= self._period:  # the sampler does not make up for what it has missed
            self._due = time.ticks_add(self._due, self._late // self._period * self._period)
        self._due = time.ticks_add(self._due, self._period)
        wait, self._wait = self._wait, 0
        if wait:
            self._due = None  # the grid begins anew
        return wait

    def read(self, out):
        self._left -= 1
        for i, leaf in enumerate(self._leaves):
            out[i] = self._late if leaf == "late" else VALUES[leaf] + self._left % 100
