"""A set of whole numbers that is small as long as most of them are neighbours."""

from bisect import bisect_left, bisect_right


class Intervals:
    """Numbers, kept as sorted half-open intervals `starts[i] <= number < stops[i]` that never touch."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._starts)

    @property
    def pieces(self) -> int:
        """How many intervals there are."""
        return len(self._starts)

    @property
    def count(self) -> int:
        """How many numbers there are."""
        return sum(self._stops) - sum(self._starts)

    @property
    def start(self) -> int:
        """The lowest number; there must be one."""
        return self._starts[0]

    @property
    def stop(self) -> int:
        """Behind the highest number; there must be one."""
        return self._stops[-1]

    @property
    def first(self) -> tuple[int, int]:
        """The lowest interval; there must be one."""
        return self._starts[0], self._stops[0]

    @property
    def first_hole(self) -> tuple[int, int]:
        """What lies between the lowest interval and the next; there must be two."""
        return self._stops[0], self._starts[1]

    def add(self, start: int, stop: int) -> int:
        """Add the numbers from `start` to before `stop`; returns how many of them are new."""
        # From `low` to before `high` are the intervals that it overlaps or touches: they become one with it.
        low, high = bisect_left(self._stops, start), bisect_right(self._starts, stop)
        old = sum(self._stops[low:high]) - sum(self._starts[low:high])
        if low < high:
            start, stop = min(start, self._starts[low]), max(stop, self._stops[high - 1])
        self._starts[low:high] = [start]
        self._stops[low:high] = [stop]
        return stop - start - old

    def drop_first(self) -> None:
        """Forget the lowest interval."""
        del self._starts[0], self._stops[0]

    def within(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The intervals from `start` to before `stop`, cut to that."""
        low, high = bisect_right(self._stops, start), bisect_left(self._starts, stop)
        parts = zip(self._starts[low:high], self._stops[low:high], strict=True)
        return [(max(part_start, start), min(part_stop, stop)) for part_start, part_stop in parts]
