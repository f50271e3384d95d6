"""The time that a node is told: an SNTP server of the rig's own, which can be wrong on purpose."""

import contextlib
import datetime
import time
from typing import Self

from host_tools.errors import LimpetError, UsageError
from host_tools.hil.timeline import Timeline
from host_tools.virtual.bench import Bench
from host_tools.virtual.time_server import TimeServer


class Clock:
    """Use it as a context manager. It begins with the right time, and keeps its port to the end.

    `address` is the one of this machine at which nodes reach it.
    """

    def __init__(self, timeline: Timeline, *, address: str = "127.0.0.1") -> None:
        self.address = address
        self._timeline = timeline
        self._ahead = 0.0  # seconds before this machine's clock
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Listen. Raises LimpetError when the address is none of this machine's."""
        with contextlib.ExitStack() as undo:
            bench = undo.enter_context(Bench())
            try:
                self._server = bench.run(TimeServer.open(self.now, address=self.address))
            except OSError:
                raise LimpetError(
                    f"The time server cannot listen at {self.address}: "
                    "give the rig an address of this machine as 'host'."
                ) from None
            bench.on_close(self._server.close)
            self._stack = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def port(self) -> int:
        """The UDP port; the same as long as the clock exists."""
        return self._server.port

    @property
    def asked(self) -> int:
        """How many questions have come."""
        return self._server.asked

    def now(self) -> float:
        """What it tells, in seconds since 1970."""
        return time.time() + self._ahead

    def set(self, to: datetime.datetime | float) -> None:
        """Tell this time from now on, and count on from it: a date with a time zone, or seconds since 1970.

        Raises UsageError for a date without a time zone.
        """
        if isinstance(to, datetime.datetime):
            if to.tzinfo is None:
                raise UsageError(f"The time {to} has no time zone: say which, such as tzinfo=datetime.UTC.")
            to = to.timestamp()
        self._ahead = to - time.time()
        self._tell("set")

    def jump(self, seconds: float) -> None:
        """Tell a time that is so much later than before, or earlier."""
        self._ahead += seconds
        self._tell("jump")

    def stop(self) -> None:
        """Answer nobody."""
        self.lie("silent")

    def start(self) -> None:
        """Answer again, and honestly, after `stop` or `lie`; the time is still that of `set` and `jump`."""
        self.lie(None)

    def lie(self, fault: str | None) -> None:
        """Answer as a bad server does: one of `host_tools.virtual.time_server.FAULTS`.

        Raises LimpetError for another word.
        """
        self._server.fault = fault
        self._timeline.add("clock", fault or "honest")

    def clear(self) -> None:
        """Be right again: honest, and with this machine's time."""
        self._ahead = 0.0
        self._server.fault = None
        self._tell("clear")

    def _tell(self, what: str) -> None:
        self._timeline.add("clock", what, now=self.now(), ahead=self._ahead)
