"""How far each board is: a bar each, on a terminal. Elsewhere nothing, for it takes seconds."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

from host_tools.bars import bars

Show = Callable[[str, str, int, int], None]
"""Told a port, what is being done, and how many bytes of how many are sent."""


@contextlib.contextmanager
def shown(ports: Sequence[str]) -> Iterator[Show]:
    """Bars for these ports, as long as the `with` block runs."""
    with bars() as progress:
        if progress is None:
            yield lambda port, doing, sent, size: None
            return
        tasks = {port: progress.add_task(port, total=None, doing="waiting") for port in ports}

        def show(port: str, doing: str, sent: int, size: int) -> None:
            progress.update(tasks[port], completed=sent, total=size or None, doing=doing)

        yield show
