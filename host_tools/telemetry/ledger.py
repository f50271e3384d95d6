"""What of the readings arrived: how many, how many twice, how many not at all.

A node numbers its readings from 0, without a gap, within an epoch. So what is missing is known exactly,
and what came twice too, from the intervals of numbers that were seen. There is one interval as long as
nothing is missing, however many readings there are.
"""

from bisect import bisect_right
from enum import Enum

_EPOCHS = 64  # kept open for each node; a node that restarts more often has its oldest counted for good
_INTERVALS = 4096  # in an epoch; beyond that the oldest hole is counted as lost for good


class Verdict(Enum):
    """What a reading is to the ledger."""

    NEW = "new"
    LATE = "late"
    """New too, but after a reading with a higher number."""
    DUPLICATE = "duplicate"


class _Epoch:
    """The numbers seen in an epoch, as sorted half-open intervals `starts[i] <= seq < ends[i]`."""

    def __init__(self, first: int) -> None:
        self._first = first  # where a hole would begin
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._closed = 0  # numbers in holes that were given up

    def add(self, seq: int) -> Verdict:
        starts, ends = self._starts, self._ends
        at = bisect_right(starts, seq)  # the intervals before `at` start at or below seq
        if at and seq < ends[at - 1]:
            return Verdict.DUPLICATE
        verdict = Verdict.LATE if at < len(starts) else Verdict.NEW
        joins_left = at > 0 and ends[at - 1] == seq
        joins_right = at < len(starts) and starts[at] == seq + 1
        if joins_left and joins_right:
            ends[at - 1] = ends.pop(at)
            del starts[at]
        elif joins_left:
            ends[at - 1] = seq + 1
        elif joins_right:
            starts[at] = seq
        else:
            starts.insert(at, seq)
            ends.insert(at, seq + 1)
        self._first = min(self._first, seq)
        if len(starts) > _INTERVALS:
            self._closed += starts[1] - ends[0]
            ends[0] = ends.pop(1)
            del starts[1]
        return verdict

    @property
    def lost(self) -> int:
        """The numbers between the first and the last that were not seen."""
        seen = sum(self._ends) - sum(self._starts)
        return self._ends[-1] - self._first - seen + self._closed


class _Node:
    def __init__(self) -> None:
        self.epochs: dict[str, _Epoch] = {}  # in the order in which they were first seen
        self.is_fresh = True
        self.lost = 0  # in epochs that are no longer kept


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
        entry = self._nodes.setdefault(node, _Node())
        if epoch not in entry.epochs:
            from_zero = self._from_start or not entry.is_fresh
            entry.epochs[epoch] = _Epoch(0 if from_zero else seq)
            entry.is_fresh = False
            if len(entry.epochs) > _EPOCHS:
                entry.lost += entry.epochs.pop(next(iter(entry.epochs))).lost
        verdict = entry.epochs[epoch].add(seq)
        if verdict is Verdict.DUPLICATE:
            self.duplicates += 1
        else:
            self.readings += 1
            self.late += verdict is Verdict.LATE
        return verdict

    @property
    def lost(self) -> int:
        """Readings of all nodes that should have come and did not; one that comes late lowers it again."""
        return sum(
            node.lost + sum(epoch.lost for epoch in node.epochs.values()) for node in self._nodes.values()
        )
