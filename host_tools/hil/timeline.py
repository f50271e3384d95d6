"""Everything that happened on a rig, in order, from whoever saw it."""

import threading
import time
from collections import deque
from dataclasses import dataclass, field

_MOST = 20_000
"""Events that are kept; then the oldest go."""

Value = float | int | str


@dataclass(frozen=True, slots=True)
class Event:
    """What `source` saw or did; `at` is in seconds since 1970, by this machine's clock."""

    at: float
    source: str
    text: str
    values: dict[str, Value] = field(default_factory=dict)


class Timeline:
    """Events as they come, from any thread."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=_MOST)
        self._count = 0
        self._lock = threading.Lock()

    def add(self, source: str, text: str, **values: Value) -> None:
        with self._lock:
            self._events.append(Event(time.time(), source, text, values))
            self._count += 1

    def mark(self) -> int:
        """A place in time, for `events`."""
        with self._lock:
            return self._count

    def events(self, since: int = 0) -> list[Event]:
        """Those after a mark, as far as they are kept."""
        with self._lock:
            first = self._count - len(self._events)
            return list(self._events)[max(0, since - first) :]
