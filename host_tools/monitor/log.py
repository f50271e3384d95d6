"""The file of `limpet monitor --log`: whole lines, appended, for as long as the disk takes them."""

import contextlib
import os
from pathlib import Path
from typing import Self

from host_tools.errors import LimpetError

_MODE = 0o600  # a board's output is nobody else's business


class Log:
    """Use as a context manager. Several monitors may append to the same file."""

    def __init__(self, path: Path) -> None:
        """Raises LimpetError when the file cannot be opened."""
        self._path = path
        self._missed = 0
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK  # a FIFO that nobody reads is refused
        try:
            self._fd = os.open(path, flags, _MODE)
        except OSError as error:
            raise LimpetError(
                f"{path} cannot be written ({error.strerror}): name another file by --log."
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            os.close(self._fd)

    def write(self, line: str) -> str | None:
        """Append a line. When that fails for the first time, a sentence that says so; lines that are missing
        are counted, and told in the file once it can be written again."""
        text = f"{line}\n"
        if self._missed:
            text = f"limpet monitor: {self._missed} lines are missing here\n{text}"
        reason = self._append(text.encode(errors="replace"))
        if reason is None:
            self._missed = 0
            return None
        self._missed += 1
        if self._missed > 1:
            return None
        return f"{self._path} cannot be written ({reason}): the log has a gap until it can; make room for it."

    def _append(self, data: bytes) -> str | None:
        """All of it or nothing; why it was nothing."""
        try:
            taken = os.write(self._fd, data)
        except OSError as error:
            return error.strerror or "no reason given"
        if taken == len(data):
            return None
        with contextlib.suppress(OSError):  # what cannot be cut off, as in a pipe, stays
            end = os.lseek(self._fd, 0, os.SEEK_CUR)
            if os.fstat(self._fd).st_size == end:  # nobody has appended to it since
                os.ftruncate(self._fd, end - taken)
        return "No space left on device"
