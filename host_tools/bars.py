"""The frame of what is shown of boards at work: a bar each on standard error, where that is a terminal."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from rich.progress import Progress


@contextlib.contextmanager
def bars(*, percent: bool = False, markup: bool = False) -> "Iterator[Progress | None]":
    """Room for a bar a task, as long as the `with` block runs; None where there is no terminal.

    Behind each bar stands the task's field `doing`, with rich's markup if `markup`; and how much is done
    if `percent`.
    """
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal or console.is_dumb_terminal:
        yield None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *([TaskProgressColumn()] if percent else []),
        TimeElapsedColumn(),
        TextColumn("{task.fields[doing]}", markup=markup),
    )
    with Progress(*columns, console=console, redirect_stdout=False, redirect_stderr=False) as progress:
        yield progress
