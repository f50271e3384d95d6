"""How far it is: one bar on a terminal, and a line for each verdict everywhere; on standard error."""

import contextlib
from collections.abc import Callable, Collection, Iterator

from rich.progress import Progress, TaskID

from host_tools.bars import bars
from host_tools.hil.mutate.run import Show
from host_tools.hil.mutate.verdict import Verdict


class Lines:
    """Lines alone."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def phase(self, text: str, count: int) -> None:
        """Something begins that has so many steps."""
        self._say(f"{text}: {count}")

    def step(self, doing: Collection[str]) -> None:
        """A step is done; this is going on."""

    def verdict(self, verdict: Verdict) -> None:
        """There is a verdict."""
        self._say(verdict.text)


class Bar:
    """A bar for each phase, with what is going on behind it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = TaskID(0)

    def phase(self, text: str, count: int) -> None:
        """Something begins that has so many steps."""
        self._task = self._progress.add_task(text, total=count, doing="")

    def step(self, doing: Collection[str]) -> None:
        """A step is done; this is going on."""
        self._progress.update(self._task, advance=1, doing=", ".join(doing))

    def verdict(self, verdict: Verdict) -> None:
        """There is a verdict."""
        self._progress.console.print(verdict.text, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def shown(say: Callable[[str], None]) -> Iterator[Show]:
    """A bar if standard error is a terminal, else lines by `say`."""
    with bars() as progress:
        yield Bar(progress) if progress else Lines(say)
