"""What a node says on its serial port while it is waited for: it tells why it does not come."""

import contextlib
import time
from types import TracebackType
from typing import Any, Self

from host_tools.devices.questions import readable
from host_tools.errors import LimpetError
from host_tools.line import open_line

_PATIENCE_S = 15.0
"""So long it is left alone: opening some ports resets the board."""
_LONGEST = 120


class Words:
    """The last line of a node that is waited for. Use as a context manager."""

    def __init__(self, port: str) -> None:
        self.last = ""
        self._name = port
        self._port: Any = None
        self._begun = b""
        self._from = time.monotonic() + _PATIENCE_S

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the port for a while."""
        if self._port is not None:
            with contextlib.suppress(OSError):
                self._port.close()
        self._port = None
        self._from = time.monotonic() + _PATIENCE_S

    def listen(self) -> None:
        """Take what has come. A port that does not let itself be read is no matter."""
        if time.monotonic() < self._from:
            return
        try:
            if self._port is None:
                self._port = open_line(self._name)
            *lines, self._begun = (self._begun + self._port.read(max(1, self._port.in_waiting))).split(b"\n")
        except (LimpetError, OSError):
            self.close()
            return
        for line in lines:
            self.last = readable(line.strip())[:_LONGEST] or self.last
