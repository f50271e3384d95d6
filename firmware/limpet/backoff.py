"""When to try again: full-jitter exponential backoff, so that a fleet does not come back at one moment."""

import os

from micropython import const

_LEAST_MS = const(1000)
_MOST_MS = const(300000)


class Backoff:
    """Waits are random, from 1 s to `cap` (ms), which begins with `first_ms` and doubles up to 5 min."""

    def __init__(self, first_ms):
        self._first = self.cap = first_ms

    def wait(self):
        """Milliseconds until the next attempt."""
        least = min(_LEAST_MS, self._first)
        pause = least + int.from_bytes(os.urandom(3), "big") % (self.cap - least + 1)
        self.cap = min(self.cap * 2, _MOST_MS)
        return pause

    def proved(self):
        """It worked: the next failure begins with short waits again."""
        self.cap = self._first
