"""Everything that happened on a rig, in order, from whoever saw it."""

import threading
import time
from collections import deque
from dataclasses import dataclass, field

MOST_EVENTS = 20_000
"""That are kept; then the oldest go."""

LONGEST_TEXT = 4_000
"""Characters of an event that are kept: a board may send megabytes without a line break."""

Value = int | float | str


@dataclass(frozen=True, slots=True)
class Event:
    """What `source` saw or did; `at` is in seconds since 1970, by this machine's clock."""

    at: float
    source: str
    text: str
    values: dict[str, Value] = field(default_factory=dict)


class Timeline:
    """Events as they come, from any thread.

    Sources: `serial`, `broker`, `power`, `link`, `stimulus`, `clock`, `node` and `test` (docs/evidence.md).
    """

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=MOST_EVENTS)
        self._count = 0
        self._lock = threading.Lock()

    def add(self, source: str, text: str, **values: Value) -> None:
        """Note that this happened, now."""
        with self._lock:
            self._events.append(Event(time.time(), source, _shortened(text), values))
            self._count += 1

    def mark(self) -> int:
        """A place in time, for `events`."""
        with self._lock:
            return self._count

    def events(self, since: int = 0) -> list[Event]:
        """Those after a mark. Where the oldest of them are no longer kept, the first one says how many."""
        with self._lock:
            first = self._count - len(self._events)
            kept = list(self._events)[max(0, since - first) :]
        gone = max(0, first - since)
        if gone:
            kept.insert(0, Event(kept[0].at, "test", f"{gone:,} events before this one are no longer kept"))
        return kept


def _shortened(text: str) -> str:
    more = len(text) - LONGEST_TEXT
    return text if more <= 0 else f"{text[:LONGEST_TEXT]}… ({more:,} more characters)"
