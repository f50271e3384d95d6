"""What a broker tells about nodes, over mutual TLS: MQTT 3.1.1, QoS 1, never in plaintext."""

import concurrent.futures
import queue
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from host_tools.errors import LimpetError

_KEEPALIVE_S = 15
_BACKLOG = 10_000  # events; then the broker has to wait, for nothing is acknowledged unread


class SubscriberError(LimpetError):
    """The broker cannot be reached, is not the one it should be, or does not want us."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the authority that signs brokers, our own certificate, and its private key."""

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it came; `received` is in seconds since 1970, by this machine's clock.

    A `retained` one was said before we came, nobody knows when. The broker may have sent one `again` that we
    have not confirmed (the DUP flag, MQTT 3.1.1 §3.3.1.1).
    """

    topic: str
    payload: bytes
    received: float
    retained: bool = False
    again: bool = False

    @property
    def size(self) -> int:
        """Bytes of the payload."""
        return len(self.payload)


@dataclass(frozen=True, slots=True)
class Link:
    """The connection to the broker came up, or was lost: `why` says so in a few words."""

    is_up: bool
    why: str = ""


Event = Message | Link


class _NamedContext(ssl.SSLContext):
    """Checks the broker's certificate against a name of our choice instead of the address we dial."""

    name = ""

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        return super().wrap_socket(*args, **(kwargs | {"server_hostname": self.name}))


class Subscriber:
    """Subscribes `<prefix>/+/+`, or all of `topics`, and hands out what comes, in order, by `next_event`.

    `name` is what the broker's certificate must bear, by default the host. The broker may want `client_id`
    to be the one in our certificate. After `start` a lost connection is made anew until `stop`; messages of
    the time in between are not seen, unless the subscriber `keeps_session`: then the broker keeps them, for
    the next one of that id too. One that never `reconnects` is down for good then. As a context manager it
    starts and stops.
    """

    def __init__(
        self,
        host: str,
        port: int,
        tls: TlsFiles,
        *,
        client_id: str,
        prefix: str = "limpet",
        name: str = "",
        topics: Sequence[str] = (),
        keeps_session: bool = False,
        reconnects: bool = True,
    ) -> None:
        self._address = f"{host}:{port}"
        self._host, self._port = host, port
        self._name = name or host
        self._tls = tls
        self._topics = tuple(topics) or (f"{prefix}/+/+",)
        self._events: queue.Queue[Event] = queue.Queue(_BACKLOG)
        self._outcome: concurrent.futures.Future[Link] = concurrent.futures.Future()  # of `start`
        self._stopping = threading.Event()
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=not keeps_session,
            protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=reconnects,
        )
        self._client.reconnect_delay_set(min_delay=1, max_delay=10)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.on_disconnect = self._on_disconnect

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, timeout: float = 10.0) -> None:
        """Connect and subscribe; returns when the broker has confirmed it. Raises SubscriberError."""
        self._client.tls_set_context(_context(self._tls, self._name))
        self._client.connect_timeout = timeout
        try:
            self._client.connect(self._host, self._port, _KEEPALIVE_S)
        except ssl.SSLCertVerificationError as error:
            raise SubscriberError(
                f"The broker at {self._address} is not trusted ({error.verify_message}): it needs a valid "
                f"certificate for '{self._name}' from the authority that is trusted here."
            ) from None
        except TimeoutError:
            raise self._unreachable("it does not answer") from None
        except OSError as error:
            raise self._unreachable((error.strerror or type(error).__name__).lower()) from None
        try:
            self._client.loop_start()
            outcome = self._outcome.result(timeout)
        except TimeoutError:
            outcome = Link(False, "it does not answer")
        except BaseException:
            self.stop()
            raise
        if not outcome.is_up:
            self.stop()
            raise self._unreachable(outcome.why)

    def stop(self) -> None:
        """Take leave of the broker and end the network thread; what was received can still be read."""
        self._stopping.set()
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes, timeout: float) -> bool:
        """Publish with QoS 1; whether the broker has confirmed it within so many seconds."""
        told = self._client.publish(topic, payload, qos=1)
        try:
            told.wait_for_publish(timeout)
            return told.is_published()
        except (RuntimeError, ValueError):  # there is no connection at the moment
            return False

    def next_event(self, timeout: float) -> Event | None:
        """The next event, or None when nothing comes for so many seconds."""
        try:
            return self._events.get(timeout=timeout)
        except queue.Empty:
            return None

    def _unreachable(self, why: str) -> SubscriberError:
        return SubscriberError(
            f"Cannot subscribe at the broker {self._address}: {why}. See that it runs, and that it admits "
            "the certificates of this authority."
        )

    def _report(self, link: Link) -> None:
        if not self._outcome.done():
            self._outcome.set_result(link)
        self._put(link)

    def _put(self, event: Event) -> None:
        while not self._stopping.is_set():
            try:
                self._events.put(event, timeout=0.2)
                return
            except queue.Full:
                continue

    # These run in paho's network thread. A message is acknowledged when `_on_message` returns.

    def _on_connect(
        self, client: Client, _data: object, _flags: ConnectFlags, code: ReasonCode, _: Properties | None
    ) -> None:
        if code.is_failure:
            self._report(Link(False, f"it refused us, {code.getName().lower()}"))
        else:
            client.subscribe([(topic, 1) for topic in self._topics])

    def _on_subscribe(
        self, _client: Client, _data: object, _id: int, codes: list[ReasonCode], _: Properties | None
    ) -> None:
        refused = any(code.is_failure for code in codes)
        self._report(
            Link(False, f"it does not let us read {' and '.join(self._topics)}") if refused else Link(True)
        )

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self._put(Message(message.topic, bytes(message.payload), time.time(), message.retain, message.dup))

    def _on_disconnect(
        self, _client: Client, _data: object, _flags: DisconnectFlags, _code: ReasonCode, _: Properties | None
    ) -> None:
        self._report(Link(False, "it closed the connection"))


def _context(tls: TlsFiles, name: str) -> ssl.SSLContext:
    context = _NamedContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and name
    context.name = name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(tls.ca)
    except OSError as error:
        raise SubscriberError(f"Cannot use the authority's certificate {tls.ca}: {_cause(error)}.") from None
    try:
        # An encrypted key would make OpenSSL ask for its password at the terminal; it gets an empty one.
        context.load_cert_chain(tls.certificate, tls.key, password="")
    except OSError as error:
        raise SubscriberError(
            f"Cannot use the certificate {tls.certificate} with the key {tls.key}: {_cause(error)}."
        ) from None
    return context


def _cause(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return "it is not the PEM file that it should be, or the two do not belong together"
    return f"{(error.strerror or type(error).__name__).lower()}; make it anew or name another file"
