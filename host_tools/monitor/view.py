"""What a user sees of what boards do: which name, which lines marked, as text or as JSON. No I/O here."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlsplit

from host_tools.monitor.link import Event
from host_tools.monitor.traceback import BEGINS, Source, Traceback, checkout_version

Style = Literal["plain", "remark", "traceback", "source"]


@dataclass(frozen=True)
class Shown:
    """One line of the view."""

    time: datetime
    name: str
    port: str
    style: Style
    text: str

    def plain(self, width: int = 0) -> str:
        """For people: local time, and the name filled up to `width` characters."""
        return (
            f"{self.time.astimezone():%H:%M:%S}.{self.time:%f}"[:12] + f" {self.name:<{width}}  {self.text}"
        )

    def dated(self) -> str:
        """For a file: UTC with its date."""
        return f"{self.time:%Y-%m-%dT%H:%M:%S}.{self.time:%f}"[:23] + f"Z {self.name} {self.text}"


class _Board:
    def __init__(self) -> None:
        self.node: str | None = None
        self.version: str | None = None
        self.traceback = Traceback()
        self.has_warned = False


class View:
    """Knows the boards by what they have said so far."""

    def __init__(self) -> None:
        self._boards: dict[str, _Board] = {}
        self._checkout = checkout_version()

    def add(self, port: str) -> None:
        self._boards.setdefault(port, _Board())

    def show(self, event: Event) -> tuple[list[Shown], dict[str, Any]]:
        """The lines for an event, and what JSON says of it."""
        self.add(event.port)
        board = self._boards[event.port]
        board.version = event.version or board.version
        board.node = event.node or board.node
        in_traceback, source = False, None
        if event.kind == "line":
            in_traceback, source = board.traceback.follow(event.text)
        board.has_warned = board.has_warned and event.text != BEGINS
        differs = source is not None and None not in (board.version, self._checkout)
        other = board.version if differs and board.version != self._checkout else None
        return (
            list(self._lines(event, board, in_traceback, source, other)),
            _json(event, board.node, in_traceback, source, other),
        )

    def _lines(
        self, event: Event, board: _Board, in_traceback: bool, source: Source | None, other: str | None
    ) -> Iterator[Shown]:
        def line(style: Style, text: str) -> Shown:
            return Shown(event.time, self._name(event.port), event.port, style, text)

        if event.lost:
            yield line("remark", f"-- {event.lost} lines are missing here: the view was too slow for them")
        if event.kind != "line":
            if event.version is None:  # who tells its version has said all of it in a line
                yield line("remark", f"-- {event.text}")
            return
        yield line("traceback" if in_traceback else "plain", event.text)
        if source:
            yield line("source", f"    → {source.file}:{source.line}: {source.text}")
        if other and not board.has_warned:
            board.has_warned = True
            yield line(
                "remark",
                f"-- the board runs limpet {other} and this checkout is {self._checkout}: the lines "
                "marked → may be others",
            )

    def _name(self, port: str) -> str:
        node = self._boards[port].node
        if node is None:
            return short(port)
        alone = [other.node for other in self._boards.values()].count(node) == 1
        return node if alone else f"{node} on {short(port)}"


def short(port: str) -> str:
    """A port's name without what all of them begin with."""
    return urlsplit(port).netloc if "://" in port else port.removeprefix("/dev/")


def _json(
    event: Event, node: str | None, in_traceback: bool, source: Source | None, other: str | None
) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "time": event.time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "port": event.port,
        "node": node,
        "event": event.kind,
        "text": event.text,
    }
    if event.kind == "line":
        shown["traceback"] = in_traceback
    if source:
        shown["source"] = {**asdict(source), "board_runs": other} if other else asdict(source)
    if event.lost:
        shown["lost"] = event.lost
    return shown
