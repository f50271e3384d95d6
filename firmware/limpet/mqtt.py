"""One MQTT 3.1.1 session over TLS that never waits: `step` does what can be done now and returns.

Built on umqtt.simple's client (its state, last will and disconnect), in the version of PyPI and in today's.
Their methods that wait for the network are replaced: one write per packet, so Nagle's algorithm and the
peer's delayed ACK (40 ms) never meet; many QoS 1 packets in flight; incoming packets parsed as they
come, within a fixed buffer. Whatever ends the session raises OSError, or ValueError when TLS refuses
the peer. Then `close`, and make a new one.
"""

import errno
import select
import socket
import struct
import time

from micropython import const
from umqtt.simple import MQTTClient, MQTTException

_CLOSED = const(0)
_CONNECTING = const(1)  # TCP
_GREETING = const(2)  # TLS handshake, CONNECT, CONNACK
UP = const(3)

_CONNECT_MS = const(15000)  # TCP, TLS and CONNACK together
_RX_SIZE = const(256)  # the largest packet that is taken in
_HEAD = const(5)  # room for the fixed header: it is written backwards from the payload
_READS = const(4)  # of the receive buffer's size, in one step: a peer that floods must not keep us in it
_TX_SIZE = const(640)  # what a pack of readings may be; `about` may need more

_TRY_AGAIN = (errno.EAGAIN, errno.EINPROGRESS)


class Session(MQTTClient):
    """`on_ack(pid)` is called for each PUBACK. Topics are bytes."""

    def __init__(self, client_id, host, port, name, keepalive, context):
        """`name` is what the broker's certificate must bear, `context` the SSLContext of the identity,
        `keepalive` in seconds."""
        super().__init__(client_id, host, port, keepalive=keepalive)
        self._name = name
        self._context = context
        self._poller = select.poll()
        self._tx = bytearray(_TX_SIZE)
        self._rx = bytearray(_RX_SIZE)
        self._rx_view = memoryview(self._rx)
        self._rx_len = 0
        self._out = None  # what of a packet the socket has not taken yet
        self._pinged = False
        self.sock = None  # not every version of the base class says so
        self.state = _CLOSED
        self.on_ack = None

    def connect(self, clean_session=True):  # type: ignore[override]  # today's has a timeout
        """Begin to connect; step() goes on until the state is UP. Waits only for the name's resolution."""
        address = socket.getaddrinfo(self.server, self.port)[0][-1]
        self._raw = self.sock = socket.socket()
        self._clean = clean_session
        self.sock.setblocking(False)
        try:
            self.sock.connect(address)
        except OSError as e:
            if e.errno not in _TRY_AGAIN:
                raise
        self._poller.register(self._raw, select.POLLOUT)
        self._since = self._heard = self._said = time.ticks_ms()
        self.state = _CONNECTING

    def step(self):
        """Do what can be done now. Raises what ends the session."""
        now = time.ticks_ms()
        if self.state < UP and time.ticks_diff(now, self._since) > _CONNECT_MS:
            raise OSError(errno.ETIMEDOUT)
        if self.state == _CONNECTING:
            if not self._poller.poll(0):
                return
            self.sock = self._context.wrap_socket(
                self._raw, server_hostname=self._name, do_handshake_on_connect=False
            )
            self._put_connect()
            self.state = _GREETING
        self.flush()
        if self._out is None:
            self._receive()
        if self.state == UP:
            self._keep_alive(now)

    # Sending

    def flush(self):
        """Try to send what waits; True when nothing does any more."""
        while self._out is not None:
            sent = self.sock.write(self._out)
            if sent is None:
                return False
            self._out = self._out[sent:] if sent < len(self._out) else None
            self._said = time.ticks_ms()
        return True

    def begin(self, topic, qos):
        """Start a PUBLISH in the send buffer; None while the last packet is not sent, else (buffer, index).
        The payload goes there; it is best not longer than the buffer, which grows for it if it must."""
        if self.state != UP or not self.flush():
            return None
        size = len(topic)
        at = _HEAD + 2 + size
        struct.pack_into(">H", self._tx, _HEAD, size)
        self._tx[_HEAD + 2 : at] = topic
        self._qos = qos
        if qos:
            self.pid = self.pid + 1 if self.pid < 65535 else 1
            struct.pack_into(">H", self._tx, at, self.pid)
            at += 2
        return self._tx, at

    def commit(self, end, retain=False):
        """Send the PUBLISH that begin() started, its payload ending before index `end`. The packet id."""
        self._send(0x30 | self._qos << 1 | retain, end)
        return self.pid if self._qos else 0

    def publish(self, topic, msg, retain=False, qos=0):
        """Send a message in one write, without waiting for its PUBACK; the packet id (0 for QoS 0), or None
        while the last packet is not sent."""
        begun = self.begin(topic, qos)
        if begun is None:
            return None
        buf, at = begun
        end = at + len(msg)
        buf[at:end] = msg
        return self.commit(end, retain)

    def ping(self):
        self._send(0xC0, _HEAD)

    def close(self):
        """Drop the connection; without DISCONNECT the broker publishes the last will."""
        self.state = _CLOSED
        self._out = None
        if self.sock is not None:
            self.sock.close()
            self._raw.close()
            self.sock = self._raw = None  # type: ignore[assignment]

    def _send(self, first, end):
        # The fixed header (first byte, remaining length) goes directly in front of what follows it.
        length = end - _HEAD
        start = at = _HEAD - 2 - (length > 0x7F) - (length > 0x3FFF)
        self._tx[at] = first
        while length > 0x7F:
            at += 1
            self._tx[at] = length & 0x7F | 0x80
            length >>= 7
        self._tx[at + 1] = length
        self._out = memoryview(self._tx)[start:end]
        self.flush()

    def _put_connect(self):
        flags = self._clean << 1
        if self.lw_topic:
            flags |= 0x04 | self.lw_qos << 3 | self.lw_retain << 5
        struct.pack_into(">H4sBBH", self._tx, _HEAD, 4, b"MQTT", 4, flags, self.keepalive)
        at = _HEAD + 10
        for text in (self.client_id, self.lw_topic, self.lw_msg):
            if text is not None:
                text = text.encode() if isinstance(text, str) else text
                struct.pack_into(">H", self._tx, at, len(text))
                self._tx[at + 2 : at + 2 + len(text)] = text
                at += 2 + len(text)
        self._send(0x10, at)

    # Receiving

    def _receive(self):
        for _ in range(_READS):
            got = self.sock.readinto(self._rx_view[self._rx_len :])
            if got is None:
                return
            if not got:
                raise OSError(errno.ECONNRESET)
            self._rx_len += got
            self._heard = time.ticks_ms()
            self._parse()

    def _parse(self):
        """Take every whole packet out of the receive buffer."""
        at = 0
        while self._rx_len - at >= 2:
            first, length, body = self._rx[at], self._rx[at + 1], at + 2
            if length & 0x80:
                if self._rx_len - at < 3:
                    break
                high = self._rx[at + 2]
                length = length & 0x7F | high << 7
                if length > _RX_SIZE - 3:  # so it is, too, when a third byte of length would follow
                    raise MQTTException("packet too large")
                body += 1
            if body + length > self._rx_len:
                break
            self._dispatch(first, body, length)
            at = body + length
        if at:
            rest = self._rx_len - at
            self._rx[:rest] = self._rx_view[at : self._rx_len]
            self._rx_len = rest

    def _dispatch(self, first, at, length):
        if self.state == _GREETING:
            if first != 0x20 or length != 2:
                raise MQTTException("no CONNACK")
            if self._rx[at + 1]:
                raise MQTTException("refused, code %d" % self._rx[at + 1])
            self.state = UP
        elif first == 0x40 and length == 2:
            if self.on_ack:
                self.on_ack(self._rx[at] << 8 | self._rx[at + 1])
        elif first == 0xD0 and not length:
            self._pinged = False
        elif first & 0xF6 != 0x30 or length < 2:  # a PUBLISH of QoS 0 is dropped: nothing was subscribed to
            raise MQTTException("unexpected packet 0x%02x" % first)

    def _keep_alive(self, now):
        idle = self.keepalive * 750  # ping after three quarters of the keepalive
        if time.ticks_diff(now, self._heard) > idle * 2:
            raise OSError(errno.ETIMEDOUT)
        quiet = max(time.ticks_diff(now, self._said), time.ticks_diff(now, self._heard))
        if quiet > idle and not self._pinged and self.flush():
            self._pinged = True
            self.ping()
