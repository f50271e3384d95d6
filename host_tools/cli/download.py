"""How a download is shown: a bar on a terminal, lines elsewhere."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from host_tools.cli.app import remark

_STEP = 25  # per cent


@contextlib.contextmanager
def showing_progress() -> Iterator[Callable[[str, int, int | None], None]]:
    """A function that is told a name, the bytes that have arrived, and those to come in all if that is known.

    Nothing is shown as long as it is not called.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bars:
        yield _Bars(bars)


class _Bars:
    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, name: str, done: int, total: int | None) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total)
        self._bars.update(self._tasks[name], completed=done, total=total)


class _Lines:
    def __init__(self) -> None:
        self._next: dict[str, int] = {}

    def __call__(self, name: str, done: int, total: int | None) -> None:
        if name not in self._next:
            size = f", {total} bytes" if total else ""
            remark(f"Fetching {name}{size}, once.")
            self._next[name] = _STEP
        share = 100 * done // total if total else 0
        if share >= self._next[name]:
            remark(f"{name}: {share} %")
            self._next[name] = share - share % _STEP + _STEP
