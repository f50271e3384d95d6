"""What passes in the clear when a TLS connection begins: version, certificates, alerts (RFC 5246, RFC 8446).

In TLS 1.2 both sides show their certificates unencrypted; in TLS 1.3 only the version can be seen.
"""

import threading
from dataclasses import dataclass, field

from cryptography import x509

from host_tools.virtual.link import Connection, Way

_RECORD_HEADER = 5
_ALERT, _HANDSHAKE = 21, 22
_SERVER_HELLO, _CERTIFICATE = 2, 11
_HELLO_RANDOM = 2 + 32
_SUPPORTED_VERSIONS = 43
_VERSIONS = {0x0301: "TLS 1.0", 0x0302: "TLS 1.1", 0x0303: "TLS 1.2", 0x0304: "TLS 1.3"}
_MOST = 64 * 1024  # bytes in which a handshake must be over

ALERTS = {
    0: "close notify",
    10: "unexpected message",
    20: "bad record MAC",
    40: "handshake failure",
    42: "bad certificate",
    43: "unsupported certificate",
    44: "certificate revoked",
    45: "certificate expired",
    46: "certificate unknown",
    47: "illegal parameter",
    48: "unknown CA",
    49: "access denied",
    50: "decode error",
    51: "decrypt error",
    70: "protocol version",
    71: "insufficient security",
    80: "internal error",
    90: "user canceled",
    116: "certificate required",
}
"""RFC 8446 appendix B.2, as far as they end a handshake."""


@dataclass
class Flight:
    """What one side sends in the clear."""

    version: str = ""
    """The one that was agreed on, such as "TLS 1.2"; a server says it."""
    chain: list[bytes] = field(default_factory=list)
    """Its certificates, its own first, each DER."""
    alerts: list[str] = field(default_factory=list)
    """Why it gave up, as ALERTS words it."""

    def __post_init__(self) -> None:
        self._stream, self._messages = bytearray(), bytearray()
        self._size = 0
        self._over = False

    def feed(self, data: bytes) -> None:
        """What it sent next. After the clear part, or when it is no TLS, nothing more is looked at."""
        if self._over:
            return
        self._size += len(data)
        self._stream += data
        while len(self._stream) >= _RECORD_HEADER and not self._over:
            end = _RECORD_HEADER + int.from_bytes(self._stream[3:5], "big")
            if len(self._stream) < end:
                break
            self._take_record(self._stream[0], bytes(self._stream[_RECORD_HEADER:end]))
            del self._stream[:end]
        self._over = self._over or self._size > _MOST

    def _take_record(self, kind: int, body: bytes) -> None:
        if kind == _ALERT and len(body) == 2:
            self.alerts.append(ALERTS.get(body[1], f"alert {body[1]}"))
        elif kind == _HANDSHAKE:
            self._messages += body
            while len(self._messages) >= 4 + (size := int.from_bytes(self._messages[1:4], "big")) >= 4:
                self._take_message(self._messages[0], bytes(self._messages[4 : 4 + size]))
                del self._messages[: 4 + size]
        else:  # ChangeCipherSpec, or application data: from here on it is encrypted
            self._over = True

    def _take_message(self, kind: int, body: bytes) -> None:
        if kind == _SERVER_HELLO:
            self.version = _VERSIONS.get(_agreed(body), "another version")
        elif kind == _CERTIFICATE:
            self.chain = _vector(body[3:], 3)


@dataclass
class Handshake:
    """The beginning of one connection, from both sides."""

    connection: Connection
    client: Flight = field(default_factory=Flight)
    server: Flight = field(default_factory=Flight)


class Handshakes:
    """Those of all connections of a link; `tap` is for its link."""

    def __init__(self) -> None:
        self._all: list[Handshake] = []
        self._lock = threading.Lock()

    def tap(self, connection: Connection, way: Way, data: bytes) -> None:
        """Look at what passes."""
        with self._lock:
            found = next((each for each in reversed(self._all) if each.connection is connection), None)
            if found is None:
                found = Handshake(connection)
                self._all.append(found)
        (found.client if way == "up" else found.server).feed(data)

    def all(self) -> list[Handshake]:
        """All that there were, oldest first."""
        with self._lock:
            return self._all[:]

    def clear(self) -> None:
        """Forget those of connections that have ended."""
        with self._lock:
            self._all = [each for each in self._all if not each.connection.end]


def shown(flight: Flight) -> x509.Certificate | None:
    """The certificate that one side showed as its own, if it did."""
    try:
        return x509.load_der_x509_certificate(flight.chain[0]) if flight.chain else None
    except ValueError:
        return None


def _agreed(hello: bytes) -> int:
    """The version in a ServerHello: that of the extension, if there is one (RFC 8446 §4.2.1)."""
    at = _HELLO_RANDOM + 1 + hello[_HELLO_RANDOM] + 2 + 1 if len(hello) > _HELLO_RANDOM else len(hello)
    extensions = hello[at + 2 :]
    while len(extensions) >= 4:
        kind, size = int.from_bytes(extensions[:2], "big"), int.from_bytes(extensions[2:4], "big")
        if kind == _SUPPORTED_VERSIONS and size == 2:
            return int.from_bytes(extensions[4:6], "big")
        extensions = extensions[4 + size :]
    return int.from_bytes(hello[:2], "big")


def _vector(data: bytes, width: int) -> list[bytes]:
    """The parts of it, each behind its length in so many bytes."""
    parts = []
    while len(data) >= width:
        size = int.from_bytes(data[:width], "big")
        parts.append(data[width : width + size])
        data = data[width + size :]
    return parts
