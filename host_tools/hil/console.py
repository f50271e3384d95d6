"""A console that listens in a thread, and misses nothing while the broker keeps its session."""

import threading
import time
from collections.abc import Callable, Sequence

from host_tools.telemetry.subscriber import Message, Subscriber, TlsFiles

_GLANCE_S = 0.05
_LAST_WORDS_S = 10.0
_QUIET_S = 0.05


class Console:
    """One connection to the broker on this machine, and not another one when that is lost.

    `on_message` runs in a thread of its own.
    """

    def __init__(
        self,
        port: int,
        tls: TlsFiles,
        client_id: str,
        topics: Sequence[str],
        on_message: Callable[[Message], None],
        *,
        keeps_session: bool = False,
    ) -> None:
        self._subscriber = Subscriber(
            "127.0.0.1",
            port,
            tls,
            client_id=client_id,
            name="localhost",
            topics=topics,
            keeps_session=keeps_session,
            reconnects=False,
        )
        self._on_message = on_message
        self._is_up = False
        self._count = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="console", daemon=True)

    def start(self) -> None:
        """Connect and subscribe. Raises SubscriberError."""
        self._thread.start()
        try:
            self._subscriber.start()
        except BaseException:
            self._end()
            raise
        self._is_up = True

    def stop(self) -> None:
        """Take leave."""
        self._subscriber.stop()
        self._end()

    def hear_out(self) -> None:
        """Read what a broker has said that has just ended, and stop then."""
        end = time.monotonic() + _LAST_WORDS_S
        while self._is_up and time.monotonic() < end:
            time.sleep(0.005)
        self.stop()

    def hear_all(self) -> None:
        """Wait until a broker that is held says nothing more."""
        end = time.monotonic() + _LAST_WORDS_S
        count = -1
        while count != self._count and time.monotonic() < end:
            count = self._count
            time.sleep(_QUIET_S)

    def publish(self, topic: str, payload: bytes, seconds: float) -> bool:
        """Publish with QoS 1; whether the broker has confirmed it within so many seconds."""
        return self._subscriber.publish(topic, payload, seconds)

    def _end(self) -> None:
        self._stop.set()
        self._thread.join()
        self._is_up = False

    def _listen(self) -> None:
        while True:
            event = self._subscriber.next_event(_GLANCE_S)
            if isinstance(event, Message):
                self._on_message(event)
                self._count += 1
            elif event is not None:
                self._is_up = event.is_up
            elif self._stop.is_set():
                return
