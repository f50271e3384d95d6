"""The few MQTT 3.1.1 packets that a check of a broker and its doorkeeper send, and what comes back."""

import socket
import struct
from dataclasses import dataclass

CONNACK, PUBLISH, PUBACK, SUBACK = 0x20, 0x30, 0x40, 0x90
DISCONNECT = b"\xe0\x00"

_CLEAN_SESSION, _PASSWORD, _USER_NAME = 0x02, 0x40, 0x80
_KEEP_ALIVE_S = 60
_LEVEL = 4


@dataclass(frozen=True)
class Packet:
    """A packet that was received: its first byte without the flags, and what follows the fixed header."""

    kind: int
    body: bytes


def connect(client_id: str, login: tuple[str, str] | None = None) -> bytes:
    """CONNECT with a clean session; `login` is a user name and its password (§3.1)."""
    flags = _CLEAN_SESSION | (_USER_NAME | _PASSWORD if login else 0)
    head = _text("MQTT") + struct.pack("!BBH", _LEVEL, flags, _KEEP_ALIVE_S)
    return _packet(0x10, head + _text(client_id) + b"".join(map(_text, login or ())))


def subscribe(topic: str) -> bytes:
    """SUBSCRIBE with QoS 1 and the packet id 1 (§3.8)."""
    return _packet(0x82, b"\x00\x01" + _text(topic) + b"\x01")


def publish(topic: str, payload: bytes, packet_id: int) -> bytes:
    """PUBLISH with QoS 1 (§3.3)."""
    return _packet(0x32, _text(topic) + struct.pack("!H", packet_id) + payload)


def receive(connection: socket.socket) -> Packet | None:
    """The next packet, or None when the connection ends. It waits as long as the socket's timeout says.

    Raises OSError as the socket does.
    """
    first = connection.recv(1)
    length, shift = 0, 0
    while first and shift < 28:
        byte = connection.recv(1)
        if not byte:
            return None
        length |= (byte[0] & 0x7F) << shift
        shift += 7
        if byte[0] < 0x80:
            break
    body = b""
    while first and len(body) < length:
        more = connection.recv(length - len(body))
        if not more:
            return None
        body += more
    return Packet(first[0] & 0xF0, body) if first else None


def topic_of(packet: Packet) -> str:
    """The topic of a PUBLISH packet."""
    (length,) = struct.unpack_from("!H", packet.body)
    return packet.body[2 : 2 + length].decode(errors="replace")


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("!H", len(data)) + data


def _packet(first: int, body: bytes) -> bytes:
    length, head = len(body), bytes([first])
    while True:
        length, low = length >> 7, length & 0x7F
        head += bytes([low | (0x80 if length else 0)])
        if not length:
            return head + body
