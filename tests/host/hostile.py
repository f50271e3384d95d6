"""A broker that does as a test's script says, over real TLS: it counts records, stalls, lies and hangs up.

MicroPython runs in a process of its own; what it prints is the test's evidence.
"""

import contextlib
import json
import os
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from host_tools import micropython, parts, paths
from host_tools.pki.authority import Authority, Credential

BROKER_NAME = "broker.plant.example"
DEADLINE = 150.0  # seconds; many times what a busy machine needs
APPLICATION_DATA = 23  # TLS record type (RFC 8446 section 5.1)
CONNACK = b"\x20\x02\x00\x00"
CONNACK_PRESENT = b"\x20\x02\x01\x00"


class Gone(Exception):
    """The node has closed the connection."""


@dataclass
class Packet:
    """An MQTT packet as it came: `first` is its first byte, `body` what follows the remaining length."""

    first: int
    body: bytes

    @property
    def kind(self) -> int:
        return self.first >> 4

    @property
    def qos(self) -> int:
        return self.first >> 1 & 3

    @property
    def topic(self) -> str:
        return self.body[2 : 2 + self._topic_size].decode()

    @property
    def pid(self) -> int:
        """Of a PUBLISH, SUBSCRIBE or PUBACK."""
        at = 2 + self._topic_size if self.kind == 3 else 0
        return int.from_bytes(self.body[at : at + 2], "big") if self.qos or self.kind == 4 else 0

    @property
    def payload(self) -> bytes:
        return self.body[2 + self._topic_size + (2 if self.qos else 0) :]

    @property
    def _topic_size(self) -> int:
        return int.from_bytes(self.body[:2], "big")


def puback(pid: int) -> bytes:
    return struct.pack(">BBH", 0x40, 2, pid)


def suback(pid: int, *codes: int) -> bytes:
    return struct.pack(">BBH", 0x90, 2 + len(codes), pid) + bytes(codes)


def publish(topic: bytes, payload: bytes, pid: int = 0) -> bytes:
    """A PUBLISH to the node, of QoS 1 if it has a packet id."""
    body = struct.pack(">H", len(topic)) + topic + (struct.pack(">H", pid) if pid else b"") + payload
    size = bytearray()
    rest = len(body)
    while rest > 0x7F:
        size.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes((0x32 if pid else 0x30, *size, rest)) + body


@dataclass
class Link:
    """One connection, from the broker's end. TLS is done in memory, so every byte on the wire is seen."""

    sock: socket.socket
    context: ssl.SSLContext
    records: list[int] = field(default_factory=list)
    """Sizes of the application data records that came, as on the wire."""

    def __post_init__(self) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = self.context.wrap_bio(self._in, self._out, server_side=True)
        self._raw = bytearray()  # came, and not yet a whole record
        self._plain = bytearray()

    def handshake(self) -> Self:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._feed()
            else:
                self._flush()
                return self

    def begin_handshake(self, size: int) -> None:
        """Answer the node's hello with the first `size` bytes of what should be said."""
        self._in.write(self.sock.recv(65536))
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        self.send_raw(self._out.read()[:size])

    def send(self, *pieces: bytes) -> None:
        """Send each piece as a TLS record of its own."""
        for piece in pieces:
            self._tls.write(piece)
            self._flush()

    def send_raw(self, data: bytes) -> None:
        self.sock.sendall(data)

    def packet(self) -> Packet:
        """The next MQTT packet. Raises Gone."""
        head = self._take(2)
        length, shift = head[1] & 0x7F, 7
        while head[-1] & 0x80:
            head += self._take(1)
            length |= (head[-1] & 0x7F) << shift
            shift += 7
        return Packet(head[0], self._take(length))

    def greet(self, connack: bytes = CONNACK) -> Packet:
        """Do the handshake, take the CONNECT, and accept it."""
        self.handshake()
        connect = self.packet()
        self.send(connack)
        return connect

    def acknowledge(self) -> Packet:
        """Take the next packet; acknowledge it when it is a PUBLISH of QoS 1."""
        packet = self.packet()
        if packet.kind == 3 and packet.qos:
            self.send(puback(packet.pid))
        elif packet.kind == 12:
            self.send(b"\xd0\x00")
        return packet

    def until_gone(self) -> None:
        """Swallow what comes until the node hangs up."""
        with contextlib.suppress(Gone):
            while True:
                self._take(1)

    def hang_up(self) -> None:
        """Close so that all that was sent arrives: without RST, whatever the node still says."""
        self.sock.shutdown(socket.SHUT_WR)
        self.until_gone()

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def _take(self, size: int) -> bytes:
        while len(self._plain) < size:
            try:
                self._plain += self._tls.read(65536)
            except ssl.SSLWantReadError:
                self._feed()
            except ssl.SSLError as e:
                raise Gone from e
        taken = bytes(self._plain[:size])
        del self._plain[:size]
        return taken

    def _feed(self) -> None:
        try:
            data = self.sock.recv(65536)
        except OSError as e:
            raise Gone from e
        if not data:
            raise Gone
        self._in.write(data)
        self._raw += data
        while len(self._raw) >= 5:
            size = 5 + int.from_bytes(self._raw[3:5], "big")
            if len(self._raw) < size:
                break
            if self._raw[0] == APPLICATION_DATA:
                self.records.append(size)
            del self._raw[:size]

    def _flush(self) -> None:
        try:
            self.sock.sendall(self._out.read())
        except OSError as e:
            raise Gone from e


Script = Callable[[Link], Any]


class Peer:
    """Listens, and gives the first connection to the first script, and so on; the last one takes the rest."""

    def __init__(
        self, certificate: ssl.SSLContext, scripts: Sequence[Script], receive_buffer: int = 0
    ) -> None:
        self._context = certificate
        self._scripts = scripts
        self.links: list[Link] = []
        self.errors: list[BaseException] = []
        self._listener = socket.socket()
        if receive_buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(8)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(DEADLINE)
        if kind is None and self.errors:
            raise self.errors[0]

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                sock.settimeout(DEADLINE)
                script = self._scripts[min(len(self.links), len(self._scripts) - 1)]
                link = Link(sock, self._context)
                self.links.append(link)
                try:
                    script(link)
                except (Gone, ssl.SSLError, ConnectionError):
                    pass  # the node went: what it says of that is what counts
                except BaseException as e:
                    self.errors.append(e)
                finally:
                    sock.close()


class Plant:
    """The certificates of a test: an authority, a node's identity as DER files, and the broker's context."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority.create(folder / "ca")
        identity = self.authority.issue_node("n01")
        for name, der in (("key", identity.key), ("chain", identity.chain[0]), ("trusted", identity.cas[0])):
            (folder / f"{name}.der").write_bytes(der)

    def context(self, credential: Credential | None = None) -> ssl.SSLContext:
        """The broker's TLS, with another certificate than its own if one is given."""
        credential = credential or self.authority.issue_broker([BROKER_NAME])
        stem = f"broker{len(list(self.folder.glob('broker*.key')))}"
        credential.save(self.folder, stem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / f"{stem}.crt", self.folder / f"{stem}.key")
        context.load_verify_locations(self.folder / "ca" / "ca.crt")
        context.verify_mode = ssl.CERT_REQUIRED
        # In TLS 1.3 the handshake comes in records of application data too, and could not be told apart.
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        return context

    @contextlib.contextmanager
    def start(
        self, port: int, script: str, heap: str = "512k", umqtt: Path | None = None
    ) -> Iterator[subprocess.Popen[str]]:
        """MicroPython with `script` behind the prelude, in a process that ends with the `with` block.

        `umqtt` is a folder with another umqtt/simple.py than the pinned one.
        """
        path = self.folder / "script.py"
        path.write_text(PRELUDE.format(folder=str(self.folder), port=port, name=BROKER_NAME) + script)
        umqtt = umqtt or parts.umqtt_simple()
        process = subprocess.Popen(
            [*micropython.command(), "-X", f"heapsize={heap}", str(path)],
            env=os.environ | {"MICROPYPATH": f".frozen:{paths.FIRMWARE}:{umqtt}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def run(
        self, port: int, script: str, heap: str = "512k", umqtt: Path | None = None, seconds: float = DEADLINE
    ) -> list[Any]:
        """What the script has told, by `tell`, when it has ended."""
        with self.start(port, script, heap, umqtt) as process:
            try:
                output, _ = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                raise AssertionError(f"MicroPython hangs:\n{process.communicate()[0]}") from None
            assert "Traceback" not in output, output  # the exit code is 0 all the same
        return [json.loads(line[1:]) for line in output.split("\n") if line.startswith("\x1e")]


def sockets(process: subprocess.Popen[str]) -> int:
    """How many sockets it has open."""
    return sum(fd.readlink().name.startswith("socket") for fd in Path(f"/proc/{process.pid}/fd").iterdir())


PRELUDE = '''
import gc, json, os, socket, ssl, sys, time
from limpet import mqtt
from limpet.mqtt import CLOSED, UP, Session

FOLDER, PORT, NAME = "{folder}", {port}, "{name}"
ADDRESS = socket.getaddrinfo("127.0.0.1", PORT)[0][-1]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.verify_mode = ssl.CERT_REQUIRED
read = lambda name: open(FOLDER + "/" + name + ".der", "rb").read()
context.load_cert_chain(read("chain"), read("key"))
context.load_verify_locations(cadata=read("trusted"))

def tell(*what):
    print("\\x1e" + json.dumps(what))

def sign(name):
    """Tell the peer's script that a moment has come."""
    open(FOLDER + "/" + name, "w").close()

class Hurried:
    """Time that runs `factor` times as fast: deadlines are compiled in, and tests cannot wait for them."""
    def __init__(self, factor): self.factor = factor
    def ticks_ms(self): return time.ticks_ms() * self.factor
    ticks_diff = staticmethod(time.ticks_diff)
    ticks_add = staticmethod(time.ticks_add)
    gmtime = staticmethod(time.gmtime)
    time = staticmethod(time.time)

class Manual:
    """Time that goes on when the script says so."""
    def __init__(self): self.ticks = 0
    def ticks_ms(self): return self.ticks
    ticks_diff = staticmethod(time.ticks_diff)
    ticks_add = staticmethod(time.ticks_add)

def new(keepalive=30, topics=()):
    session = Session("n01", keepalive, context, topics)
    session.acked = []
    session.on_ack = session.acked.append
    return session

def step_until(session, condition, seconds=60):
    """Step; True when the condition was met, False when the session is closed or time is over."""
    end = time.ticks_add(time.ticks_ms(), seconds * 1000)
    while not condition():
        if session.state == CLOSED or time.ticks_diff(end, time.ticks_ms()) < 0:
            return False
        session.step()
        time.sleep_ms(1)
    return True

def reconnect(session, clean=False):
    session.connect(ADDRESS, NAME, clean)
    assert step_until(session, lambda: session.state == UP), session.error
    return session

def connect(clean=False, **options):
    return reconnect(new(**options), clean)

def ending(session, seconds=60):
    """What the session says when it has ended, and "hangs" when it has not."""
    step_until(session, lambda: False, seconds)
    return session.error if session.state == CLOSED else "hangs"
'''
