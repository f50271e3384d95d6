"""All that nodes have published, as a console heard it."""

import json
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from host_tools.hil.readings import Readings
from host_tools.telemetry import event
from host_tools.telemetry.event import Gap, Remark
from host_tools.telemetry.payload import PayloadError
from host_tools.telemetry.senml import Reading, decode
from host_tools.telemetry.subscriber import Message

_UNCONFIRMED = 1000
"""Messages of a topic among which is what the broker sends again: it has fewer on their way."""


@dataclass(frozen=True)
class Arrival:
    """A reading, and when it came, by this machine's clock."""

    reading: Reading
    at: float


class Heard:
    """Messages below `prefix` by node; any thread may add and ask."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._lock = threading.Lock()
        self._said: dict[tuple[str, str], list[Message]] = defaultdict(list)
        self._arrivals: dict[str, list[Arrival]] = defaultdict(list)
        self._malformed: dict[str, list[str]] = defaultdict(list)

    def add(self, message: Message) -> None:
        """Enter a message, unless it is one that the broker has sent again and that is here."""
        node, _, leaf = message.topic.removeprefix(f"{self._prefix}/").partition("/")
        with self._lock:
            said = self._said[node, leaf]
            if message.again and any(each.payload == message.payload for each in said[-_UNCONFIRMED:]):
                return
            said.append(message)
            if leaf == "data":
                try:
                    came = decode(message.payload, node)
                except PayloadError as error:
                    self._malformed[node].append(str(error))
                else:
                    self._arrivals[node] += [Arrival(each, message.received) for each in came]

    def said(self, node: str, leaf: str, *, live: bool = False) -> list[dict[str, Any]]:
        """What it said on a leaf, oldest first; `live` without what the broker had retained.

        Raises AssertionError when it is no JSON object.
        """
        return [parsed(each) for each in self._messages(node, leaf, live)]

    def events(self, node: str) -> list[Gap | Remark]:
        """What it told on `event`. Raises AssertionError when something there is none."""
        found = []
        for each in self._messages(node, "event", True):
            try:
                found.append(event.decode(each.payload))
            except PayloadError as error:
                raise AssertionError(f"{node} published what is no event: {error}") from None
        return found

    def readings(self, node: str) -> Readings:
        """Its readings. Raises AssertionError when it has published what is no pack."""
        told = [each for each in self.events(node) if isinstance(each, Gap)]
        with self._lock:
            if malformed := self._malformed.get(node):
                raise AssertionError(f"{node} published what is no pack of readings: {malformed[0]}")
            return Readings((each.reading for each in self._arrivals.get(node, ())), told)

    def latest(self, node: str, wanted: Callable[[Arrival], bool] = lambda _: True) -> Arrival | None:
        """The last reading that came, of those that are wanted."""
        with self._lock:
            return next((each for each in reversed(self._arrivals.get(node, ())) if wanted(each)), None)

    def _messages(self, node: str, leaf: str, live: bool) -> list[Message]:
        with self._lock:
            found = self._said.get((node, leaf), ())
            return [each for each in found if each.payload and not (live and each.retained)]


def parsed(message: Message) -> dict[str, Any]:
    """A message as JSON object. Raises AssertionError when it is none."""
    try:
        found = json.loads(message.payload)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise AssertionError(f"What came on {message.topic} is no JSON object: {message.payload[:80]!r}")
    return found
