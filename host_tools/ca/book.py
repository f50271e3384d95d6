"""The ledger on disk: read whole, written a line at a time, durable before anything follows from it."""

import datetime
import os
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from host_tools.ca import ledger
from host_tools.ca.examine import Examined, examine
from host_tools.ca.folder import Folder
from host_tools.ca.ledger import BrokenLineError, Line
from host_tools.ca.state import State
from host_tools.errors import LimpetError, UnverifiedError
from host_tools.pki import files


class Book:
    """The ledger in a folder. Its lock must be held by who calls."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._last: Line | None = None
        self._end = 0  # bytes of whole lines
        self._known: tuple[int, bytes | None] | None = None
        self.state = State()

    def is_current(self) -> bool:
        """Whether the files are as this object knows them."""
        return self._known is not None and self._known == self._look()

    def read(self) -> Examined:
        """Read all of it anew.

        Raises UnverifiedError, with the line, if it was touched.
        """
        data, head = contents(self._folder)
        found = examine(data, head)
        if found.findings:
            raise UnverifiedError(
                f"The ledger of {self._folder.path} is not as it was left: {found.findings[0].text}; "
                "look with 'limpet ca audit', and restore it from a backup."
            )
        self.state, self._last = found.state, found.lines[-1]
        self._end = len(data) - len(found.torn)
        self._known = self._look()
        return found

    def append(
        self,
        key: ec.EllipticCurvePrivateKey,
        time: datetime.datetime,
        event: str,
        facts: Mapping[str, Any],
    ) -> Line:
        """Write the next line, sealed with `key`; what stood there of a torn one goes.

        When this returns the line is on the disk, and `state` knows it. `close` must follow.
        Raises LimpetError if it cannot be written.
        """
        n, prev = (self._last.n + 1, self._last.hash) if self._last else (1, ledger.NOTHING)
        line = ledger.compose(key, n, time, event, facts, prev)
        try:
            self.state.take(line)
        except BrokenLineError as error:
            raise ValueError(f"{event}: {error}") from None
        data = f"{line.text}\n".encode()
        try:
            _write_at(self._folder, self._end, data)
        except OSError as error:
            self._known = None
            raise LimpetError(f"{self._folder.ledger} cannot be written: {error.strerror}.") from None
        self._last = line
        self._end += len(data)
        return line

    def close(self, key: ec.EllipticCurvePrivateKey) -> None:
        """Write the head, sealed with `key`: the last line is done, with all that follows from it."""
        if self._last is None:
            raise ValueError("there is no line yet")
        head = ledger.compose_head(key, self._last)
        files.write_private(self._folder.head, f"{head.text}\n".encode())
        self._known = self._look()

    def _look(self) -> tuple[int, bytes | None]:
        try:
            size = self._folder.ledger.stat().st_size
            return size, self._folder.head.read_bytes() if self._folder.head.exists() else None
        except OSError as error:
            raise LimpetError(f"{self._folder.ledger} cannot be read: {error.strerror}.") from None


def contents(folder: Folder) -> tuple[bytes, bytes | None]:
    """The bytes of the ledger and of its head; None for a head that is missing."""
    data = files.read(folder.ledger, "ledger")
    head = files.read(folder.head, "ledger's head") if files.exists(folder.head) else None
    return data, head


def _write_at(folder: Folder, end: int, data: bytes) -> None:
    descriptor = os.open(folder.ledger, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        at = 0
        while at < len(data):
            at += os.pwrite(descriptor, data[at:], end + at)
        os.ftruncate(descriptor, end + len(data))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
