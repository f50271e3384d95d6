"""What a board has printed and its reader has not taken yet."""

import asyncio
from collections.abc import Callable

MOST_PENDING = 16384
"""Bytes that wait for the reader before the board has to wait too."""
_PATIENCE = 1.0
"""Seconds that the board waits for a reader who takes nothing."""


class Outbox:
    """Keeps the bytes that a reader cannot take yet, for as long as it is willing to take any.

    `send` gives some of them to the reader without waiting, and tells how many. `want` is called with True
    when `flush` should be called as soon as more can be sent, with False when that is not needed any more.
    `on_room` is called with False when the board should print no more for now, with True when it may go on.
    A reader that is slow slows the board down; one that takes nothing for a second loses what comes then.
    """

    def __init__(
        self, send: Callable[[bytearray], int], want: Callable[[bool], None], on_room: Callable[[bool], None]
    ) -> None:
        self._send = send
        self._want = want
        self._on_room = on_room
        self._loop = asyncio.get_running_loop()
        self._pending = bytearray()
        self._waiting: asyncio.TimerHandle | None = None
        self._reader_sleeps = False

    def __len__(self) -> int:
        return len(self._pending)

    def write(self, data: bytes) -> None:
        self._pending += data
        self.flush()

    def flush(self) -> None:
        taken = self._send(self._pending) if self._pending else 0
        del self._pending[:taken]
        if taken:
            self._reader_sleeps = False
            self._forget_timer()
        if self._reader_sleeps:
            self._pending.clear()
        self._want(bool(self._pending))
        self._tell_room()

    def clear(self) -> None:
        """Forget what is pending; the next reader, or this one, begins anew."""
        self._reader_sleeps = False
        self._pending.clear()
        self._want(False)
        self._tell_room()

    def _tell_room(self) -> None:
        if len(self._pending) <= MOST_PENDING:
            self._forget_timer()
            self._on_room(True)
        elif not self._waiting:
            self._waiting = self._loop.call_later(_PATIENCE, self._give_up)
            self._on_room(False)

    def _give_up(self) -> None:
        self._waiting = None
        before = len(self._pending)
        self.flush()  # perhaps it was we who slept
        if len(self._pending) == before:
            self._reader_sleeps = True
            self.flush()

    def _forget_timer(self) -> None:
        if self._waiting:
            self._waiting.cancel()
            self._waiting = None
