"""What goes over a wire, for tests that look: taps that keep every byte a node sends, and TLS records."""

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable
from typing import Self

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
"""Types of TLS records (RFC 8446 section 5.1)."""
CLIENT_HELLO, CERTIFICATE = 1, 11
"""Types of TLS handshake messages (RFC 5246 section 7.4)."""

_PATIENCE = 30.0  # seconds that a connection may last without a byte


class Conversation:
    """One connection: all that who connected has sent and, where it is relayed, heard; its socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sent = bytearray()
        self.heard = bytearray()

    def read(self) -> bytes:
        """The next bytes, b"" when the node has hung up."""
        try:
            data = self.sock.recv(65536)
        except OSError:
            return b""
        self.sent += data
        return data

    def read_all(self) -> None:
        """Whatever comes until the node hangs up."""
        while self.read():
            pass


Behaviour = Callable[[Conversation], None]


class Tap:
    """A listener that treats all who connect by one behaviour. Use it as a context manager."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self.conversations: list[Conversation] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self.conversations:
            with contextlib.suppress(OSError):
                each.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_PATIENCE)

    @property
    def sent(self) -> bytes:
        """All that was sent here, by whomever."""
        return b"".join(bytes(each.sent) for each in self.conversations)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.settimeout(_PATIENCE)
            conversation = Conversation(sock)
            self.conversations.append(conversation)
            thread = threading.Thread(target=self._converse, args=(conversation,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _converse(self, conversation: Conversation) -> None:
        with conversation.sock, contextlib.suppress(OSError):
            self._behaviour(conversation)


def relay(
    port: int, limit: int | None = None, stop: Callable[[bytes], bool] = lambda sent: False
) -> Behaviour:
    """Behaves as what listens at `port`. The connection is cut when that has said `limit` bytes, or when it
    answers what `stop` is true of: all that the node has sent."""

    def behave(conversation: Conversation) -> None:
        with socket.create_connection(("127.0.0.1", port), _PATIENCE) as server:

            def forth() -> None:
                with contextlib.suppress(OSError):
                    while data := conversation.read():
                        server.sendall(data)
                    server.shutdown(socket.SHUT_WR)

            thread = threading.Thread(target=forth, daemon=True)
            thread.start()
            left = limit
            while (left is None or left > 0) and (data := server.recv(left or 65536)):
                if stop(bytes(conversation.sent)):
                    break
                conversation.heard += data
                conversation.sock.sendall(data)
                left = None if left is None else left - len(data)
            with contextlib.suppress(OSError):
                conversation.sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            thread.join(_PATIENCE)

    return behave


def records(stream: bytes) -> list[tuple[int, bytes]]:
    """The TLS records of a stream by type and body; the last one may be cut off.

    Raises ValueError when the stream is anything but TLS.
    """
    found = []
    at = 0
    while at < len(stream):
        header = stream[at : at + 5]
        if header[0] not in (CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA) or header[1:2] not in (
            b"\x03",
            b"",
        ):
            raise ValueError(f"no TLS record at {at}: {stream[at : at + 80]!r}")
        size = int.from_bytes(header[3:5], "big")
        found.append((header[0], stream[at + 5 : at + 5 + size]))
        at += 5 + size
    return found


def clear_messages(stream: bytes) -> list[tuple[int, bytes]]:
    """The handshake messages that a client sends unencrypted, by type and body (RFC 5246 section 7.4)."""
    kinds = itertools.takewhile(lambda each: each[0] != CHANGE_CIPHER_SPEC, records(stream))
    data = b"".join(body for kind, body in kinds if kind == HANDSHAKE)
    found = []
    while data:
        size = int.from_bytes(data[1:4], "big")
        found.append((data[0], data[4 : 4 + size]))
        data = data[4 + size :]
    return found
