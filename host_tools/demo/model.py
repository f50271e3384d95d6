"""What a console knows of its nodes, from the messages alone; no terminal, no network, no clock."""

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from host_tools.demo.text import counts_text, gap_text
from host_tools.telemetry import event as events
from host_tools.telemetry.ledger import Ledger, Verdict
from host_tools.telemetry.payload import PayloadError
from host_tools.telemetry.senml import Reading, decode
from host_tools.telemetry.subscriber import Event, Link, Message

HISTORY_S = 60.0
"""How long the points of a channel are kept, in seconds of the node's time."""

_POINTS = 1200  # of a channel: a minute at 20 a second


@dataclass(slots=True)
class Channel:
    """A channel of a node: its latest reading, and its points: seconds since 1970, value (None when bad)."""

    latest: Reading
    points: deque[tuple[float, float | None]] = field(default_factory=lambda: deque(maxlen=_POINTS))


@dataclass(frozen=True, slots=True)
class Notice:
    """Something other than a reading that the user should know, at so many seconds since 1970."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run has seen; its text is the line that ends it."""

    readings: int
    lost: int
    duplicates: int
    seconds: float
    announced: int = 0
    """Those of `lost` that the node has announced."""
    interrupted: bool = False

    def __str__(self) -> str:
        counts = counts_text(self.readings, self.lost, self.announced, self.duplicates)
        return f"{counts}, {self.seconds:.1f} s"


class Model:
    """The state that both views show.

    `limit` ends the count: further readings, even of the same pack, are left untouched. `from_start` is as in
    `Ledger`.
    """

    def __init__(self, limit: int | None = None, *, from_start: bool = True) -> None:
        self._limit = limit
        self.ledger = Ledger(from_start=from_start)
        self.link = Link(False, "connecting")
        self.messages = 0
        self.bytes = 0
        self.nodes: dict[str, bool | None] = {}
        """Whether each node is up, as its `state` topic says; None until it has said so."""
        self.channels: dict[tuple[str, str], Channel] = {}
        """By node and channel name."""
        self.notice: Notice | None = None
        """The latest one."""

    @property
    def is_complete(self) -> bool:
        """Whether as many readings were seen as `limit` asks for."""
        return self._limit is not None and self.ledger.readings >= self._limit

    def take(self, event: Event, now: float) -> list[Reading | Notice]:
        """Enter an event; returns what is new in it, in order. `now` is in seconds since 1970."""
        if isinstance(event, Link):
            return self._take_link(event, now)
        self.messages += 1
        self.bytes += event.size
        leaf = event.topic.rpartition("/")[2]
        if leaf == "data":
            return self._take_data(event)
        if leaf == "state":
            return self._take_state(event)
        if leaf == "event":
            return self._take_event(event)
        return []

    def _take_link(self, link: Link, now: float) -> list[Reading | Notice]:
        was_up = self.link.is_up
        self.link = link
        if link.is_up == was_up:
            return []
        return self._note(now, "connected to the broker" if link.is_up else f"lost the broker: {link.why}")

    def _take_data(self, message: Message) -> list[Reading | Notice]:
        node = _node(message.topic)
        try:
            readings = decode(message.payload, node)
        except PayloadError as error:
            return self._note(message.received, f"{node}: payload refused, {error}")
        self.nodes.setdefault(node, None)
        new: list[Reading | Notice] = []
        for reading in readings:
            if self.is_complete:
                break
            if self.ledger.add(reading.node, reading.epoch, reading.seq) is not Verdict.DUPLICATE:
                self._enter(reading)
                new.append(reading)
        return new

    def _enter(self, reading: Reading) -> None:
        channel = self.channels.setdefault((reading.node, reading.channel), Channel(reading))
        at = reading.unix_ms / 1000
        channel.points.append((at, None if reading.value is None else float(reading.value)))
        if reading.unix_ms >= channel.latest.unix_ms:
            channel.latest = reading
        horizon = channel.latest.unix_ms / 1000 - HISTORY_S
        while channel.points and channel.points[0][0] < horizon:
            channel.points.popleft()

    def _take_state(self, message: Message) -> list[Reading | Notice]:
        node = _node(message.topic)
        if not message.payload:
            return []  # an empty retained message clears the topic
        try:
            state = json.loads(message.payload)
            up = state["up"]
        except (ValueError, TypeError, KeyError, RecursionError):
            up = None
        if not isinstance(up, bool):
            return self._note(message.received, f"{node}: its state is not as it should be")
        was_up = self.nodes.get(node)
        self.nodes[node] = up
        return [] if up == was_up else self._note(message.received, f"{node}: {'up' if up else 'down'}")

    def _take_event(self, message: Message) -> list[Reading | Notice]:
        node = _node(message.topic)
        try:
            event = events.decode(message.payload)
        except PayloadError as error:
            return self._note(message.received, f"{node}: event refused, {error}")
        if isinstance(event, events.Remark):
            return self._note(message.received, f"{node}: {event.source}: {event.text}")
        if not self.ledger.explain(node, event.epoch, event.first, event.last):
            return []  # the broker may deliver an event twice
        return self._note(message.received, f"{node}: {gap_text(event)}")

    def _note(self, at: float, text: str) -> list[Reading | Notice]:
        self.notice = Notice(at, text)
        return [self.notice]


def _node(topic: str) -> str:
    """The node in `<prefix>/<node>/<leaf>`; the prefix may have levels of its own."""
    name = topic.split("/")[-2]
    return name if name.isprintable() else ascii(name)


BARS = "▁▂▃▄▅▆▇█"
BAD = "×"


def sparkline(points: Sequence[tuple[float, float | None]], now: float, width: int) -> str:
    """The last minute up to `now` in `width` characters, oldest first.

    Each character stands for an equal part of the minute: a bar for the mean of its values, between the
    lowest and the highest mean, `×` where a reading was bad, a blank where there was none.
    """
    step = HISTORY_S / width
    last = int(now // step)  # slots lie on multiples of `step`, so points stay together as they move left
    slots: list[list[float | None]] = [[] for _ in range(width)]
    for at, value in points:
        slot = int(at // step) - last + width - 1
        if 0 <= slot < width:
            slots[slot].append(value)
    means = [_mean(values) for values in slots]
    known = [mean for mean in means if isinstance(mean, float)]
    low = min(known, default=0.0)
    span = max(known, default=0.0) - low
    return "".join(mean if isinstance(mean, str) else _bar(mean - low, span) for mean in means)


def _mean(values: list[float | None]) -> float | str:
    """The mean of a slot's values, or the character that stands for a slot without one."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return BAD
    return sum(known) / len(known) if known else " "


def _bar(above: float, span: float) -> str:
    if not span:
        return BARS[len(BARS) // 2]
    return BARS[min(int(above / span * len(BARS)), len(BARS) - 1)]
