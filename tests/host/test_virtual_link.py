"""The link with faults, between real sockets and with real TLS."""

import contextlib
import os
import random
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_tools.pki.authority import Authority
from host_tools.virtual.bench import Bench
from host_tools.virtual.link import Conditions, Cut, Link, Records, Side, Way
from tests.host.stand import wait_until

PATIENCE = 20.0  # seconds; for what must come
SILENCE = 0.3  # seconds in which nothing must come


class Server:
    """Hands out the connections that it gets."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(PATIENCE)
        self.port: int = self.listener.getsockname()[1]

    def accept(self) -> socket.socket:
        sock, _ = self.listener.accept()
        sock.settimeout(PATIENCE)
        return sock


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    with server.listener:
        yield server


@pytest.fixture
def link(server: Server) -> Iterator[Link]:
    with Link("127.0.0.1", server.port, seed=1) as link:
        yield link


def dial(link: Link, timeout: float = PATIENCE) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", link.port), timeout)
    sock.settimeout(PATIENCE)
    return sock


@contextlib.contextmanager
def joined(link: Link, server: Server) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client's and the server's end of a connection over the link."""
    with dial(link) as near, server.accept() as far:
        yield near, far


def receive(sock: socket.socket, size: int) -> bytes:
    """So many bytes, or what comes before an end."""
    data = b""
    while len(data) < size and (more := sock.recv(size - len(data))):
        data += more
    return data


def is_silent(sock: socket.socket) -> bool:
    """Whether nothing comes, neither bytes nor an end."""
    sock.settimeout(SILENCE)
    try:
        sock.recv(1)
    except TimeoutError:
        return True
    finally:
        sock.settimeout(PATIENCE)
    return False


def is_reset(sock: socket.socket) -> bool:
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        return True
    return False


def test_everything_passes_unaltered_and_is_counted(link: Link, server: Server) -> None:
    up, down = random.Random(1).randbytes(3_000_000), random.Random(2).randbytes(2_000_000)
    with joined(link, server) as (near, far):
        senders = [threading.Thread(target=near.sendall, args=(up,))]
        senders += [threading.Thread(target=far.sendall, args=(down,))]
        for sender in senders:
            sender.start()
        received: list[bytes] = []
        reader = threading.Thread(target=lambda: received.append(receive(near, len(down))))
        reader.start()
        assert receive(far, len(up)) == up
        reader.join()
        assert received == [down]
        # The end passes each way by itself.
        near.shutdown(socket.SHUT_WR)
        assert far.recv(1) == b""
        far.sendall(b"later")
        assert receive(near, 5) == b"later"
        far.close()
        assert near.recv(1) == b""
    (connection,) = link.connections
    wait_until(lambda: connection.end, "the end")
    assert (connection.end, connection.up.bytes, connection.down.bytes) == ("closed", len(up), len(down) + 5)


def test_latency_delays_each_way_and_does_not_add_up(link: Link, server: Server) -> None:
    link.conditions = Conditions(latency=0.2)
    with joined(link, server) as (near, far):
        began = time.monotonic()
        near.sendall(b"a")
        assert far.recv(1) == b"a"
        one_way = time.monotonic() - began
        far.sendall(b"b")
        assert near.recv(1) == b"b"
        assert one_way >= 0.2
        assert time.monotonic() - began >= 0.4
        began = time.monotonic()
        for _ in range(60):
            near.sendall(b"c")
            time.sleep(0.005)
        receive(far, 60)
        assert time.monotonic() - began < 60 * 0.2, "they are on their way together"


def test_stalls_come_by_the_seed(server: Server) -> None:
    def stalled(seed: int) -> list[bool]:
        found = []
        with Link("127.0.0.1", server.port, seed=seed) as link, joined(link, server) as (near, far):
            link.conditions = Conditions(stall_chance=0.3, stall=(0.1, 0.12))
            for _ in range(12):
                began = time.monotonic()
                near.sendall(b"x")
                assert far.recv(1) == b"x"
                found.append(time.monotonic() - began >= 0.1)
        return found

    def is_repeated() -> bool:  # a busy machine may stall too
        first = stalled(3)
        return True in first and False in first and first == stalled(3)

    assert any(is_repeated() for _ in range(5))
    assert any(stalled(3) != stalled(seed) for seed in range(4, 7))


def test_a_throttled_link_takes_its_time(link: Link, server: Server) -> None:
    link.conditions = Conditions(rate=100_000)
    with joined(link, server) as (near, far):
        began = time.monotonic()
        near.sendall(bytes(60_000))
        assert len(receive(far, 60_000)) == 60_000
        assert time.monotonic() - began >= 0.5
        link.conditions = Conditions()
        near.sendall(bytes(1_000_000))
        receive(far, 1_000_000)


def test_in_a_blackout_nothing_passes_and_nothing_closes(link: Link, server: Server) -> None:
    with joined(link, server) as (near, far):
        near.sendall(b"before")
        assert receive(far, 6) == b"before"
        link.blackout()
        link.blackout()
        near.sendall(b"up")
        far.sendall(b"down")
        assert is_silent(far)
        assert is_silent(near)
        with pytest.raises(TimeoutError):  # neither accepted nor refused
            dial(link, SILENCE)
        link.restore()
        assert receive(far, 2) == b"up"
        assert receive(near, 4) == b"down"
        with dial(link) as other:
            other.sendall(b"new")
            assert receive(server.accept(), 3) == b"new"
    assert len(link.connections) == 2, "what fills the queue of the kernel does not count"


@pytest.mark.parametrize("how", ["close", "reset"])
def test_who_leaves_in_a_blackout_is_missed_after_it(link: Link, server: Server, how: str) -> None:
    with joined(link, server) as (near, far):
        near.sendall(b"x")
        assert far.recv(1) == b"x"
        link.blackout()
        if how == "reset":
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        near.close()
        assert is_silent(far)
        assert not link.connections[0].end
        link.restore()
        assert is_reset(far) if how == "reset" else far.recv(1) == b""


def test_a_connect_that_a_blackout_has_caught_succeeds_after_it(link: Link, server: Server) -> None:
    link.blackout()
    restore = threading.Timer(0.5, link.restore)
    restore.start()
    with dial(link) as near:
        near.sendall(b"x")
        assert server.accept().recv(1) == b"x"
    restore.join()


def test_refused_connections_and_those_that_go_on(link: Link, server: Server) -> None:
    with joined(link, server) as (near, far):
        port = link.port
        link.refuse()
        with pytest.raises(ConnectionRefusedError):
            dial(link)
        near.sendall(b"x")
        assert far.recv(1) == b"x"
        link.restore()
        assert link.port == port
        with joined(link, server) as (other, _):
            other.sendall(b"y")


@pytest.mark.parametrize("told", [None, "client", "server"])
def test_half_open(link: Link, server: Server, told: Side | None) -> None:
    with joined(link, server) as (near, far):
        near.sendall(b"x")
        assert far.recv(1) == b"x"
        link.half_open(told)
        for sock, side, other in ((near, "client", far), (far, "server", near)):
            if side == told:
                assert is_reset(sock)
            else:
                if not told:
                    other.sendall(b"lost")
                assert is_silent(sock)
        assert link.connections[0].end == "half-open"
        with joined(link, server) as (other, new):
            other.sendall(b"new ones go")
            assert receive(new, 11) == b"new ones go"
        link.reset()
        for sock, side in ((near, "client"), (far, "server")):
            assert side == told or is_reset(sock)


def test_reset_reaches_both_sides(link: Link, server: Server) -> None:
    with joined(link, server) as (near, far):
        near.sendall(b"x")
        assert far.recv(1) == b"x"
        link.reset()
        assert (is_reset(near), is_reset(far)) == (True, True)
    assert link.connections[0].end == "reset"


def test_a_reset_of_one_side_is_passed_on(link: Link, server: Server) -> None:
    with joined(link, server) as (near, far):
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        near.close()
        assert is_reset(far)
    assert link.connections[0].end == "closed"


def test_another_target_and_one_where_nobody_listens(link: Link, server: Server) -> None:
    other = Server()
    with other.listener:
        link.target = ("127.0.0.1", other.port)
        with dial(link) as near:
            near.sendall(b"x")
            assert other.accept().recv(1) == b"x"
    with contextlib.suppress(ConnectionResetError), dial(link) as near:  # it may come while we connect
        assert is_reset(near)
    assert link.connections[-1].end == "unreachable"


def test_closing_the_link_leaves_nothing(server: Server) -> None:
    before = len(os.listdir("/dev/fd"))  # noqa: PTH208
    with Link("127.0.0.1", server.port) as link:
        for _ in range(5):
            with joined(link, server) as (near, _):
                near.sendall(b"x")
        with joined(link, server) as (near, far):
            link.half_open()
            with joined(link, server) as (other, end):
                link.blackout()
                link.restore()
                link.refuse()
                link.blackout()
                link.__exit__()
                assert [is_reset(sock) for sock in (near, far, other, end)] == [True] * 4
    assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208


def test_links_share_a_bench(server: Server) -> None:
    with (
        Bench() as bench,
        Link("127.0.0.1", server.port, bench=bench) as first,
        Link("127.0.0.1", first.port, bench=bench) as second,
        joined(second, server) as (near, far),
    ):
        near.sendall(b"through both")
        assert receive(far, 12) == b"through both"


# TLS


class TlsEnds:
    """TLS 1.2 over a link: each message is one record of application data."""

    def __init__(self, folder: Path) -> None:
        authority = Authority.create(folder)
        authority.issue_broker(["localhost"]).save(folder, "broker")
        self._server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server.load_cert_chain(folder / "broker.crt", folder / "broker.key")
        self._server.maximum_version = ssl.TLSVersion.TLSv1_2
        self._client = ssl.create_default_context(cafile=str(folder / "ca.crt"))

    @contextlib.contextmanager
    def joined(self, link: Link, server: Server) -> Iterator[tuple[ssl.SSLSocket, ssl.SSLSocket]]:
        ends: list[ssl.SSLSocket] = []

        def serve() -> None:
            ends.append(self._server.wrap_socket(server.accept(), server_side=True))

        thread = threading.Thread(target=serve)
        thread.start()
        with self._client.wrap_socket(dial(link), server_hostname="localhost") as near:
            thread.join()
            with ends[0] as far:
                yield near, far


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsEnds:
    return TlsEnds(tmp_path_factory.mktemp("pki"))


def talk(sender: ssl.SSLSocket, receiver: ssl.SSLSocket, messages: int) -> list[bytes]:
    """Send so many numbered messages and receive what comes of them, until an end of any kind."""
    with contextlib.suppress(OSError):
        for i in range(1, messages + 1):
            sender.sendall(b"%07d." % i)
    received = b""
    with contextlib.suppress(OSError):
        received = receive(receiver, 8 * messages)
    return received.split(b".")[:-1]


def test_records_are_counted(link: Link, server: Server, tls: TlsEnds) -> None:
    with tls.joined(link, server) as (near, far):
        assert len(talk(near, far, 7)) == 7
        assert len(talk(far, near, 5)) == 5
        (connection,) = link.connections
        # Counted when delivered, which may be a moment after it was read.
        wait_until(lambda: (connection.up.records, connection.down.records) == (7, 5), "the records")


@pytest.mark.parametrize("middle", [False, True])
@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("record", [1, 4])
def test_a_cut(link: Link, server: Server, tls: TlsEnds, way: Way, record: int, middle: bool) -> None:
    link.cut_next(Cut(way, record, middle))
    with tls.joined(link, server) as (near, far):
        sender, receiver = (near, far) if way == "up" else (far, near)
        whole = record - 1 if middle else record
        assert talk(sender, receiver, 6) == [b"%07d" % i for i in range(1, whole + 1)]
        assert sender.recv(1) == b""
    connection = link.connections[0]
    assert connection.end == "cut"
    traffic, other = connection.up, connection.down
    if way == "down":
        traffic, other = other, traffic
    assert (traffic.records, other.records) == (whole, 0)
    with tls.joined(link, server) as (near, far):
        assert len(talk(near, far, 6)) == 6, "only the next connection is cut"


def test_a_cut_is_a_reset(link: Link, server: Server) -> None:
    record = b"\x17\x03\x03\x00\x04data"
    link.cut_next(Cut("down", 2, middle=True))
    with joined(link, server) as (near, far):
        far.sendall(record * 3)
        assert receive(near, 16) == (record * 2)[:16], "all that comes before the cut"
        assert (is_reset(near), is_reset(far)) == (True, True)


def test_a_cut_stops_the_other_way_too(link: Link, server: Server, tls: TlsEnds) -> None:
    link.cut_next(Cut("up", 1, pause=1.0))
    with tls.joined(link, server) as (near, far):
        near.sendall(b"question")
        assert far.recv(8) == b"question"
        far.sendall(b"answer")
        assert near.recv(6) == b""
    assert link.connections[0].down.records == 0


def test_cuts_of_one_connection_after_the_other(link: Link, server: Server, tls: TlsEnds) -> None:
    link.cut_next(Cut("up", 3), Cut("up", 1))
    for expected in (3, 1, 6):
        with tls.joined(link, server) as (near, far):
            assert len(talk(near, far, 6)) == expected


def test_a_cut_is_taken_back(link: Link, server: Server, tls: TlsEnds) -> None:
    link.cut_next(Cut("up", 1))
    link.cut_next()
    with tls.joined(link, server) as (near, far):
        assert len(talk(near, far, 6)) == 6


def test_the_place_of_a_cut_does_not_depend_on_the_chunks() -> None:
    dice = random.Random(5)
    for _ in range(300):
        bodies = [(dice.choice((22, 23, 23, 21)), dice.randrange(0, 40)) for _ in range(12)]
        stream = b"".join(
            bytes((kind, 3, 3)) + size.to_bytes(2, "big") + bytes(size) for kind, size in bodies
        )
        ends, at = [], 0  # of application data: (in the middle, behind it)
        for kind, size in bodies:
            if kind == 23:
                ends.append((at + 5 + size // 2, at + 5 + size))
            at += 5 + size
        cut = Cut("up", dice.randrange(1, 14), dice.random() < 0.5)
        expected = ends[cut.record - 1][0 if cut.middle else 1] if cut.record <= len(ends) else None
        records, fed, found = Records(), 0, None
        while found is None and fed < len(stream):
            chunk = stream[fed : fed + dice.choice((1, 2, 5, 17, 400))]
            found = records.feed(chunk, cut)
            fed += len(chunk) if found is None else found
        assert (None if found is None else fed) == expected, (bodies, cut)
        if expected is None:
            assert records.count == len(ends)
        elif not cut.middle:
            assert records.count == cut.record
