"""What goes wrong between us and a board's REPL."""

import re

from host_tools.errors import LimpetError, NoDeviceError


class ReplError(NoDeviceError):
    """The board cannot be reached, or does not answer as MicroPython does."""


class BoardError(LimpetError):
    """The board raised an exception; `last_line` is the last line of its traceback, `OSError: 28` perhaps."""

    def __init__(self, port: str, last_line: str) -> None:
        super().__init__(f"{port}: the board failed: {last_line}.")
        self.last_line = last_line

    @property
    def errno(self) -> int | None:
        """MicroPython's number of an OSError (the same as Linux's)."""
        match = re.match(r"OSError: (?:\[Errno )?(\d+)", self.last_line)
        return int(match[1]) if match else None


class Damaged(Exception):
    """What came is not what was sent."""
