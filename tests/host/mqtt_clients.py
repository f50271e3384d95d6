"""MQTT clients for tests: paho over TLS, with what they received in a queue."""

import contextlib
import queue
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import paho.mqtt.client as mqtt
from cryptography.hazmat.primitives.asymmetric import ec
from paho.mqtt.enums import CallbackAPIVersion

from host_tools.broker import Broker
from host_tools.pki.authority import Authority, Credential
from host_tools.pki.names import CONSOLE

DEADLINE = 20.0  # seconds; far beyond what a busy machine needs


class Refused(Exception):
    """The broker did not let the client in."""


def node_credential(authority: Authority, node_id: str, **options: Any) -> Credential:
    """A node's key and certificate as files can hold them."""
    key = ec.generate_private_key(ec.SECP256R1())
    return Credential(key, authority.sign_node(node_id, key.public_key(), **options))


def tls_context(ca: Path, certificate: Path | None) -> ssl.SSLContext:
    """A client's context; `certificate` is the path of the `.crt`, with the `.key` beside it."""
    context = ssl.create_default_context(cafile=str(ca))
    if certificate:
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    return context


class Client:
    """A client that connects when its `with` block begins; Refused or an SSLError says that it may not."""

    def __init__(
        self,
        broker: Broker,
        pki: Path,
        stem: str | None,
        client_id: str,
        *,
        will: tuple[str, bytes] | None = None,
        keep_alive: int = 60,
        host: str = "localhost",
        keeps_session: bool = False,
    ) -> None:
        self._address = (host, broker.port, keep_alive)
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=not keeps_session,
            protocol=mqtt.MQTTv311,
            reconnect_on_failure=False,
        )
        self._client.tls_set_context(tls_context(pki / "ca.crt", pki / f"{stem}.crt" if stem else None))
        if will:
            self._client.will_set(*will, qos=1, retain=True)
        self._messages: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._answers: queue.Queue[str | None] = queue.Queue()
        self._acknowledged: queue.Queue[int] = queue.Queue()
        self._client.on_publish = lambda client, data, mid, reason, properties: self._acknowledged.put(mid)
        self._granted: queue.Queue[list[int]] = queue.Queue()
        self.gone = threading.Event()
        self._client.on_message = lambda client, data, message: self._messages.put(
            (message.topic, bytes(message.payload))
        )
        self._client.on_connect = lambda client, data, flags, reason, properties: self._answers.put(
            str(reason) if reason.is_failure else None
        )
        self._client.on_disconnect = self._disconnected
        self._client.on_subscribe = lambda client, data, mid, reasons, properties: self._granted.put(
            [reason.value for reason in reasons]
        )

    def _disconnected(self, *_: Any) -> None:
        self.gone.set()
        self._answers.put("connection closed")

    def __enter__(self) -> Self:
        self._client.connect(*self._address)
        self._client.loop_start()
        refusal = self._answers.get(timeout=DEADLINE)
        if refusal:
            self._client.loop_stop()
            raise Refused(refusal)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def vanish(self) -> None:
        """Close the connection without a DISCONNECT packet, as a power cut does."""
        self._client.loop_stop()
        connection = self._client.socket()
        assert connection is not None
        connection.close()

    def subscribe(self, topic: str) -> bool:
        """Subscribe with QoS 1; False if the broker refused."""
        self._client.subscribe(topic, qos=1)
        return self._granted.get(timeout=DEADLINE)[0] < 0x80

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish with QoS 1 and wait for the PUBACK."""
        assert self.send(topic, payload, retain=retain), "no PUBACK"

    def send(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """Publish with QoS 1; True at the PUBACK, False if the connection ends before."""
        packet_id = self._client.publish(topic, payload, qos=1, retain=retain).mid
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            with contextlib.suppress(queue.Empty):
                if self._acknowledged.get(timeout=0.05) == packet_id:
                    return True
                continue
            if self.gone.is_set():
                return False
        raise TimeoutError("neither a PUBACK nor the end of the connection")

    def next_message(self) -> tuple[str, bytes]:
        """The next message received."""
        return self._messages.get(timeout=DEADLINE)

    def until(self, topic: str, payload: bytes) -> list[tuple[str, bytes]]:
        """All messages received before this one arrives."""
        before = []
        while (message := self.next_message()) != (topic, payload):
            before.append(message)
        return before


@contextlib.contextmanager
def console(broker: Broker, pki: Path, *topics: str) -> Iterator[Client]:
    """A console that has subscribed to `topics`, to everything below `limpet` if there are none."""
    with Client(broker, pki, "console", CONSOLE) as client:
        for topic in topics or ("limpet/#",):
            assert client.subscribe(topic)
        yield client
