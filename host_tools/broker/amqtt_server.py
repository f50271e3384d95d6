"""The process of the embedded broker: amqtt behind a TLS listener and a gate of our own.

amqtt alone asks for a certificate but does not insist on one, looks at the client id only after it has thrown
out the session of that id, publishes last wills without asking the access rules, and never drops a silent
client. The gate reads the CONNECT packet first and settles these before amqtt sees the connection.
"""

import asyncio
import contextlib
import json
import logging
import signal
import ssl
import sys
from pathlib import Path
from typing import Any

from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker
from amqtt.errors import AMQTTError, MQTTError, NoDataError
from amqtt.mqtt.connack import IDENTIFIER_REJECTED, NOT_AUTHORIZED, ConnackPacket
from amqtt.mqtt.connect import ConnectPacket
from amqtt.session import Session

from host_tools.broker import amqtt_access
from host_tools.broker.acl import Access
from host_tools.broker.config import MAX_PACKET

_LISTENER = "default"
_HANDSHAKE_TIMEOUT = 10.0  # seconds for TLS, and again for the CONNECT packet
_SHUTDOWN_TIMEOUT = 2.0
_KEEP_ALIVE_FACTOR = 1.5  # MQTT 3.1.1 §3.1.2.10

_log = logging.getLogger("limpet.broker")


class _Broker(Broker):
    """amqtt's broker, without its habit of sending every new client what others have subscribed to."""

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        topic_filter, _ = subscription
        subscribers = (other for other, _ in self.subscriptions.get(topic_filter, ()))
        if any(other.client_id == session.client_id for other in subscribers):
            await super()._publish_retained_messages_for_subscription(subscription, session)


class _Reader(StreamReaderAdapter):
    """A client's bytes: readable again from the start, and at an end when the client breaks the rules."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        super().__init__(reader)
        self._seen = bytearray()
        self._again: bytes | None = None
        self._keep_alive = 0.0
        self._last = 0.0
        self._ended = False

    def rewind(self, keep_alive: int) -> None:
        """Give out again what was read so far; from now on, 1.5 × `keep_alive` s of silence are the end."""
        self._again = bytes(self._seen)
        self._keep_alive = _KEEP_ALIVE_FACTOR * keep_alive
        self._last = asyncio.get_running_loop().time()

    async def read(self, n: int = -1) -> bytes:
        """Read `n` bytes; raises ConnectionResetError or IncompleteReadError at the end."""
        if self._again:
            data, self._again = self._again[:n], self._again[n:]
            return data
        if self._ended or n > MAX_PACKET:
            self._ended = True
            raise ConnectionResetError
        loop = asyncio.get_running_loop()
        silence = self._last + self._keep_alive - loop.time() if self._keep_alive else None
        try:
            data = await asyncio.wait_for(super().read(n), silence)
        except TimeoutError:
            self._ended = True
            raise ConnectionResetError from None
        self._last = loop.time()
        if self._again is None:
            self._seen += data
        return data


class _Gate:
    """Lets connections through to the broker once it is clear who they are; one connection a client."""

    def __init__(self, broker: Broker, access: Access) -> None:
        self._broker = broker
        self._access = access
        self._connections: dict[str, tuple[asyncio.StreamWriter, asyncio.Event]] = {}

    async def connected(
        self, stream_reader: asyncio.StreamReader, stream_writer: asyncio.StreamWriter
    ) -> None:
        """Serve one connection until it ends."""
        try:
            await self._serve(_Reader(stream_reader), stream_writer)
        except (AMQTTError, MQTTError, NoDataError, OSError, TimeoutError) as error:
            _log.info("connection ended: %s", error)
        finally:
            stream_writer.transport.abort()

    async def _serve(self, reader: _Reader, stream_writer: asyncio.StreamWriter) -> None:
        writer = StreamWriterAdapter(stream_writer)
        name = amqtt_access.common_name(writer.get_ssl_info())
        packet = await asyncio.wait_for(ConnectPacket.from_stream(reader), _HANDSHAKE_TIMEOUT)
        refusal = self._refusal(name, packet)
        if name is None or refusal:
            _log.warning("client %s refused, reason %d of MQTT 3.1.1 §3.2.2.3", name, refusal)
            await ConnackPacket.build(0, refusal).to_stream(writer)
            return
        ended = asyncio.Event()
        older, self._connections[name] = self._connections.get(name), (stream_writer, ended)
        try:
            if older:
                # Its last will must be out before the newcomer says that it is up.
                older[0].transport.abort()
                await older[1].wait()
            reader.rewind(packet.keep_alive)
            await self._broker.external_connected(reader, writer, _LISTENER)
        finally:
            ended.set()
            if self._connections[name][1] is ended:
                del self._connections[name]

    def _refusal(self, name: str | None, packet: ConnectPacket) -> int:
        if name is None or packet.client_id != name:
            return IDENTIFIER_REJECTED
        if packet.will_flag and not self._access.may_write(name, packet.will_topic or ""):
            return NOT_AUTHORIZED
        return 0


def _tls(settings: dict[str, Any]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(settings["ca"])
    context.load_cert_chain(settings["certificate"], settings["key"])
    return context


async def _serve(settings: dict[str, Any]) -> None:
    rules = settings["access"]
    broker = _Broker(
        {
            "listeners": {_LISTENER: {"type": "external"}},
            "plugins": {
                "host_tools.broker.amqtt_access.CertificatePlugin": {},
                "host_tools.broker.amqtt_access.TopicPlugin": rules,
            },
        }
    )
    await broker.start()
    gate = _Gate(broker, amqtt_access.TopicPlugin.Config(**rules).access())
    server = await asyncio.start_server(
        gate.connected,
        settings["address"],
        settings["port"],
        ssl=_tls(settings),
        ssl_handshake_timeout=_HANDSHAKE_TIMEOUT,
        ssl_shutdown_timeout=_SHUTDOWN_TIMEOUT,
    )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    print(f"listening on port {server.sockets[0].getsockname()[1]}", flush=True)
    await stop.wait()
    server.close()
    with contextlib.suppress(AMQTTError, MQTTError, OSError):
        await broker.shutdown()


def main(path: Path) -> int:
    """Serve as the JSON file at `path` says (a `config.BrokerConfig`) until SIGTERM; return the exit code."""
    logging.basicConfig(
        level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stdout
    )
    try:
        asyncio.run(_serve(json.loads(path.read_text())))
    except OSError as error:
        print(f"Error: {error}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
