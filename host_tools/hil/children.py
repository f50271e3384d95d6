"""pytest in processes of its own, several side by side, followed by what they record of each test."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from host_tools.errors import LimpetError
from host_tools.hil.evidence import Result, Tail
from host_tools.hil.evidence.record import Line

PLAIN = ("--color=no", "-pno:cacheprovider", "-Wignore::pytest.PytestAssertRewriteWarning")
"""Words of every job: what pytest says goes to a file, and what it remembers would be of all jobs at once."""

LOG = "pytest.log"
"""Below the folder of a job's evidence: what its pytest has said."""

_CAME_TO_ITS_END = (0, 1, 5)  # exit codes of pytest: all passed, some failed, there were no tests
_LOOK_S = 0.1
_GRACE_S = 20.0  # to take down what the tests have built: brokers, boards
_COLLECTED = re.compile(
    r"^collected (\d+) items?(?:.* (\d+) selected)?|^\d+ workers? \[(\d+) items?\]", re.MULTILINE
)
REMARK = "limpet: "
"""What the plugin says beside the tests begins like that, on a line of its own."""
_REMARKS = re.compile(rf"^{REMARK}(.+)\n", re.MULTILINE)
_COMPLAINT = re.compile(r"^(?:ERROR:?|INTERNALERROR>|E  |E\t|Error:)\s+(\S.*)", re.MULTILINE)


@dataclass(frozen=True)
class Job:
    """A run of pytest: its name for the user, its words, the folder of its evidence, and for how many seconds
    it may go on (None: for ever)."""

    name: str
    words: tuple[str, ...]
    folder: Path
    patience_s: float | None = None


@dataclass(frozen=True)
class Ended:
    """A job that is over. `code` is its exit code, negative for a signal; None when its time was up."""

    job: Job
    code: int | None
    results: tuple[Result, ...]

    @property
    def broken(self) -> str | None:
        """The sentence for a run that did not come to its end, so that results are missing; else None."""
        if self.code in _CAME_TO_ITS_END:
            return None
        log = self.job.folder / LOG
        if self.code is None:
            what = f"did not end within {self.job.patience_s:g} s"
        elif self.code < 0:
            what = f"was killed by {_signal(-self.code)} after {_tests(len(self.results))}"
        else:
            what = f"broke off ({complaint(_text(log))})"
        return f"{self.job.name}: pytest {what}: see {log}."


class Watch:
    """Who wants to know how it goes: override what matters."""

    def started(self, job: Job) -> None:
        """A job begins."""

    def collected(self, job: Job, count: int) -> None:
        """It has so many tests to run."""

    def remark(self, job: Job, text: str) -> None:
        """It says something beside the tests, such as for whom it waits."""

    def line(self, job: Job, line: Line) -> None:
        """A test of it has begun, or ended."""

    def ended(self, ended: Ended) -> None:
        """It is over."""


def run_all(jobs: Sequence[Job], watch: Watch, most: int | None = None) -> list[Ended]:
    """Run the jobs, `most` of them side by side; how they ended, in their order.

    Ended by an exception, it ends them as Ctrl-C does, and those that do not follow by a kill: what they have
    recorded until then is there. Raises LimpetError when a folder cannot be written.
    """
    waiting = list(jobs)
    running: list[_Child] = []
    over: dict[str, Ended] = {}
    with contextlib.ExitStack() as stack:
        try:
            while waiting or running:
                while waiting and len(running) < (most or len(jobs)):
                    running.append(stack.enter_context(_Child(waiting.pop(0), watch)))
                time.sleep(_LOOK_S)
                for child in running[:]:
                    if ended := child.look():
                        running.remove(child)
                        over[ended.job.name] = ended
                        watch.ended(ended)
        except BaseException:
            for child in running:  # all at once; each is waited for by its exit
                child.interrupt()
            raise
    return [over[job.name] for job in jobs]


def collected(log: str) -> int | None:
    """How many tests a run of pytest said that it has; None as long as it has not."""
    found = _COLLECTED.search(log)
    return int(next(number for number in reversed(found.groups()) if number)) if found else None


def complaint(log: str) -> str:
    """The line with which pytest says why it runs no tests."""
    said = [each.strip() for each in _COMPLAINT.findall(log)] or [
        line for line in log.splitlines() if line.strip()
    ]
    return said[-1].rstrip(".:") if said else "it gave no reason"


@dataclass
class _Child:
    """A job's process. It ends with the `with` block."""

    job: Job
    watch: Watch
    _results: list[Result] = field(default_factory=list)
    _is_counted: bool = False
    _remarks: int = 0

    def __enter__(self) -> Self:
        try:
            self.job.folder.mkdir(parents=True, exist_ok=True)
            log = (self.job.folder / LOG).open("wb")
        except OSError as error:
            raise LimpetError(
                f"The evidence cannot be written to {self.job.folder} ({error.strerror}): "
                "name another folder."
            ) from None
        self.watch.started(self.job)
        self._began = time.monotonic()
        self._tail = Tail(self.job.folder)
        with log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "host_tools.hil.runner", *self.job.words],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # a Ctrl-C is for us
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        if self._process.stdin:
            self._process.stdin.close()

    def look(self) -> Ended | None:
        """Tell what is new; how it ended, once it has."""
        code = self._process.poll()  # first: what was recorded before the end is read below
        is_late = self.job.patience_s is not None and time.monotonic() - self._began > self.job.patience_s
        if code is None and is_late:
            self._end()
        log = _text(self.job.folder / LOG)
        if not self._is_counted and (count := collected(log)) is not None:
            self._is_counted = True
            self.watch.collected(self.job, count)
        remarks = _REMARKS.findall(log)
        for text in remarks[self._remarks :]:
            self.watch.remark(self.job, text)
        self._remarks = len(remarks)
        for _, line in self._tail.news():
            if isinstance(line, Result):
                self._results.append(line)
            self.watch.line(self.job, line)
        if code is None and not is_late:
            return None
        return Ended(self.job, code, tuple(self._results))

    def interrupt(self) -> None:
        """Ask it to end; it takes down what its tests have built."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)

    def _end(self) -> None:
        if self._process.poll() is None:
            self.interrupt()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_S)
        if self._process.returncode not in _CAME_TO_ITS_END:
            # It, if it does not follow, and what it leaves running.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def _text(log: Path) -> str:
    return log.read_text(errors="replace")


def _signal(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def _tests(count: int) -> str:
    return f"{count} {'test' if count == 1 else 'tests'}"
