"""Runs a view over a stream of events until enough was seen, the user ends it, or something breaks."""

import contextlib
import os
import time
from collections.abc import Callable
from typing import Protocol, TextIO

from rich.console import Console
from rich.live import Live

from host_tools.demo import jsonl, plain, screen
from host_tools.demo.model import Model, Notice, Summary
from host_tools.telemetry.senml import Reading
from host_tools.telemetry.subscriber import Event

_TICK_S = 0.25  # the screen is drawn anew this often


class Source(Protocol):
    """Where events come from; `telemetry.subscriber.Subscriber` is one."""

    def next_event(self, timeout: float) -> Event | None:
        """The next event, or None when nothing comes for so many seconds."""


def _nothing() -> None:
    pass


def show(
    source: Source,
    out: TextIO,
    stop_after: int | None,
    about: screen.About,
    *,
    as_json: bool = False,
    from_start: bool = True,
    check: Callable[[], None] = _nothing,
) -> Summary:
    """Show what comes on `out`, and end it with the summary line; a table on a terminal, else plain lines.
    `as_json` makes each line an object.

    Ends after `stop_after` readings, or on Ctrl-C, or when nobody reads `out` any more; the last two make the
    summary `interrupted`. `check` is called at least every quarter of a second; what it raises ends the view.
    """
    model = Model(stop_after, from_start=from_start)
    began = time.monotonic()
    interrupted = False
    try:
        if not as_json and out.isatty() and os.environ.get("TERM") != "dumb":
            _live(source, Console(file=out), model, about, check)
        else:
            _lines(source, out, model, check, jsonl.line if as_json else plain.line)
    except (KeyboardInterrupt, BrokenPipeError):
        interrupted = True
    summary = _summary(model, began, interrupted)
    with contextlib.suppress(BrokenPipeError):
        print(jsonl.last_line(summary) if as_json else summary, file=out, flush=True)
    return summary


def _summary(model: Model, began: float, interrupted: bool) -> Summary:
    ledger = model.ledger
    seconds = time.monotonic() - began
    return Summary(
        ledger.readings, ledger.lost, ledger.duplicates, seconds, ledger.announced, interrupted=interrupted
    )


def _live(
    source: Source, console: Console, model: Model, about: screen.About, check: Callable[[], None]
) -> None:
    # Drawn by this thread alone: no second one to stop, and no half-drawn screen after Ctrl-C.
    with Live(console=console, auto_refresh=False) as live:
        drawn = 0.0
        while not model.is_complete:
            _step(source, model, check)
            if time.monotonic() - drawn >= _TICK_S or model.is_complete:
                live.update(screen.render(model, about, time.time()), refresh=True)
                drawn = time.monotonic()


def _lines(
    source: Source,
    out: TextIO,
    model: Model,
    check: Callable[[], None],
    line: Callable[[Reading | Notice], str],
) -> None:
    while not model.is_complete:
        for item in _step(source, model, check):
            print(line(item), file=out, flush=True)


def _step(source: Source, model: Model, check: Callable[[], None]) -> list[Reading | Notice]:
    check()
    event = source.next_event(_TICK_S)
    return model.take(event, time.time()) if event else []
