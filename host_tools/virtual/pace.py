"""How fast a serial line carries bytes."""

_AHEAD = 0.004
"""Seconds of bytes that go at once: a USB bridge sends them in packets too."""
_BEHIND = 0.05
"""Seconds that a busy machine may catch up with."""
_BITS = 10
"""Bits of a byte with its start and stop bit."""


class Pace:
    """One direction of a line."""

    def __init__(self) -> None:
        self.free = 0.0
        """When the line can carry the next byte, by the clock that `take` is told."""
        self._waiting = False

    def take(self, count: int, baudrate: int, now: float) -> int:
        """How many of `count` bytes may go now; the line is busy with them afterwards."""
        if now < self.free:
            self._waiting = True
            return 0
        # A line that had nothing to carry has not saved up anything; one whose turn comes late has.
        self.free = max(self.free, now - (_BEHIND if self._waiting else 0))
        carried = max(1, int((now + _AHEAD - self.free) * baudrate / _BITS))
        taken = min(count, carried)
        self._waiting = taken < count
        self.free += taken * _BITS / baudrate
        return taken
