"""The fleet record: which board has which MAC address, and what is on it. An SQLite file of the user's."""

import contextlib
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from host_tools.errors import LimpetError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS boards (
    mac TEXT PRIMARY KEY,        -- base MAC address, lower case with colons
    board TEXT NOT NULL,         -- name of the board file
    image TEXT NOT NULL,         -- SHA-256 (hex) of the flash image that is on it
    flashed_at TEXT NOT NULL     -- UTC, ISO 8601
)
"""
_PATIENCE_S = 10.0  # another limpet may be writing


class FleetError(LimpetError):
    """The fleet record cannot be read or written."""


class Fleet:
    """A fleet record; a file that does not exist is made. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        """Raises FleetError when the file cannot be made, is no fleet record, or cannot be written."""
        self._path = path
        with self._told():
            self._db = sqlite3.connect(path, timeout=_PATIENCE_S, isolation_level=None)
        try:
            with self._told():
                self._db.execute(_SCHEMA)
                self._db.execute("SELECT mac, board, image, flashed_at FROM boards LIMIT 1")
        except FleetError:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def board_of(self, mac: str) -> str | None:
        """The name of the board with this MAC address; None when the record does not have it."""
        with self._told():
            row = self._db.execute("SELECT board FROM boards WHERE mac = ?", (mac,)).fetchone()
        return None if row is None else str(row[0])

    def record(self, mac: str, board: str, image: str) -> None:
        """Note that `board` with this MAC address now has the flash image of this SHA-256."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self._told():
            self._db.execute(
                "INSERT INTO boards VALUES (?, ?, ?, ?) ON CONFLICT (mac) DO UPDATE SET "
                "board = excluded.board, image = excluded.image, flashed_at = excluded.flashed_at",
                (mac, board, image, now),
            )

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise FleetError(
                f"{self._path} cannot be used as a fleet record ({error}): name another file, or mend that."
            ) from None
