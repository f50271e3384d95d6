"""The view on a terminal: a live table of channels, between what is known of the nodes and the broker."""

from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from host_tools.demo.model import Channel, Model, sparkline
from host_tools.demo.text import age_text, counts_text, size_text, value_text

_SPARKLINE = 15  # characters: four seconds each
_STALE_S = 15.0  # an age beyond this is marked
_TIME_MARKS = {"recovered": "*", "unknown": "?"}  # behind an age
_LEGEND = "* time recovered after the fact   ? time unknown: the earliest that it can be"
_NODE_STATES = {True: ("up", "green"), False: ("down", "bold red"), None: ("?", "yellow")}


@dataclass(frozen=True, slots=True)
class About:
    """What the console shows but cannot learn from messages: the broker's kind, and a note on the values."""

    broker: str
    note: str


def render(model: Model, about: About, now: float) -> RenderableType:
    """The whole screen at `now` (seconds since 1970); fits 80 columns."""
    return Group(_header(model, about), _table(model, now), _footer(model))


def _header(model: Model, about: About) -> RenderableType:
    link = ("connected", "green") if model.link.is_up else (model.link.why, "bold red")
    first = Text.assemble(
        ("limpet", "bold"),
        f"  {about.broker}: ",
        link,
        f", {model.messages} messages, {size_text(model.bytes)}",
    )
    second = Text("nodes: ")
    for node, up in sorted(model.nodes.items()):
        state, style = _NODE_STATES[up]
        second.append(f"{node} ").append(state, style).append("  ")
    if not model.nodes:
        second.append("none yet", "yellow")
    return Group(first, second, Text(about.note, "dim"))


def _table(model: Model, now: float) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, expand=True, pad_edge=False)
    # What has no room goes on in a second line; it is never cut.
    table.add_column("node", overflow="fold")
    table.add_column("channel", overflow="fold")
    table.add_column("value", justify="right", overflow="fold")
    table.add_column("last minute", no_wrap=True, width=_SPARKLINE)
    table.add_column("age", justify="right", no_wrap=True)
    for (node, name), channel in sorted(model.channels.items()):
        style = "dim" if model.nodes.get(node) is False else ""
        table.add_row(node, name, _value(channel), *_minute_and_age(channel, now), style=style)
    if model.channels:
        return table
    return Text("Waiting for the first reading.", "yellow")


def _value(channel: Channel) -> Text:
    bad = channel.latest.value is None
    return Text(value_text(channel.latest), "bold red" if bad else "bold")


def _minute_and_age(channel: Channel, now: float) -> tuple[Text, Text]:
    line = Text(sparkline(channel.points, now, _SPARKLINE), "cyan")
    line.highlight_regex("×", "bold red")
    age = now - channel.latest.unix_ms / 1000
    mark = _TIME_MARKS.get(channel.latest.quality, "")
    return line, Text(age_text(age), "red" if age > _STALE_S else "").append(mark, "yellow")


def _footer(model: Model) -> RenderableType:
    ledger = model.ledger
    counts = counts_text(ledger.readings, ledger.lost, ledger.announced, ledger.duplicates)
    lines: list[RenderableType] = [Text(f"{counts}    Ctrl-C ends")]
    if any(channel.latest.quality in _TIME_MARKS for channel in model.channels.values()):
        lines.append(Text(_LEGEND, "dim"))
    if model.notice:
        lines.append(Text(model.notice.text, "yellow", no_wrap=True, overflow="ellipsis"))
    return Group(*lines)
