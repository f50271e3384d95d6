"""`limpet monitor`: listens to boards and shows what they say, until Ctrl-C."""

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, Queue
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from host_tools.devices.port import Port, describe, ports
from host_tools.errors import NoDeviceError
from host_tools.monitor.link import Event, Link
from host_tools.monitor.log import Log
from host_tools.monitor.view import Shown, View

_MOST_WAITING = 10000
"""Events that wait for a slow terminal; what comes then is counted."""
_LOOK_AGAIN_S = 1.0
_FAREWELL_S = 2.0
_COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green", "bright_magenta")
_Show = Callable[[list[Shown], dict[str, Any]], None]
_STYLES = {"plain": "", "remark": "dim", "traceback": "red", "source": "bold"}


def run(
    names: Sequence[str],
    *,
    everything: bool,
    log: Path | None,
    as_json: bool,
    out: TextIO,
    remark: Callable[[str], None],
) -> None:
    """Show the boards on the ports `names`, and with `everything` all that are plugged in or come to be. Ends
    by Ctrl-C, or when nobody reads `out` any more.

    Raises NoDeviceError when none of the ports opens, and LimpetError when `log` cannot be written at all.
    """
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(Log(log)) if log else None
        monitor = _Monitor(_screen(as_json, out), file, remark)
        stack.callback(monitor.stop)
        there = ports()
        for name in names:
            monitor.add(describe(name, there))
        if everything:
            monitor.add_boards()
            if not monitor.links:
                raise NoDeviceError(
                    "No port here looks like a board's: plug one in, or name its port by --port."
                )
        with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
            monitor.watch(everything)


class _Monitor:
    def __init__(self, show: _Show, log: Log | None, remark: Callable[[str], None]) -> None:
        self.links: dict[str, Link] = {}
        self._show = show
        self._log = log
        self._remark = remark
        self._events: Queue[Event] = Queue(_MOST_WAITING)
        self._view = View()
        self._failed: list[Event] = []
        self._has_begun = False

    def add(self, port: Port) -> None:
        if port.name not in self.links:
            self._view.add(port.name)
            self.links[port.name] = Link(port, self._events, ports)
            self.links[port.name].start()

    def add_boards(self) -> None:
        """Listen to every board that nobody listens to yet."""
        taken = {each for link in self.links.values() for each in (link.port.name, link.current)}
        for port in ports():
            if port.may_be_a_board and port.name not in taken:
                self.add(port)

    def watch(self, everything: bool) -> None:
        looked = time.monotonic()
        while True:
            with contextlib.suppress(Empty):
                self._take(self._events.get(timeout=_LOOK_AGAIN_S))
            if everything and time.monotonic() - looked >= _LOOK_AGAIN_S:
                looked = time.monotonic()
                self.add_boards()

    def stop(self) -> None:
        for link in self.links.values():
            link.stop()
        end = time.monotonic() + _FAREWELL_S
        for link in self.links.values():
            link.join(max(0.0, end - time.monotonic()))

    def _take(self, event: Event) -> None:
        """Show an event. Gives up when not one port opens; later there is always something to wait for."""
        if not self._has_begun and event.kind == "down":
            self._failed.append(event)
            if len(self._failed) == len(self.links):
                first, count = self._failed[0].text, len(self.links)
                raise NoDeviceError(first if count == 1 else f"None of the {count} ports opens. {first}")
            return
        self._has_begun = True
        while self._failed:
            self._say(self._failed.pop(0))
        self._say(event)

    def _say(self, event: Event) -> None:
        lines, value = self._view.show(event)
        for line in lines:
            trouble = self._log.write(line.dated()) if self._log else None
            if trouble:
                self._remark(f"limpet: {trouble}")
        self._show(lines, value)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Nobody reads any more: the normal end here, and not an exit code of rich's own."""
        with contextlib.suppress(SystemExit):
            super().on_broken_pipe()
        raise BrokenPipeError


def _screen(as_json: bool, out: TextIO) -> _Show:
    if as_json:

        def tell(_lines: list[Shown], value: dict[str, Any]) -> None:
            print(json.dumps(value, ensure_ascii=False), file=out, flush=True)

        return tell
    console = _Console(file=out, highlight=False, soft_wrap=True)
    colours: dict[str, str] = {}
    width = 0

    def show(lines: list[Shown], _value: dict[str, Any]) -> None:
        nonlocal width
        for line in lines:
            width = max(width, len(line.name))
            colour = colours.setdefault(line.port, _COLOURS[len(colours) % len(_COLOURS)])
            text = Text(line.plain(width))
            text.stylize("dim", 0, 12)
            text.stylize(colour, 13, 13 + len(line.name))
            text.stylize(_STYLES[line.style], 13 + width + 2)
            console.print(text)

    return show
