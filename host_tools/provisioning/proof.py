"""Sees at the brokers that a node has come: its first `about`, told in this moment and not retained."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self

from host_tools.errors import LimpetError
from host_tools.pki.names import OPERATOR
from host_tools.telemetry.reach import Place
from host_tools.telemetry.subscriber import Link, Message, Subscriber, TlsFiles

_GLANCE_S = 0.1
_AGAIN_S = 2.0


class Witness:
    """Listens at all brokers at which a node may appear, from the `with` block's begin to its end.

    A broker that is not there is tried again and again. `credential` gives an operator's, and may make a new
    one each time. Threads may share a witness.
    """

    def __init__(self, places: Sequence[Place], prefix: str, credential: Callable[[], TlsFiles]) -> None:
        self._places = tuple(places)
        self._prefix = prefix
        self._credential = credential
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._why: dict[Place, str] = {}
        self._up: set[Place] = set()
        self._gaps = 0
        self._waiting: dict[str, queue.SimpleQueue[Message]] = {}
        self._threads = [
            threading.Thread(target=self._listen, args=(place,), name=f"witness at {place}", daemon=True)
            for place in self._places
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def gaps(self) -> int:
        """How many times a broker was lost: who waited meanwhile may have missed what came."""
        return self._gaps

    def is_there(self, seconds: float = 0.0) -> bool:
        """Whether a broker can be listened to, within so many seconds. It is known why not then."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._up), seconds)
            return bool(self._up)

    def why_not(self) -> str:
        """Why no broker can be listened to: a sentence."""
        with self._changed:
            reasons = [self._why[place] for place in self._places if place in self._why]
        brokers = " and ".join(map(str, self._places))
        return reasons[0] if reasons else f"The broker {brokers} has not answered yet."

    @contextlib.contextmanager
    def expecting(self, node_id: str) -> Iterator["queue.SimpleQueue[Message]"]:
        """Each `about` that this node says from now on."""
        heard: queue.SimpleQueue[Message] = queue.SimpleQueue()
        with self._changed:
            self._waiting[node_id] = heard
        try:
            yield heard
        finally:
            with self._changed:
                del self._waiting[node_id]

    def _listen(self, place: Place) -> None:
        while not self._stop.is_set():
            try:
                self._session(place)
            except LimpetError as error:
                with self._changed:
                    self._why[place] = str(error)
            self._stop.wait(_AGAIN_S)

    def _session(self, place: Place) -> None:
        """A session, from its begin to whatever ends it."""
        subscriber = Subscriber(
            place.host,
            place.port,
            self._credential(),
            client_id=OPERATOR,
            prefix=self._prefix,
            name=place.name,
            topics=(f"{self._prefix}/+/about",),
        )
        with subscriber:
            self._is_up(place, True)
            try:
                while not self._stop.is_set():
                    event = subscriber.next_event(_GLANCE_S)
                    if isinstance(event, Message):
                        self._take(event)
                    elif isinstance(event, Link) and not event.is_up:
                        with self._changed:
                            self._why[place] = f"The broker {place} was lost: {event.why}."
                        return
            finally:
                self._is_up(place, False)

    def _is_up(self, place: Place, up: bool) -> None:
        with self._changed:
            if up:
                self._up.add(place)
            else:
                self._up.discard(place)
                self._gaps += 1
            self._changed.notify_all()

    def _take(self, message: Message) -> None:
        if message.retained:
            return
        node_id = message.topic.removeprefix(f"{self._prefix}/").removesuffix("/about")
        with self._changed:
            heard = self._waiting.get(node_id)
        if heard:
            heard.put(message)


def moment(message: Message) -> str:
    """When a message came: UTC, ISO 8601, milliseconds."""
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(message.received))
    return f"{seconds}.{int(message.received * 1000) % 1000:03}+00:00"
