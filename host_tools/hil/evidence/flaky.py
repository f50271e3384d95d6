"""What each test did on each rig so far, and which of them are in quarantine: one SQLite file, for many runs.

A quarantine is a loan of trust: it has a reason, it ends by itself after at most 90 days, and a test in it
still runs and is still shown.
"""

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from host_tools.errors import LimpetError, UsageError
from host_tools.hil.evidence.collect import Results
from host_tools.hil.evidence.record import Outcome, Result

MOST_DAYS = 90

_PATIENCE_S = 10.0  # another run may be writing
_DAY_S = 86_400.0
_VERSION = 1
_SCHEMA = f"""
CREATE TABLE runs (
    test TEXT NOT NULL, rig TEXT NOT NULL, at REAL NOT NULL, outcome TEXT NOT NULL, attempts INTEGER NOT NULL,
    PRIMARY KEY (test, rig, at)
) WITHOUT ROWID;
CREATE TABLE quarantines (
    test TEXT NOT NULL, rig TEXT NOT NULL, since REAL NOT NULL, until REAL NOT NULL, why TEXT NOT NULL,
    PRIMARY KEY (test, rig)
) WITHOUT ROWID;
PRAGMA user_version = {_VERSION};
"""


@dataclass(frozen=True)
class Run:
    """One result of the past; `at` is when it began, in seconds since 1970."""

    at: float
    outcome: Outcome
    attempts: int


@dataclass(frozen=True)
class Quarantine:
    """Until then a failure of this test on this rig does not count. Times are in seconds since 1970."""

    test: str
    rig: str
    since: float
    until: float
    why: str


@dataclass(frozen=True)
class Tally:
    """How often a test ran on a rig, was flaky there, or failed; what was blocked is no run."""

    test: str
    rig: str
    runs: int
    flaky: int
    failed: int
    last: float
    """When it ran last."""


def outcome_with_quarantine(outcome: Outcome, quarantine: Quarantine | None, now: float) -> Outcome:
    """What a result counts as: a failure in quarantine is told from others; all else is what it is."""
    if outcome == "failed" and quarantine is not None and quarantine.since <= now < quarantine.until:
        return "quarantined"
    return outcome


def with_quarantine(results: Results, quarantines: Iterable[Quarantine]) -> Results:
    """All results as they count, each at the moment at which it began."""
    by_key = {(each.test, each.rig): each for each in quarantines}

    def judged(result: Result) -> Result:
        quarantine = by_key.get((result.test, result.rig))
        outcome = outcome_with_quarantine(result.outcome, quarantine, result.started)
        if quarantine is None or outcome == result.outcome:
            return result
        until = datetime.fromtimestamp(quarantine.until, UTC).strftime("%Y-%m-%d")
        told = f"{result.why}\nIn quarantine until {until}: {quarantine.why}"
        return replace(result, outcome=outcome, why=told.strip())

    return replace(results, results=tuple(map(judged, results)))


class Ledger:
    """The file. Use as a context manager; several processes may. All raise LimpetError if it fails."""

    def __init__(self, path: Path) -> None:
        """Open it; what does not exist is made."""
        self._path = path
        with self._told():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=_PATIENCE_S, isolation_level=None)
        try:
            with self._told():
                self._bring_up_to_date()
        except LimpetError:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def record(self, results: Iterable[Result]) -> None:
        """Take these runs in. Those that it has already stay as they are, so a folder may be read again."""
        rows = [(each.test, each.rig, each.started, each.outcome, each.attempts) for each in results]
        with self._change():
            self._db.executemany("INSERT OR IGNORE INTO runs VALUES (?, ?, ?, ?, ?)", rows)

    def history(self, test: str, rig: str) -> list[Run]:
        """All runs of a test on a rig, the newest first."""
        with self._told():
            rows = self._db.execute(
                "SELECT at, outcome, attempts FROM runs WHERE test = ? AND rig = ? ORDER BY at DESC",
                (test, rig),
            )
            return [Run(*row) for row in rows]

    def unsteady(self) -> list[Tally]:
        """The tests that were flaky on a rig, or both passed and failed there; the least steady first."""
        with self._told():
            rows = self._db.execute(
                "SELECT test, rig, count(*) AS runs, sum(outcome = 'flaky') AS flaky, "
                "sum(outcome IN ('failed', 'quarantined')) AS failed, max(at) FROM runs "
                "WHERE outcome != 'blocked' GROUP BY test, rig HAVING flaky OR failed BETWEEN 1 AND runs - 1 "
                "ORDER BY (flaky + failed) * 1.0 / runs DESC, runs DESC, test, rig"
            )
            return [Tally(*row) for row in rows]

    def quarantine(self, test: str, rig: str, days: float, why: str, now: float | None = None) -> Quarantine:
        """Let failures of this test on this rig not count for so long. One that it is in already is replaced.

        Raises UsageError for a time that is too long or none, and without a reason.
        """
        if not 0 < days <= MOST_DAYS:
            raise UsageError(
                f"A quarantine of {days:g} days: it must be more than 0 and at most {MOST_DAYS}."
            )
        if not why.strip():
            raise UsageError("A quarantine needs a reason, which the reports will show: say why.")
        since = time.time() if now is None else now
        made = Quarantine(test, rig, since, since + days * _DAY_S, why.strip())
        with self._change():
            self._db.execute(
                "INSERT OR REPLACE INTO quarantines VALUES (?, ?, ?, ?, ?)",
                (made.test, made.rig, made.since, made.until, made.why),
            )
        return made

    def release(self, test: str, rig: str) -> None:
        """End a quarantine before its time. Raises UsageError when there is none."""
        with self._change():
            gone = self._db.execute(
                "DELETE FROM quarantines WHERE test = ? AND rig = ?", (test, rig)
            ).rowcount
        if not gone:
            raise UsageError(f"'{test}' is not in quarantine on '{rig}'.")

    def quarantines(self, now: float | None = None) -> list[Quarantine]:
        """Those that have not expired; the one that expires first is the first."""
        with self._told():
            rows = self._db.execute(
                "SELECT test, rig, since, until, why FROM quarantines WHERE until > ? "
                "ORDER BY until, test, rig",
                (time.time() if now is None else now,),
            )
            return [Quarantine(*row) for row in rows]

    def _bring_up_to_date(self) -> None:
        with self._change():
            version: int = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > _VERSION:
                raise LimpetError(f"{self._path} is of a newer limpet: use that one, or name another file.")
            if not version:
                for statement in _SCHEMA.split(";"):
                    self._db.execute(statement)

    @contextmanager
    def _change(self) -> Iterator[None]:
        """All of it, or nothing."""
        with self._told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise LimpetError(
                f"The ledger of test runs {self._path} cannot be used ({error}): let it be written, or name "
                "another file."
            ) from None
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError:  # what its subclasses tell is a mistake of ours
                raise
            raise LimpetError(
                f"{self._path} is no ledger of test runs: name another file, or move it away."
            ) from None
        except OSError as error:
            raise LimpetError(
                f"The ledger of test runs {self._path} cannot be made ({error.strerror}): name another file."
            ) from None
