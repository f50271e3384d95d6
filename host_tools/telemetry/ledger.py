"""What of the readings arrived: how many, how many twice, how many not at all.

A node numbers its readings from 0, without a gap, within an epoch. So what is missing is known exactly,
and what came twice too, from the intervals of numbers that were seen. There is one interval as long as
nothing is missing, however many readings there are. Some losses the node announces: a spool that was full
too long, or damaged. A loss that it does not know of must never be.
"""

from enum import Enum

from host_tools.telemetry.intervals import Intervals

_EPOCHS = 64  # kept open for each node; a node with more has its oldest counted for good
_INTERVALS = 4096  # in an epoch; beyond that the oldest hole is counted as lost for good


class Verdict(Enum):
    """What a reading is to the ledger."""

    NEW = "new"
    LATE = "late"
    """New too, but after a reading with a higher number."""
    DUPLICATE = "duplicate"


class _Epoch:
    """The numbers of an epoch: those that were seen, and those that the node has announced as lost."""

    def __init__(self, first: int | None) -> None:
        self._first = first  # where a hole would begin; None: at the lowest number seen
        self._seen = Intervals()
        self._announced = Intervals()
        self._given_up = 0  # numbers that were never seen, though they are in `_seen`
        self._given_up_announced = 0

    def add(self, seq: int) -> Verdict:
        seen = self._seen
        is_late = bool(seen) and seq < seen.stop
        if not seen.add(seq, seq + 1):
            return Verdict.DUPLICATE
        if seen.pieces > _INTERVALS:
            self._give_up(*seen.first_hole)
        return Verdict.LATE if is_late else Verdict.NEW

    def explain(self, first: int, last: int) -> int:
        new = self._announced.add(first, last + 1)
        if self._announced.pieces > _INTERVALS:
            start, stop = self._announced.first
            if self._seen:
                self._give_up(max(start, self._start), min(stop, self._seen.stop))
            self._announced.drop_first()
        return new

    def _give_up(self, start: int, stop: int) -> None:
        """Count for good what was not seen from `start` to before `stop`."""
        if start < stop:
            announced = self._unseen_announced(start, stop)
            self._given_up += self._seen.add(start, stop)
            self._given_up_announced += announced

    def _unseen_announced(self, start: int, stop: int) -> int:
        numbers = 0
        for since, upto in self._announced.within(start, stop):
            numbers += upto - since - sum(end - begin for begin, end in self._seen.within(since, upto))
        return numbers

    @property
    def _start(self) -> int:
        return self._seen.start if self._first is None else min(self._first, self._seen.start)

    @property
    def lost(self) -> int:
        """The numbers between the first and the last that were not seen."""
        if not self._seen:
            return 0
        return self._seen.stop - self._start - self._seen.count + self._given_up

    @property
    def announced(self) -> int:
        """Those of `lost` that were announced."""
        if not self._seen:
            return 0
        return self._unseen_announced(self._start, self._seen.stop) + self._given_up_announced


class _Node:
    def __init__(self) -> None:
        self.epochs: dict[str, _Epoch] = {}  # in the order in which they were first heard of
        self.is_fresh = True
        self.lost = 0  # in epochs that are no longer kept
        self.announced = 0


class Ledger:
    """Counts the readings of any number of nodes by (node, epoch, seq).

    `from_start` says that the receiver was there before the nodes began, so everything before an epoch's
    first number is lost too. Otherwise that holds from a node's second epoch on, for a receiver that joins
    in the middle cannot have missed what came before.

    Memory is bounded: a node has 64 epochs kept, an epoch 4096 intervals. Past that the oldest epoch or hole
    is counted for good: a reading that still comes for that epoch counts as new, for that hole as duplicate.
    """

    def __init__(self, *, from_start: bool = False) -> None:
        self._from_start = from_start
        self._nodes: dict[str, _Node] = {}
        self.readings = 0
        """Different readings seen."""
        self.duplicates = 0
        """Readings seen before."""
        self.late = 0
        """Readings that came after one with a higher number; they count in `readings` too."""

    def add(self, node: str, epoch: str, seq: int) -> Verdict:
        """Enter a reading and say what it is."""
        verdict = self._epoch(node, epoch).add(seq)
        if verdict is Verdict.DUPLICATE:
            self.duplicates += 1
        else:
            self.readings += 1
            self.late += verdict is Verdict.LATE
        return verdict

    def explain(self, node: str, epoch: str, first: int, last: int) -> int:
        """Enter that the node has announced the readings from `first` to `last` as lost; returns how many of
        them it had not announced before. May come before the readings around them."""
        return self._epoch(node, epoch).explain(first, last)

    def _epoch(self, node: str, epoch: str) -> _Epoch:
        entry = self._nodes.setdefault(node, _Node())
        if epoch not in entry.epochs:
            from_zero = self._from_start or not entry.is_fresh
            entry.epochs[epoch] = _Epoch(0 if from_zero else None)
            entry.is_fresh = False
            if len(entry.epochs) > _EPOCHS:
                oldest = entry.epochs.pop(next(iter(entry.epochs)))
                entry.lost += oldest.lost
                entry.announced += oldest.announced
        return entry.epochs[epoch]

    @property
    def lost(self) -> int:
        """Readings of all nodes that should have come and did not; one that comes late lowers it again."""
        return sum(
            node.lost + sum(epoch.lost for epoch in node.epochs.values()) for node in self._nodes.values()
        )

    @property
    def announced(self) -> int:
        """Those of `lost` that their nodes have announced."""
        return sum(
            node.announced + sum(epoch.announced for epoch in node.epochs.values())
            for node in self._nodes.values()
        )

    @property
    def unexplained(self) -> int:
        """Those of `lost` that nobody knows of: there must be none, once all is delivered."""
        return self.lost - self.announced
