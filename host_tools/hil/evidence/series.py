"""What is drawn of a failed test: each channel's readings and what it was set to, on the test's own time."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from host_tools.hil.evidence.record import Result

_HOLE = 3.5
"""A line is broken where a reading comes later than so many times the usual period."""

Point = tuple[float, float]


@dataclass
class Series:
    """One channel; times are in seconds since the test's start."""

    channel: str
    readings: list[list[Point]] = field(default_factory=list)
    """In pieces: between two of them there is a hole."""
    bad: list[float] = field(default_factory=list)
    set_to: list[Point] = field(default_factory=list)
    elsewhere: int = 0
    """Readings that are dated outside of the test."""

    @property
    def values(self) -> list[float]:
        """All that must have a place on its scale."""
        return [value for piece in (*self.readings, self.set_to) for _, value in piece]


def series_of(result: Result, start: float, end: float) -> list[Series]:
    """The channels that have something to show between `start` and `end`, those with a stimulus first."""
    by_channel: dict[str, Series] = {}
    for channel, set_to in _stimuli(result).items():
        by_channel[channel] = Series(channel, set_to=set_to)
    for channel, samples in result.readings.items():
        found = by_channel.setdefault(channel, Series(channel))
        points = [(at - result.started, value) for at, value in samples]
        inside = sorted((point for point in points if start <= point[0] <= end), key=lambda point: point[0])
        found.elsewhere = len(points) - len(inside)
        found.bad = [at for at, value in inside if value is None]
        found.readings = list(_pieces(inside))
    return [each for each in by_channel.values() if each.values or each.bad or each.elsewhere]


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """About so many points that look the same: of each stretch the first, lowest, highest and last."""
    if len(points) <= most:
        return list(points)
    size = -(-len(points) * 4 // most)
    kept: list[Point] = []
    for at in range(0, len(points), size):
        stretch = points[at : at + size]
        low, high = (pick(stretch, key=lambda point: point[1]) for pick in (min, max))
        kept += sorted({stretch[0], low, high, stretch[-1]})
    return kept


def _stimuli(result: Result) -> dict[str, list[Point]]:
    found: dict[str, list[Point]] = defaultdict(list)
    for event in result.events:
        if event.source == "stimulus":
            for channel, value in event.values.items():
                if not isinstance(value, str):
                    found[channel].append((event.at - result.started, float(value)))
    return dict(found)


def _pieces(samples: Sequence[tuple[float, float | None]]) -> Iterator[list[Point]]:
    times = [at for at, _ in samples]
    periods = [later - earlier for earlier, later in pairwise(times)]
    longest = _HOLE * median(periods) if periods else 0.0
    piece: list[Point] = []
    before = None
    for at, value in samples:
        if piece and (value is None or (before is not None and at - before > longest > 0)):
            yield piece
            piece = []
        if value is not None:
            piece.append((at, value))
        before = at
    if piece:
        yield piece


def steps(points: Iterable[Point], end: float) -> list[Point]:
    """What was set stays so until it is set again."""
    corners: list[Point] = []
    for at, value in points:
        if corners:
            corners.append((at, corners[-1][1]))
        corners.append((at, value))
    if corners:
        corners.append((max(end, corners[-1][0]), corners[-1][1]))
    return corners
