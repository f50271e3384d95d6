"""esptool without its console output, and without the work for a trace that nobody reads."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import esptool.loader
from esp_pylib.logger import EspLog, EspLogBase


class _Quiet(EspLogBase):
    """Keeps what esptool would print from the output of a command, which has words of its own."""

    on_progress: Callable[[int, int], None] | None = None

    def _say_nothing(self, *args: Any, **kwargs: Any) -> None:
        pass

    print = err = warn = note = hint = debug = set_verbosity = _say_nothing

    def progress_bar(self, cur_iter: int, total_iters: int, *args: Any, **kwargs: Any) -> None:
        if self.on_progress is not None:
            self.on_progress(cur_iter, total_iters)


class _NoDump:
    """In place of esptool's hex dump of each packet, made even without a trace: a second of CPU per MB."""

    def __init__(self, data: bytes, auto_split: bool = True) -> None:
        pass


_quiet = _Quiet()


def silence() -> None:
    """Let esptool say nothing, in this process, from now on."""
    EspLog.instance = _quiet
    esptool.loader.HexFormatter = _NoDump


@contextlib.contextmanager
def progress(report: Callable[[int, int], None]) -> Iterator[None]:
    """While the `with` block runs, tell `report` how far esptool's own progress bar would be, and of what."""
    _quiet.on_progress = report
    try:
        yield
    finally:
        _quiet.on_progress = None
