"""What a broker got of a node's readings, and whether it is all that there should be. Pure: no I/O."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import overload

from host_tools.telemetry.event import Gap
from host_tools.telemetry.intervals import Intervals
from host_tools.telemetry.senml import Reading

_SHOWN = 3  # faults that a verdict spells out


@dataclass(frozen=True)
class Verdict:
    """True when nothing is wrong; else `faults` say what is, one short sentence each."""

    faults: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return not self.faults

    @property
    def why(self) -> str:
        """What is wrong, in one line; nothing when nothing is."""
        more = len(self.faults) - _SHOWN
        return "; ".join((*self.faults[:_SHOWN], *([f"and {more} more"] if more > 0 else [])))

    def __repr__(self) -> str:
        return f"<{self.why or 'all well'}>"


@dataclass(frozen=True)
class Cadence:
    """How regularly a channel's readings were taken, in seconds."""

    mean: float
    """The mean of the spacings."""
    jitter: float
    """Their standard deviation."""
    worst: float
    """The greatest distance of one from the mean."""


@dataclass(frozen=True)
class Hole:
    """Numbers of `epoch`, from `first` to `last`, that never came; `told` of them the node has told."""

    epoch: str
    first: int
    last: int
    told: int = 0

    @property
    def count(self) -> int:
        """How many that are."""
        return self.last - self.first + 1

    def __str__(self) -> str:
        numbers = f"{self.first}" if self.first == self.last else f"{self.first} to {self.last}"
        known = f" ({self.told} told by the node)" if self.told else ""
        return f"{numbers} of epoch {self.epoch} lost{known}"


@dataclass(frozen=True)
class _Arrived:
    """All that came of one node."""

    first: Mapping[tuple[str, int], Reading]
    """By epoch and number, in the order in which they came."""
    copies: Mapping[tuple[str, int], Sequence[Reading]]
    """What came again."""
    told: Sequence[Gap]


_Span = tuple[int, int]
"""The numbers in which a hole counts: the first, and behind the last."""


class Readings(Sequence[Reading]):
    """One node's readings, each once, in the order in which they came first.

    `arrived` is everything that came, what came twice included; `told` are the losses that the node has told.
    Numbers are expected from 0 in each epoch; in a slice and in `between`, from the lowest one there. A part
    of the readings still knows of the others: a hole in the numbers has no channel.
    """

    def __init__(self, arrived: Iterable[Reading], told: Iterable[Gap] = ()) -> None:
        first: dict[tuple[str, int], Reading] = {}
        copies: dict[tuple[str, int], list[Reading]] = defaultdict(list)
        spans: dict[str, _Span] = {}
        for each in arrived:
            key = (each.epoch, each.seq)
            if key in first:
                copies[key].append(each)
                continue
            first[key] = each
            spans[each.epoch] = 0, max(spans.get(each.epoch, (0, 0))[1], each.seq + 1)
        self._arrived = _Arrived(first, copies, tuple(told))
        self._shown: Sequence[Reading] = tuple(first.values())
        self._spans: Mapping[str, _Span] = spans

    def _part(self, shown: Iterable[Reading], spans: Mapping[str, _Span] | None = None) -> "Readings":
        part = Readings(())
        part._arrived, part._shown = self._arrived, tuple(shown)
        part._spans = _spans_of(part._shown) if spans is None else spans
        return part

    @overload
    def __getitem__(self, at: int) -> Reading: ...

    @overload
    def __getitem__(self, at: slice) -> "Readings": ...

    def __getitem__(self, at: int | slice) -> "Reading | Readings":
        return self._part(self._shown[at]) if isinstance(at, slice) else self._shown[at]

    def __len__(self) -> int:
        return len(self._shown)

    def __iter__(self) -> Iterator[Reading]:
        return iter(self._shown)

    def __add__(self, later: "Readings") -> "Readings":
        """These, and those that another broker got of the same node: first the ones, then the others."""
        ours, theirs = self._arrived, later._arrived
        every = [each for one in (ours, theirs) for each in one.first.values()]
        every += [each for one in (ours, theirs) for copies in one.copies.values() for each in copies]
        return Readings(every, (*ours.told, *theirs.told))

    def __repr__(self) -> str:
        return f"<{len(self)} readings of {', '.join(self.channels) or 'nothing'}>"

    # Parts

    def of(self, channel: str) -> "Readings":
        """Those of one channel, such as "bme280/temperature"."""
        return self._part((each for each in self if each.channel == channel), self._spans)

    def of_epoch(self, epoch: str) -> "Readings":
        """Those of one epoch, and no other numbers expected."""
        return self._part((each for each in self if each.epoch == epoch), {epoch: self._spans[epoch]})

    def between(self, start: float, end: float) -> "Readings":
        """Those that were taken then; both in seconds since 1970."""
        return self._part(each for each in self if start * 1000 <= each.unix_ms <= end * 1000)

    @property
    def bad(self) -> "Readings":
        """Those without a value: their `reason` says why."""
        return self._part((each for each in self if each.value is None), self._spans)

    @property
    def good(self) -> "Readings":
        """Those with a value."""
        return self._part((each for each in self if each.value is not None), self._spans)

    # What they say

    @property
    def channels(self) -> list[str]:
        """The names of their channels, sorted."""
        return sorted({each.channel for each in self})

    @property
    def epochs(self) -> list[str]:
        """Their epochs, in the order in which they came first."""
        return list(dict.fromkeys(each.epoch for each in self))

    @property
    def values(self) -> list[float]:
        """Their values; that of a bad reading is not a number (NaN)."""
        return [math.nan if each.value is None else float(each.value) for each in self]

    @property
    def times(self) -> list[float]:
        """When they were taken, in seconds since 1970."""
        return [each.unix_ms / 1000 for each in self]

    @property
    def duplicates(self) -> int:
        """How many came again, each time counted."""
        return sum(len(self._arrived.copies.get((each.epoch, each.seq), ())) for each in self)

    @property
    def altered(self) -> "Readings":
        """Those that came again as something else."""
        copies = self._arrived.copies
        return self._part(
            (
                each
                for each in self
                if any(_said(copy) != _said(each) for copy in copies.get((each.epoch, each.seq), ()))
            ),
            self._spans,
        )

    @property
    def holes(self) -> list[Hole]:
        """The numbers that never came, of any channel, up to the last that did."""
        return [hole for epoch, span in self._spans.items() for hole in self._holes(epoch, *span)]

    @property
    def lost(self) -> int:
        """How many never came, whether the node has told that or not."""
        return sum(hole.count for hole in self.holes)

    def cadence(self) -> Cadence:
        """How regularly they were taken. Raises ValueError unless they are two at least, of one channel."""
        if len(self.channels) != 1:
            raise ValueError(f"A cadence is of one channel, and these are of {len(self.channels)}: use of().")
        if len(self) < 2:
            raise ValueError("A cadence needs two readings at least, and there is one.")
        spacings = [(b.unix_ms - a.unix_ms) / 1000 for a, b in pairwise(self._by_number())]
        mean = statistics.fmean(spacings)
        return Cadence(mean, statistics.pstdev(spacings, mean), max(abs(each - mean) for each in spacings))

    # Verdicts

    def in_order(self) -> Verdict:
        """Whether they came as they were taken: the oldest first."""
        newest: dict[str, int] = {}
        faults = []
        for each in self:
            if each.seq < newest.get(each.epoch, -1):
                faults.append(f"{each.seq} of epoch {each.epoch} came after {newest[each.epoch]}")
            newest[each.epoch] = max(each.seq, newest.get(each.epoch, -1))
        return Verdict(tuple(faults) if self else _NOTHING)

    def without_gaps(
        self, period: float | None = None, tolerance: float = 0.5, *, reboots: int = 0, pause: float = 60.0
    ) -> Verdict:
        """Whether all of them are there, good, and the same each time they came.

        With a `period`, in seconds, each channel's readings must be that far apart too, give or take
        `tolerance` periods; but so many times as there were `reboots`, up to `pause` seconds later.
        """
        if not self:
            return Verdict(_NOTHING)
        faults = [str(hole) for hole in self.holes]
        faults += [f"{each.seq} of epoch {each.epoch} came again as something else" for each in self.altered]
        faults += [f"{each.channel} is bad in {each.seq}: {each.reason}" for each in self.bad]
        if period is not None:
            for channel in self.channels:
                faults += _misdated(self.of(channel)._by_number(), period, tolerance, reboots, pause)
        return Verdict(tuple(faults))

    def _holes(self, epoch: str, start: int, stop: int) -> Iterator[Hole]:
        told = Intervals()
        for gap in self._arrived.told:
            if gap.epoch == epoch:
                told.add(gap.first, gap.last + 1)
        came = sorted(seq for of, seq in self._arrived.first if of == epoch and start <= seq < stop)
        for before, after in pairwise((start - 1, *came, stop)):
            if after - before > 1:
                known = sum(end - begin for begin, end in told.within(before + 1, after))
                yield Hole(epoch, before + 1, after - 1, known)

    def _by_number(self) -> list[Reading]:
        order = {epoch: at for at, epoch in enumerate(self.epochs)}
        return sorted(self, key=lambda each: (order[each.epoch], each.seq))


_NOTHING = ("there are no readings",)


def _spans_of(readings: Iterable[Reading]) -> dict[str, _Span]:
    spans: dict[str, _Span] = {}
    for each in readings:
        start, stop = spans.get(each.epoch, (each.seq, 0))
        spans[each.epoch] = min(start, each.seq), max(stop, each.seq + 1)
    return spans


def _said(reading: Reading) -> tuple[object, ...]:
    # Not its time: that may be known better when it comes again.
    return reading.channel, reading.unit, reading.value, reading.reason


def _misdated(
    readings: Sequence[Reading], period: float, tolerance: float, reboots: int, pause: float
) -> Iterator[str]:
    """What is wrong with the times of one channel's readings."""
    for before, after in pairwise(readings):
        spacing = (after.unix_ms - before.unix_ms) / 1000
        if abs(spacing - period) <= tolerance * period:
            continue
        if reboots and period < spacing <= pause:
            reboots -= 1
            continue
        yield f"{after.channel}: {spacing:.3f} s from {before.seq} to {after.seq} of epoch {after.epoch}"
