"""The rig's link between a client and an echo server, and the air of a virtual board."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from host_tools.errors import LimpetError, UsageError
from host_tools.hil.blocked import Blocked
from host_tools.hil.board import Network
from host_tools.hil.board.virtual import VirtualRadio
from host_tools.hil.link import Link
from host_tools.hil.timeline import Timeline
from host_tools.virtual.bench import Bench
from host_tools.virtual.link import Connection, Cut, Way
from host_tools.virtual.world import World

PATIENCE = 20.0  # seconds; for what must come
SILENCE = 0.3  # seconds in which nothing must come
RECORD = b"\x17\x03\x03\x00\x04data"


class Echo:
    """A server that says what it hears, and keeps what passes over a link to it."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.target: tuple[str, int] = self._listener.getsockname()
        self.passed: dict[Way, bytes] = {"up": b"", "down": b""}
        threading.Thread(target=self._serve, daemon=True).start()

    def tap(self, connection: Connection, way: Way, data: bytes) -> None:
        self.passed[way] += data

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._echo, args=(self._listener.accept()[0],), daemon=True).start()

    @staticmethod
    def _echo(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            while data := sock.recv(4096):
                sock.sendall(data)


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    echo = Echo()
    yield echo
    echo.close()


@pytest.fixture
def timeline() -> Timeline:
    return Timeline()


@pytest.fixture
def link(echo: Echo, timeline: Timeline) -> Iterator[Link]:
    with Link(timeline) as link:
        link.lead_to(echo)
        yield link


def dial(link: Link, timeout: float = PATIENCE, address: str = "127.0.0.1") -> socket.socket:
    sock = socket.create_connection((address, link.port), timeout)
    sock.settimeout(PATIENCE)
    return sock


def answers(sock: socket.socket, data: bytes = b"hello", patience: float = PATIENCE) -> bool:
    """Whether all of it comes back; not when the connection ends, nor in that time."""
    sock.settimeout(patience)
    back = b""
    try:
        sock.sendall(data)
        while len(back) < len(data) and (more := sock.recv(4096)):
            back += more
    except OSError:
        return False
    return back == data


def test_it_leads_to_the_server_which_sees_what_passes(link: Link, echo: Echo) -> None:
    before = len(echo.passed["up"])
    with dial(link) as sock:
        assert answers(sock, b"what passes")
    assert echo.passed["up"][before:] == b"what passes"
    assert echo.passed["down"].endswith(b"what passes")
    assert link.target == echo.target and len(link.connections) == 1


def test_before_it_leads_anywhere_nobody_is_there(timeline: Timeline) -> None:
    with Link(timeline) as link, pytest.raises(ConnectionError), dial(link) as sock:
        sock.recv(1)


@pytest.mark.parametrize("address", ["127.0.0.2", "0.0.0.0"])
def test_at_another_address(echo: Echo, address: str) -> None:
    with Link(Timeline(), address=address) as link:
        link.lead_to(echo)
        with dial(link, address="127.0.0.2") as sock:
            assert answers(sock)
        link.cut()
        with pytest.raises(TimeoutError):
            dial(link, SILENCE, "127.0.0.2").close()
        link.clear()
        with dial(link, address="127.0.0.2") as sock:
            assert answers(sock)


def test_at_an_address_of_another_machine() -> None:
    with pytest.raises(LimpetError, match=r"cannot listen at 192\.0\.2\.1: give the rig an address"):
        Link(Timeline(), address="192.0.2.1").__enter__()


def test_cut_and_restore(link: Link, timeline: Timeline) -> None:
    with dial(link) as sock:
        assert answers(sock)
        link.cut()
        assert not answers(sock, patience=SILENCE)
        with pytest.raises(TimeoutError):
            dial(link, SILENCE).close()
        link.restore()
        sock.settimeout(PATIENCE)
        assert sock.recv(100) == b"hello", "what waited comes"
    assert [(each.source, each.text) for each in timeline.events()] == [("link", "cut"), ("link", "restore")]


@pytest.mark.parametrize("end", [Link.restore, Link.clear])
def test_refuse(link: Link, end: Callable[[Link], None]) -> None:
    port = link.port
    with dial(link) as sock:
        assert answers(sock)
        link.refuse()
        with pytest.raises(ConnectionRefusedError):
            dial(link).close()
        assert answers(sock), "those that there are go on"
    end(link)
    assert link.port == port
    with dial(link) as sock:
        assert answers(sock)


def test_reset(link: Link) -> None:
    with dial(link) as sock:
        assert answers(sock)
        link.reset()
        with pytest.raises(ConnectionResetError):
            sock.recv(1)


@pytest.mark.parametrize("told", [None, "server", "client"])
def test_half_open(link: Link, timeline: Timeline, told: str | None) -> None:
    with dial(link) as sock:
        assert answers(sock)
        link.half_open(told)  # type: ignore[arg-type]
        with pytest.raises(ConnectionResetError if told == "client" else TimeoutError):
            sock.settimeout(PATIENCE if told == "client" else SILENCE)
            sock.recv(1)
    with dial(link) as sock:
        assert answers(sock), "the next one is as any"
    assert timeline.events()[0].values == {"told": told or "nobody"}


def test_break_next(link: Link, echo: Echo) -> None:
    before = len(echo.passed["up"])
    link.break_next(Cut("up", 2))
    with dial(link) as sock:
        assert not answers(sock, RECORD * 3)
    assert link.connections[0].up.records == 2
    assert echo.passed["up"][before:] == RECORD * 2, "what is cut off has not passed"
    link.break_next(Cut("up", 1))
    link.clear()
    with dial(link) as sock:
        assert answers(sock, RECORD * 3), "it is taken back"


def test_latency_loss_and_throttle_add_up_until_cleared(link: Link, timeline: Timeline) -> None:
    with dial(link) as sock:
        for slow, name in (
            (lambda: link.latency(60), "latency"),
            (lambda: link.throttle(0.1), "throttle"),
        ):
            slow()
            assert not answers(sock, b"hello, " * 5, SILENCE), name
            link.clear()
            with dial(link) as other:
                assert answers(other), name
    link.latency(0.001)
    link.loss(1.0)
    link.throttle(1e6)
    with dial(link) as sock:
        assert not answers(sock, patience=0.1), "every chunk stalls for 0.1 s at least, each way"
    told = [(each.text, *each.values.values()) for each in timeline.events() if each.text != "clear"]
    assert told == [("latency", 60), ("throttle", 0.1), ("latency", 0.001), ("loss", 1.0), ("throttle", 1e6)]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda link: link.latency(-1), "A latency of -1: give 0 or more."),
        (lambda link: link.latency(float("nan")), "A latency of nan: give 0 or more."),
        (lambda link: link.loss(30), "A loss of 30: give a number from 0 to 1."),
        (lambda link: link.throttle(-1), "A throttle of -1: give 0 or more."),
    ],
)
def test_a_figure_that_makes_no_sense(
    link: Link, timeline: Timeline, make: Callable[[Link], None], said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        make(link)
    assert str(caught.value) == said
    assert not timeline.events(0)


def test_the_air() -> None:
    timeline, world = Timeline(), World()
    with Bench() as bench:
        radio = VirtualRadio(bench, world, Network("stand", "right one"))
        with Link(timeline, radio=radio) as link:

            def there() -> list[tuple[str, str | None]]:
                return [(each.ssid, each.password) for each in world.access_points]

            link.wifi_on()
            assert there() == [("stand", "right one")]
            link.wifi_password("wrong one")
            assert there() == [("stand", "wrong one")]
            link.wifi_off()
            assert there() == []
            link.names_fail("no-such-name")
            assert world.name_server.fault == "no-such-name"
            link.names_ok()
            assert world.name_server.fault is None
            link.names_fail("silent")
            with pytest.raises(LimpetError, match="asleep"):
                link.names_fail("asleep")
            link.name("broker.test")
            assert world.name_server.names == {"broker.test": [link.address]}
            link.clear()
            assert (there(), world.name_server.fault) == ([("stand", "right one")], None)
            assert world.name_server.names == {}
    assert "wrong one" not in repr(timeline.events()), "a password is a secret"


def test_without_a_radio_of_ours_the_test_is_blocked(link: Link) -> None:
    for ask in (
        link.wifi_off,
        link.wifi_on,
        lambda: link.wifi_password(None),
        lambda: link.name("broker.test"),
        lambda: link.names_fail("silent"),
        link.names_ok,
        lambda: link.name("broker.plant.example"),
    ):
        with pytest.raises(Blocked, match="Wi-Fi and name server are not ours"):
            ask()
    link.clear()
