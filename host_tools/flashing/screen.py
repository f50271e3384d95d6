"""How far each board is: a bar each on a terminal, lines elsewhere. Both on standard error."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

from rich.progress import Progress

from host_tools.bars import bars
from host_tools.flashing.outcome import Outcome
from host_tools.flashing.run import Show

_QUARTERS = 4


class Lines:
    """A line for each step, and for each quarter of a long one."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._steps: dict[str, str] = {}
        self._quarters: dict[str, int] = {}

    def step(self, port: str, name: str) -> None:
        """A board begins something."""
        self._steps[port] = name
        self._quarters[port] = 0
        self._say(f"{port}: {name}")

    def progress(self, port: str, done: int, total: int) -> None:
        """It is so far with it."""
        quarter = _QUARTERS * done // total
        if self._steps[port] == "writing" and self._quarters[port] < quarter < _QUARTERS:
            self._quarters[port] = quarter
            self._say(f"{port}: writing, {100 * quarter // _QUARTERS} %")

    def remark(self, port: str, text: str) -> None:
        """Something is to be known of it."""
        self._say(text)

    def end(self, outcome: Outcome) -> None:
        """It is done with."""


class Bars:
    """A bar for each board."""

    def __init__(self, ports: Sequence[str], progress: Progress) -> None:
        self._progress = progress
        self._tasks = {port: progress.add_task(port, total=None, doing="waiting") for port in ports}

    def step(self, port: str, name: str) -> None:
        """A board begins something."""
        self._progress.reset(self._tasks[port], start=True, total=None, doing=name)

    def progress(self, port: str, done: int, total: int) -> None:
        """It is so far with it."""
        self._progress.update(self._tasks[port], completed=done, total=total)

    def remark(self, port: str, text: str) -> None:
        """Something is to be known of it."""
        self._progress.console.print(text, markup=False, highlight=False)

    def end(self, outcome: Outcome) -> None:
        """It is done with."""
        how = "done" if outcome.error is None else "failed"
        self._progress.update(self._tasks[outcome.port], completed=1, total=1, doing=how)
        self._progress.stop_task(self._tasks[outcome.port])


@contextlib.contextmanager
def shown(ports: Sequence[str], say: Callable[[str], None]) -> Iterator[Show]:
    """Bars if standard error is a terminal, else lines by `say`."""
    with bars(percent=True) as progress:
        yield Bars(ports, progress) if progress else Lines(say)
