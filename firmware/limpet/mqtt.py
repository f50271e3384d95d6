"""One MQTT 3.1.1 session over TLS that never waits: `step` does what can be done now and returns.

Built on umqtt.simple's client (its state, last will), in the version of PyPI and in today's. Its methods
that wait for the network are replaced: one write per packet, so Nagle's algorithm and the peer's delayed
ACK (40 ms) never meet; many QoS 1 packets in flight; incoming packets parsed as they come, within a fixed
buffer. (Of the two that are left, subscribe and disconnect, `topics` and close(True) take the place.)

Nothing that the network does raises out of here: it ends the connection, `state` is then CLOSED, and `error`
says why. Then the same object connects again.
"""

import errno
import select
import socket
import struct
import time

from micropython import const
from umqtt import simple

CLOSED = const(0)
_CONNECTING = const(1)  # TCP
_GREETING = const(2)  # TLS handshake, CONNECT, CONNACK
UP = const(3)

# What a broker answers: first byte << 16 | length, and 1, so that none is 0; SUBACK is longer by its topics.
_CONNACK = const(0x200003)
_PUBACK = const(0x400003)
_SUBACK = const(0x900003)
_PINGRESP = const(0xD00001)

_LEVEL = const(0x400)  # MQTT 3.1.1, beside the flags of CONNECT
_CONNECT_MS = const(15000)  # TCP, TLS, CONNACK and SUBACK together
_PING = const(700)  # ms for each second of keepalive: ask after so long, give up after as long again
_RX_SIZE = const(256)  # the largest packet that is taken in
_HEAD = const(3)  # room for the fixed header: it is written backwards from what follows it
_TX_SIZE = const(1056)  # a payload of 1,024 bytes and its topic; it grows if that is not enough
_TCP = const(6)  # IPPROTO_TCP, and its TCP_NODELAY: not every port has the names
_NODELAY = const(1)
_TURNS = const(8)  # reads and PUBACKs in one step: a peer that floods must not keep us in it


class Session(simple.MQTTClient):
    """`on_ack(pid)` is called for each PUBACK, `on_message(topic, payload)` for each PUBLISH, with
    memoryviews that are valid during the call. They may close the session, but not step it.

    `state`: CLOSED to UP; `error`: why it is closed, None if we did it; `present`: the broker knew the
    session. Counted are `malformed`, connections that ended for what the broker sent, and `dropped`, messages
    that were too long, or that on_message failed for."""

    def __init__(self, client_id, keepalive, context, topics=()):
        """`keepalive` in seconds, `context` the SSLContext of the identity; `topics`, of bytes, are
        subscribed to (QoS 1)."""
        # Not by super(), which costs a closure.
        simple.MQTTClient.__init__(self, client_id, None, 1, None, None, keepalive, context)
        self.topics = topics
        self._tx = bytearray(_TX_SIZE)
        self._rx = memoryview(bytearray(_RX_SIZE))
        self.malformed = self.dropped = 0
        self.sock = self.error = self.on_ack = self.on_message = None
        self.state = CLOSED

    def connect(self, address, name, clean=False):  # type: ignore[override]
        """Begin to connect to `address` (of getaddrinfo); step() goes on until the state is UP or CLOSED.
        `name` is what the broker's certificate must bear. `clean`: the broker forgets the last session."""
        try:
            self.close()
            self.server = name
            self.present = not clean  # what the broker may say
            self._wants = _CONNACK
            self._due = time.ticks_add(time.ticks_ms(), _CONNECT_MS)
            # CONNECT is written now, and sent when there is TLS to send it over.
            flags = clean << 1
            at = self._send_str(self._send_str(_HEAD, "MQTT") + 4, self.client_id)
            if self.lw_topic:
                flags |= 0x04 | self.lw_qos << 3 | self.lw_retain << 5
                at = self._send_str(self._send_str(at, self.lw_topic), self.lw_msg)
            struct.pack_into(">H", self._tx, _HEAD + 6, _LEVEL | flags)
            struct.pack_into(">H", self._tx, _HEAD + 8, self.keepalive)
            self._send(0x10, at)
            self.sock = self._raw = sock = socket.socket()
            sock.setblocking(False)
            sock.setsockopt(_TCP, _NODELAY, 1)  # Nagle's algorithm would hold the window back
            self.state = _CONNECTING
            sock.connect(address)
        except Exception as e:
            if getattr(e, "errno", 0) != errno.EINPROGRESS:
                self._end(e)

    def step(self):
        """Do what can be done now."""
        if not self.state:
            return
        try:
            if self.state == _CONNECTING:
                poll = select.poll()
                poll.register(self.sock)
                if poll.poll(0):
                    self.sock = self.ssl.wrap_socket(
                        self.sock, server_hostname=self.server, do_handshake_on_connect=False
                    )
                    self.state = _GREETING
            self.check_msg()
            left = time.ticks_diff(self._due, time.ticks_ms())
            if left < 0:
                raise OSError(errno.ETIMEDOUT)
            if left < self.keepalive * _PING:
                self.ping()
        except Exception as e:
            self._end(e)

    def close(self, say=False):
        """Drop the connection; unless we `say` so, the broker publishes the last will."""
        if say and self.flush():
            self._send(0xE0, _HEAD)
        self.state = self._ack = self._skip = self._rest = self._at = self._have = 0
        if self.sock:
            self.sock.close()
            self._raw.close()  # after an error the socket of TLS leaves it open
        self.sock = self.error = self._out = None

    def _end(self, e):
        self.malformed += isinstance(e, simple.MQTTException)
        try:
            self.close()
            self.error = e  # prints as its text does, for which there may be no memory
            self.error = str(e)
        except Exception:
            pass

    # Sending

    def flush(self):
        """Try to send what waits; True when the next packet may be sent."""
        if self.state >= _GREETING:
            try:
                while self._out:
                    sent = self.sock.write(self._out)
                    if not sent:
                        return False
                    self._out = self._out[sent:]
                return True
            except Exception as e:
                self._end(e)
        return False

    def begin(self, topic, qos, pid=0):
        """Start a PUBLISH in the send buffer; None while the last packet is not sent, else (buffer, index).
        The payload goes there; it is best not longer than the buffer, which grows for it if it must.
        `pid` is that of a packet sent again."""
        if self.state != UP or not self.flush():
            return None
        at = self._send_str(_HEAD, topic)
        if qos:
            if not pid:
                self.pid = pid = self.pid % 65535 + 1
            struct.pack_into(">H", self._tx, at, pid)
            at += 2
        self._pid = pid
        return self._tx, at

    def commit(self, end, retain=False, dup=False):
        """Send the PUBLISH that begin() started, its payload ending before index `end`. The packet id."""
        self._send(0x30 | dup << 3 | (self._pid > 0) << 1 | retain, end)
        return self._pid

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
        """Ask for a sign of life, unless an answer is awaited already."""
        if self.flush() and not self._wants:
            self._wants = _PINGRESP
            self._send(0xC0, _HEAD)

    def _send_str(self, index, text):  # type: ignore[override]
        # Into the send buffer: the text's length, and the text; the index behind it.
        text = memoryview(text)
        struct.pack_into(">H", self._tx, index, len(text))
        index += 2
        end = index + len(text)
        self._tx[index:end] = text
        return end

    def _send(self, head, end):
        # The fixed header (first byte, remaining length) goes directly in front of what follows it.
        tx = self._tx
        length = end - _HEAD
        start = length < 0x80
        if not start:
            tx[1] = length & 0x7F | 0x80
            length >>= 7
        tx[start] = head
        tx[2] = length
        self._out = memoryview(tx)[start:end]
        self.flush()

    # Receiving

    def check_msg(self):
        """Take what has come: a part of step(). As long as nothing waits to be sent, so that a PUBACK of ours
        has its turn before the next packet."""
        turns = _TURNS
        rx = self._rx
        while turns and self.flush():
            if self._ack:
                struct.pack_into(">H", self._tx, _HEAD, self._ack)
                self._ack = 0
                self._send(0x40, _HEAD + 2)
            elif self.wait_msg():
                continue
            else:
                rest = self._have - self._at
                if self._at:
                    rx[:rest] = rx[self._at : self._have]
                    self._at = 0
                    self._have = rest
                got = self.sock.readinto(rx[rest:] if rest else rx)
                if got is None:
                    return
                if not got:
                    raise OSError(errno.ECONNRESET)
                self._have += got
            turns -= 1

    def wait_msg(self):
        """Take the next packet, or a part of one that is too long; False, without waiting, when more of it
        must come before."""
        rx = self._rx
        at = self._at
        have = self._have
        if self._skip:
            count = min(self._skip, have - at)
            self._skip -= count
            self._at += count
            return count
        body = at + 2
        if body > have:
            return False
        first = rx[at]
        length = rx[at + 1]
        if self._rest:  # behind the topic that was skipped: packet id, and a payload to skip
            self._at = body
            self._ack = first << 8 | length
            self._skip = self._rest - 2
            self._rest = 0
            return True
        if length > 0x7F:
            if body + 3 > have:
                return False
            length += (rx[body] << 7) - 0x80
            body += 1
            if length > 0x3FFF:
                length += (rx[body] << 14) - 0x4000
                body += 1
                if length > 0xFFFF:
                    length = 1  # no packet has that
        end = body + length
        if first & 0xF4 == 0x30 and length > 2 and self.state == UP:  # PUBLISH, QoS 0 or 1
            answer = 0
            topic = body + 2
            if topic > have:
                return False
            body = topic + (rx[body] << 8 | rx[body + 1])
            length = first & 2  # QoS 1: two bytes of packet id follow the topic
            if topic == body or body + length > end:
                raise simple.MQTTException("packet %x" % first)
            if end - at > _RX_SIZE:
                self.dropped += 1
                self._at = topic
                self._skip = (body if length else end) - topic
                self._rest = length and end - body
                return True
        else:
            answer = (first << 16 | length) + 1
            if answer != self._wants and (answer != _PUBACK or self.state != UP):
                raise simple.MQTTException("packet %x" % first)
        if end > have:
            return False
        self._at = end
        word = length and rx[body] << 8 | rx[body + 1]
        if not answer:
            self._ack = word
            if self.on_message:
                try:
                    self.on_message(rx[topic:body], rx[body + length : end])
                except Exception as e:
                    from limpet import log  # rarely needed, and others have it

                    self.dropped += 1
                    log.log("on_message", e)
            return True
        if answer != _PUBACK:
            self._wants = 0
        elif word:
            self.on_ack(word)  # type: ignore[misc]
        if self.state == _GREETING:
            if word and word != self.present << 8:
                raise (OSError if word < 6 else simple.MQTTException)("refused %s" % word)
            self.state = UP
            self.present = word > 0
            # The first session of a boot subscribes in any case: the broker may know an older firmware's.
            if self.topics and not (word and self.pid):
                self._wants = _SUBACK + len(self.topics)
                self.pid = word = self.pid % 65535 + 1
                struct.pack_into(">H", self._tx, _HEAD, word)
                at = _HEAD + 2
                for topic in self.topics:
                    at = self._send_str(at, topic)
                    self._tx[at] = 1  # QoS
                    at += 1
                self._send(0x82, at)
        elif first == 0x90 and max(rx[body + 2 : end]) > 1:
            from limpet import log

            log.log("topics", "refused %s" % (self.topics,))
        if not self._wants:
            self._due = time.ticks_add(time.ticks_ms(), self.keepalive * (2 * _PING))
        return True
