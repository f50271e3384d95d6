"""How far a run is: a bar for each rig on a terminal, a line for each test elsewhere; on standard error."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise

from rich.progress import Progress, TaskID

from host_tools.bars import bars
from host_tools.hil.children import Ended, Job, Watch
from host_tools.hil.evidence import OUTCOMES, Result
from host_tools.hil.evidence.record import Line

_QUIET = ("passed",)


class Lines(Watch):
    """A line for each test that has ended."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def started(self, job: Job) -> None:
        """A job begins."""
        self._say(f"{job.name}: starting")

    def collected(self, job: Job, count: int) -> None:
        """It has so many tests to run."""
        self._say(f"{job.name}: {_tests(count)}")

    def remark(self, job: Job, text: str) -> None:
        """It says something beside the tests."""
        self._say(f"{job.name}: {text}")

    def line(self, job: Job, line: Line) -> None:
        """A test of it has begun, or ended."""
        if isinstance(line, Result):
            self._say(f"{job.name}: {told(line)}")

    def ended(self, ended: Ended) -> None:
        """It is over."""
        self._say(f"{ended.job.name}: {counted(ended)}")


class Bars(Watch):
    """A bar for each job, and above them what did not pass."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._done: dict[str, set[str]] = {}  # one test may have several attempts

    def started(self, job: Job) -> None:
        """A job begins."""
        self._tasks[job.name] = self._progress.add_task(job.name, total=None, doing="starting")
        self._done[job.name] = set()

    def collected(self, job: Job, count: int) -> None:
        """It has so many tests to run."""
        self._progress.update(self._tasks[job.name], total=count)

    def remark(self, job: Job, text: str) -> None:
        """It says something beside the tests."""
        self._print(f"{job.name}: {text}")

    def line(self, job: Job, line: Line) -> None:
        """A test of it has begun, or ended."""
        if not isinstance(line, Result):
            self._progress.update(self._tasks[job.name], doing=_short(line.test))
            return
        done = self._done[job.name]
        done.add(line.test)
        self._progress.update(self._tasks[job.name], completed=len(done))
        if line.outcome not in _QUIET:
            self._print(f"{job.name}: {told(line)}")

    def ended(self, ended: Ended) -> None:
        """It is over."""
        self._progress.update(self._tasks[ended.job.name], doing=counted(ended))
        self._progress.stop_task(self._tasks[ended.job.name])

    def _print(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def shown(say: Callable[[str], None]) -> Iterator[Watch]:
    """Bars if standard error is a terminal, else lines by `say`."""
    with bars() as progress:
        yield Bars(progress) if progress else Lines(say)


def told(result: Result) -> str:
    """A result in a line: outcome, test, and what was wrong with it: the error, where pytest marks one."""
    why = [line.strip() for line in result.why.splitlines() if line.strip()]
    errors = [line for before, line in pairwise(["", *why]) if _is_error(line) and not _is_error(before)]
    said = errors[-1].removeprefix("E").strip() if errors else why[-1] if why else ""
    return f"{result.outcome} {result.test}" + (f": {said}" if said else f" ({result.seconds:.1f} s)")


def counted(ended: Ended) -> str:
    """How a job ended: how many of each outcome, or that it broke off."""
    counts = Counter(each.outcome for each in ended.results)
    said = [f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if counts[outcome]] or ["no results"]
    return ", ".join([*said, "broke off"] if ended.broken else said)


def _is_error(line: str) -> bool:
    return line.startswith("E  ")


def _short(test: str) -> str:
    return test.rpartition("::")[2]


def _tests(count: int) -> str:
    return f"{count} {'test' if count == 1 else 'tests'}"
