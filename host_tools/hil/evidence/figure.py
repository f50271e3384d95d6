"""The drawing of a failed test: plots and lanes of events on one axis of time. Places are in SVG's units."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from host_tools.hil.evidence.record import Result
from host_tools.hil.evidence.scale import Scale, around
from host_tools.hil.evidence.series import Point, Series, series_of, steps, thinned
from host_tools.hil.evidence.spans import Span, spans
from host_tools.hil.evidence.visible import visible
from host_tools.hil.timeline import Event

SOURCES = ("stimulus", "power", "link", "clock", "test", "broker", "node", "serial")
"""The lanes from top to bottom: first what was done to the node, then what it did."""

MOST_PLOTS = 8
MOST_ROWS = 2_000
"""Of the list of events below the drawing."""

_WIDTH, _LEFT, _RIGHT = 1160, 176, 1144
_AXIS, _PLOT, _LANE, _GAP = 26, 92, 30, 12
_LETTER = 5.7
"""About the width of a letter of a label."""
_DENSE = 40
"""Marks in a lane, from which on they are strokes without words."""
_MOST_POINTS = 800
_TIMES, _VALUES = 12, 5  # that are told on an axis, at most
_DOTS_UNTIL = 120

_DIGEST = re.compile(r"\b[0-9a-f]{16,}\b")
_ALARMING = re.compile(
    r"traceback|error|guru meditation|panic|abort\(|watchdog|wdt|brownout|assert", re.IGNORECASE
)


@dataclass(frozen=True)
class Row:
    """One event in the list."""

    number: int
    time: str
    source: str
    text: str
    values: str
    is_alarming: bool


@dataclass(frozen=True)
class Mark:
    """One event, or several that are too close to tell apart; it leads to the first one's row."""

    x: float
    row: int
    title: str
    label: str
    is_alarming: bool


@dataclass(frozen=True)
class Bar:
    """Something that lasted, in its lane; `shade` is over the whole height."""

    x: float
    width: float
    label: str
    title: str


@dataclass(frozen=True)
class Lane:
    """The events of one source."""

    source: str
    y: float
    count: int
    is_dense: bool
    marks: list[Mark]
    bars: list[Bar]


@dataclass(frozen=True)
class Plot:
    """One channel."""

    channel: str
    y: float
    ticks: list[tuple[float, str]]
    lines: list[str]
    dots: list[tuple[float, float]]
    stimulus: str
    bad: list[float]
    note: str


@dataclass(frozen=True)
class Figure:
    """All of it."""

    width: int
    height: float
    left: int
    right: int
    top: float
    bottom: float
    ticks: list[tuple[float, str]]
    begin: float
    end: float
    plots: list[Plot]
    plot_height: int
    not_drawn: list[str]
    lanes: list[Lane]
    lane_height: int
    shades: list[tuple[str, float, float]]
    rows: list[Row]
    rows_left_out: int


def figure_of(result: Result) -> Figure | None:
    """The drawing; None when nothing is known that could be drawn."""
    events = sorted(result.events, key=lambda event: event.at)
    if not events and not result.readings:
        return None
    start, end = _window(result, events)
    time = Scale(start, end, _LEFT, _RIGHT)
    series = series_of(result, start, end)
    lasted = spans(events, result.started + end)
    rows, left_out = _rows(result, events)
    plots = [_plot(each, time, _AXIS + n * (_PLOT + _GAP)) for n, each in enumerate(series[:MOST_PLOTS])]
    lanes_from = _AXIS + len(plots) * (_PLOT + _GAP)
    lanes = list(_lanes(result, events, lasted, time, lanes_from))
    bottom = lanes_from + len(lanes) * _LANE
    return Figure(
        width=_WIDTH,
        height=bottom + _AXIS,
        left=_LEFT,
        right=_RIGHT,
        top=_AXIS - 4,
        bottom=bottom,
        ticks=time.ticks(_TIMES),
        begin=time(0.0),
        end=time(result.seconds),
        plots=plots,
        plot_height=_PLOT,
        not_drawn=[visible(each.channel) for each in series[MOST_PLOTS:]],
        lanes=lanes,
        lane_height=_LANE,
        shades=[_shade(span, result, time) for span in lasted],
        rows=rows,
        rows_left_out=left_out,
    )


def _window(result: Result, events: Sequence[Event]) -> tuple[float, float]:
    """The test, and events before and after it; when a node says that it was does not count."""
    times = [event.at - result.started for event in events]
    first, last = min([0.0, *times]), max([result.seconds, *times, 0.001])
    air = (last - first) * 0.01
    return first - air, last + air


def _rows(result: Result, events: Sequence[Event]) -> tuple[list[Row], int]:
    left_out = max(0, len(events) - MOST_ROWS)
    rows = [
        Row(
            number,
            f"{event.at - result.started:+.3f}",
            event.source if event.source in SOURCES else "test",
            visible(event.text),
            visible("  ".join(f"{name}={_value(value)}" for name, value in event.values.items())),
            _is_alarming(event),
        )
        for number, event in enumerate(events)
        if number >= left_out
    ]
    return rows, left_out


def _lanes(
    result: Result, events: Sequence[Event], lasted: Sequence[Span], time: Scale, y: float
) -> Iterator[Lane]:
    by_source: dict[str, list[tuple[int, Event]]] = defaultdict(list)
    for number, event in enumerate(events):
        by_source[event.source if event.source in SOURCES else "test"].append((number, event))
    for source in SOURCES:
        if source not in by_source:
            continue
        bars = [_bar(span, result, time) for span in lasted if span.source == source]
        marks = list(_marks(by_source[source], result, time))
        is_dense = source == "serial" or len(marks) > _DENSE
        if not is_dense:
            marks = _labelled(marks)
        yield Lane(source, y, len(by_source[source]), is_dense, marks, bars)
        y += _LANE


def _marks(events: Sequence[tuple[int, Event]], result: Result, time: Scale) -> Iterator[Mark]:
    """One for all events that are at the same place."""
    for x, group in groupby(events, key=lambda item: round(time(item[1].at - result.started))):
        members = list(group)
        number, first = members[0]
        text = visible(_told(first))
        more = f" (and {len(members) - 1} more)" if len(members) > 1 else ""
        title = f"{first.at - result.started:+.3f} s  {text[:200]}{more}"
        yield Mark(x, number, title, visible(_label(first)), any(_is_alarming(event) for _, event in members))


def _labelled(marks: Sequence[Mark]) -> list[Mark]:
    """With as much of each label as fits before the next mark."""
    ends = [mark.x for mark in marks[1:]] + [float(_RIGHT)]
    return [
        Mark(mark.x, mark.row, mark.title, _fitting(mark.label, end - mark.x - 20), mark.is_alarming)
        for mark, end in zip(marks, ends, strict=True)
    ]


def _fitting(text: str, room: float) -> str:
    """The text on one line, cut so that it fits; nothing, if not even three letters do."""
    text = " ".join(text.split())
    letters = int(room / _LETTER)
    if len(text) <= letters:
        return text
    return f"{text[: letters - 1]}…" if letters > 3 else ""


def _bar(span: Span, result: Result, time: Scale) -> Bar:
    start, end = time(span.start - result.started), time(span.end - result.started)
    title = f"{visible(span.what)}, {span.end - span.start:.3f} s"
    return Bar(start, round(max(2.0, end - start), 1), visible(span.what), title)


def _shade(span: Span, result: Result, time: Scale) -> tuple[str, float, float]:
    bar = _bar(span, result, time)
    return span.source, bar.x, bar.width


def _plot(series: Series, time: Scale, y: float) -> Plot:
    low, high = around(series.values or [0.0])
    scale = Scale(low, high, y + _PLOT, y)
    ticks = scale.ticks(_VALUES) if series.values else []
    pieces = [thinned(piece, _MOST_POINTS) for piece in series.readings]
    dots = [(time(at), scale(value)) for piece in pieces for at, value in piece]
    alone = [(time(at), scale(value)) for piece in pieces if len(piece) == 1 for at, value in piece]
    elsewhere = f"{series.elsewhere} readings are dated outside of this test" if series.elsewhere else ""
    return Plot(
        channel=visible(series.channel),
        y=y,
        ticks=ticks,
        lines=[_path(piece, time, scale) for piece in pieces if len(piece) > 1],
        dots=dots if len(dots) <= _DOTS_UNTIL else alone,
        stimulus=_path(steps(thinned(series.set_to, _MOST_POINTS), time.high), time, scale),
        bad=[time(at) for at in series.bad],
        note=elsewhere,
    )


def _path(points: Iterable[Point], time: Scale, scale: Scale) -> str:
    return " ".join(f"{'L' if n else 'M'}{time(at)} {scale(value)}" for n, (at, value) in enumerate(points))


def _label(event: Event) -> str:
    """What is told of it in its lane, where there is little room."""
    numbers = {name: value for name, value in event.values.items() if not isinstance(value, str)}
    if event.source == "stimulus" and numbers:
        return ", ".join(f"{name.rpartition('/')[2]} {_value(value)}" for name, value in numbers.items())
    if event.source == "broker":
        return "/".join(event.text.split("/")[-2:])
    return _DIGEST.sub(lambda found: f"{found[0][:8]}…", _told(event))


def _told(event: Event) -> str:
    values = ", ".join(f"{name} {_value(value)}" for name, value in event.values.items())
    return f"{event.text}: {values}" if values else event.text


def _value(value: float | int | str) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _is_alarming(event: Event) -> bool:
    return event.source in ("serial", "node", "test") and bool(_ALARMING.search(event.text))
