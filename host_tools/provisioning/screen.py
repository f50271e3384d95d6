"""How far each board is: a bar each on a terminal, a line a step elsewhere. Both on standard error."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence

from rich.progress import Progress, TaskID

from host_tools.bars import bars
from host_tools.provisioning.board import Show
from host_tools.provisioning.outcome import ALREADY, Outcome
from host_tools.provisioning.steps import STEPS


class Lines:
    """A line for each step."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def step(self, port: str, name: str) -> None:
        """A board begins something."""
        self._say(f"{port}: {name}")

    def progress(self, port: str, done: int, total: int) -> None:
        """It is so far with it."""

    def remark(self, port: str, text: str) -> None:
        """Something is to be known of it."""
        self._say(text)

    def say(self, text: str, colour: str) -> None:
        """A result, while others are still at work: it goes to standard output."""
        print(text, flush=True)

    def end(self, outcome: Outcome) -> None:
        """It is done with."""


class Bars:
    """A bar for each board: how many of the steps are done."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._steps: dict[str, int] = {}

    def add(self, port: str) -> None:
        """A board is to come."""
        if port in self._tasks:
            self._progress.remove_task(self._tasks[port])
        self._tasks[port] = self._progress.add_task(port, total=len(STEPS), doing="waiting")

    def step(self, port: str, name: str) -> None:
        """A board begins something."""
        self._steps[port] = STEPS.index(name)
        self._update(port, self._steps[port], name)

    def progress(self, port: str, done: int, total: int) -> None:
        """It is so far with it."""
        self._update(port, self._steps[port] + (done / total if total else 0.0))

    def remark(self, port: str, text: str) -> None:
        """Something is to be known of it."""
        self._progress.console.print(text, markup=False, highlight=False)

    def say(self, text: str, colour: str) -> None:
        """A result, while others are still at work: above the bars, with the bell."""
        if sys.stdout.isatty():
            self._progress.console.print(text, style=colour, markup=False, highlight=False)
        else:
            print(text, flush=True)
        self._progress.console.bell()

    def end(self, outcome: Outcome) -> None:
        """It is done with."""
        well = outcome.error is None
        how = f"{outcome.node_id} is in service" if well else "failed"
        self._update(outcome.port, len(STEPS) if well else None, f"[{colour_of(outcome)}]{how}[/]")
        self._progress.stop_task(self._tasks[outcome.port])

    def _update(self, port: str, completed: float | None, doing: str | None = None) -> None:
        if port not in self._tasks:
            self.add(port)
        self._progress.update(self._tasks[port], completed=completed)
        if doing is not None:
            self._progress.update(self._tasks[port], doing=doing)


def colour_of(outcome: Outcome) -> str:
    """The colour in which a board's end is shown."""
    return "red" if outcome.error else "cyan" if outcome.state == ALREADY else "green"


@contextlib.contextmanager
def shown(ports: Sequence[str], say: Callable[[str], None]) -> Iterator[Show]:
    """Bars if standard error is a terminal, else lines by `say`."""
    with bars(markup=True) as progress:
        if progress is None:
            yield Lines(say)
            return
        made = Bars(progress)
        for port in ports:
            made.add(port)
        yield made
