"""When to try again: full-jitter exponential backoff, so that a fleet does not come back at one moment."""

import os

from micropython import const

_LEAST_MS = const(1000)
_MOST_MS = const(300000)


class Backoff:
    """The first wait is random, 1 s to `first_ms`; each further one up to twice as much, at most 5 min."""

    def __init__(self, first_ms):
        self._first = self._cap = first_ms

    def wait(self):
        """Milliseconds until the next attempt."""
        least = min(_LEAST_MS, self._first)
        pause = least + int.from_bytes(os.urandom(3), "big") % (self._cap - least + 1)
        self._cap = min(self._cap * 2, _MOST_MS)
        return pause

    def proved(self):
        """It worked: the next failure begins with short waits again."""
        self._cap = self._first
