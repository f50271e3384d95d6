"""A whole node, a real Mosquitto, and what networks and brokers do to the way between them.

Whatever it is: everything measured arrives once it is over, and nothing else (tests/host/counting.py). Short
forms run every time; `make soak` runs the full ones.
"""

import contextlib
import random
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from host_tools.broker.mosquitto import find_executable
from host_tools.virtual.link import Conditions, Cut, Link, Side, Way
from tests.host import hostile
from tests.host.counting import PATIENCE, SEED, Canary, Network, Oracle
from tests.host.stand import Node, Stand, wait_until

pytestmark = pytest.mark.skipif(not find_executable(), reason="Mosquitto is not installed")
soak = [pytest.mark.soak, pytest.mark.timeout(600)]

SUBACK = 9


@dataclass
class Trial:
    """One node, its link, and what is seen of both."""

    stand: Network
    link: Link
    oracle: Oracle

    @property
    def node(self) -> Node:
        return self.oracle.node


@contextlib.contextmanager
def trial(folder: Path, name: str, persistent: bool = False, keepalive: int = 10) -> Iterator[Trial]:
    """A node that delivers. After the `with` block everything must arrive, once trouble is over."""
    with Network(folder, persistent) as stand, Canary() as canary:
        link = stand.link()
        oracle = stand.counting_node([link], keepalive=keepalive)
        oracle.node.start()
        oracle.wait_for(10)
        yield Trial(stand, link, oracle)
        settle([oracle])
        print(f"\n{name}")
        report([oracle], canary)


def settle(oracles: Sequence[Oracle]) -> None:
    """After the trouble: everything arrives, and goes on to."""
    for oracle in oracles:
        oracle.wait_for_all()
        oracle.wait_for(oracle.look() + 10)
    for oracle in oracles:
        oracle.node.power_off()
        oracle.look()
        assert oracle.node.board.boots == 1, oracle.node.log
        assert "Traceback" not in oracle.node.log, oracle.node.log


def report(oracles: Sequence[Oracle], canary: Canary) -> None:
    """Figures, for `pytest -s`."""
    for oracle in oracles:
        print(f"  {oracle.summary()}")
    print(f"  the canary was late by {canary.worst_ms()} ms")


# Outages: each makes a trouble, keeps it for so many seconds and ends it.

Outage = Callable[[Trial, float], None]


def broker_stopped(t: Trial, seconds: float) -> None:
    t.stand.broker.pause()
    try:
        time.sleep(seconds)
    finally:
        t.stand.broker.resume()


def broker_killed(t: Trial, seconds: float) -> None:
    # The node may come back when the console is there: what nobody hears is no evidence.
    t.link.refuse()
    t.stand.broker.pause()  # so that there is something in flight
    time.sleep(1)
    t.stand.broker.kill()
    wait_until(lambda: not t.stand.console_is_up, "the console without a broker")
    time.sleep(seconds)
    t.stand.broker = t.stand.start_broker(t.stand.broker.port)
    wait_until(lambda: t.stand.console_is_up, "the console at the new broker")
    t.link.restore()


def blackout(t: Trial, seconds: float) -> None:
    t.link.blackout()
    time.sleep(seconds)
    t.link.restore()


def slow(t: Trial, seconds: float) -> None:
    """A bad line all the time; readings must get through meanwhile."""
    t.link.conditions = Conditions(latency=0.2, stall_chance=0.2)
    before = t.oracle.look()
    time.sleep(seconds)
    assert t.oracle.look() > before
    t.link.conditions = Conditions()


def throttled(t: Trial, seconds: float) -> None:
    t.link.conditions = Conditions(rate=1500)
    t.link.reset()
    time.sleep(seconds)
    t.link.conditions = Conditions()


def refused(t: Trial, seconds: float) -> None:
    t.link.refuse()
    t.link.reset()
    time.sleep(seconds)
    t.link.restore()


def radio_lost(t: Trial, seconds: float) -> None:
    with t.node.off_air():
        time.sleep(seconds)


OUTAGES: dict[str, Outage] = {
    "broker stopped": broker_stopped,
    "blackout": blackout,
    "slow and stalling": slow,
    "throttled": throttled,
    "refused": refused,
    "radio lost": radio_lost,
}


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("broker stopped", 3),
        ("blackout", 3),
        ("slow and stalling", 4),
        ("refused", 2),
        ("radio lost", 3),
        pytest.param("broker stopped", 15, marks=soak),
        pytest.param("blackout", 15, marks=soak),
        pytest.param("slow and stalling", 60, marks=soak),
        pytest.param("throttled", 60, marks=soak),
        pytest.param("refused", 15, marks=soak),
        pytest.param("radio lost", 15, marks=soak),
    ],
)
def test_an_outage(tmp_path: Path, name: str, seconds: float) -> None:
    with trial(tmp_path, f"{name} for {seconds} s") as t:
        OUTAGES[name](t, seconds)


@pytest.mark.parametrize("persistent", [False, True], ids=["forgets", "persistent"])
@pytest.mark.parametrize("seconds", [0, pytest.param(15, marks=soak)])
def test_a_broker_is_killed_and_comes_back(tmp_path: Path, persistent: bool, seconds: float) -> None:
    name = f"broker killed, {seconds} s, {'with' if persistent else 'without'} persistence"
    with trial(tmp_path, name, persistent) as t:
        broker_killed(t, seconds)


@pytest.mark.parametrize(
    ("keepalive", "told"), [(2, None), *[pytest.param(10, told, marks=soak) for told in (None, "server")]]
)
def test_half_open_is_noticed_by_the_keepalive(tmp_path: Path, keepalive: int, told: Side | None) -> None:
    with trial(tmp_path, f"half-open, keepalive {keepalive} s", keepalive=keepalive) as t:
        known = len(t.link.connections)
        t.link.half_open(told)
        began = time.monotonic()
        # 1.5 keepalives; the first wait before a new connection, and a busy machine, are the rest.
        wait_until(lambda: len(t.link.connections) > known, "a new connection", 1.5 * keepalive + 5)
        print(f"\nkeepalive {keepalive} s: a new connection after {time.monotonic() - began:.1f} s")
        t.oracle.wait_for_all()
        assert t.link.connections[0].end == "half-open"


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [("silent", 2), *[pytest.param(fault, 15, marks=soak) for fault in ("silent", "no-such-name")]],
)
def test_a_name_that_does_not_resolve(tmp_path: Path, fault: str, seconds: float) -> None:
    host = "broker.plant.example"
    with Network(tmp_path) as stand:
        link = stand.link()
        oracle = stand.counting_node([link], host=host)
        names = oracle.node.world.name_server
        names.names[host] = ["127.0.0.1"]
        oracle.node.start()
        oracle.wait_for(10)
        names.fault = fault
        asked = len(names.asked)
        link.reset()
        wait_until(lambda: len(names.asked) > asked, "a question to the name server")
        time.sleep(seconds)
        names.fault = None
        settle([oracle])


# Packet boundaries


def boundaries(records: int) -> list[Cut]:
    """Behind every record and in the middle of it, each way."""
    ways: tuple[Way, Way] = ("up", "down")
    return [Cut(way, n, middle) for n in range(1, records + 1) for way in ways for middle in (False, True)]


@pytest.mark.parametrize(
    ("nodes", "cuts"),
    [
        pytest.param(3, random.Random(SEED).sample(boundaries(8), 12), id="sample"),
        pytest.param(6, boundaries(12), id="all", marks=soak),
    ],
)
def test_a_reset_at_packet_boundaries(tmp_path: Path, nodes: int, cuts: list[Cut]) -> None:
    """The nodes share the cuts; each has one after the other, which takes longer and longer (its backoff)."""
    with Network(tmp_path) as stand, Canary() as canary:
        links = [stand.link() for _ in range(nodes)]
        oracles = [stand.counting_node([link], f"n{i:02}") for i, link in enumerate(links)]
        for i, link in enumerate(links):
            link.cut_next(*cuts[i::nodes])
            oracles[i].node.start()

        def done() -> int:
            return sum(each.end == "cut" for link in links for each in link.connections)

        wait_until(lambda: done() == len(cuts), f"{len(cuts)} cuts", PATIENCE)
        settle(oracles)
        connections = sum(len(link.connections) for link in links)
        print(f"\n{len(cuts)} resets at packet boundaries, {connections} connections")
        report(oracles, canary)


# Hostile brokers


def accepts(link: hostile.Link) -> None:
    """Let the node in, with what it subscribes to."""
    link.greet()
    subscribe = link.packet()
    link.send(bytes((SUBACK << 4, 3)) + subscribe.body[:2] + b"\1")


def says(data: bytes) -> hostile.Script:
    def script(link: hostile.Link) -> None:
        accepts(link)
        link.send(data)
        link.until_gone()

    return script


def no_connack(link: hostile.Link) -> None:
    link.handshake()
    link.until_gone()


def wrong_puback(link: hostile.Link, packets: float = 10) -> None:
    accepts(link)
    while packets > 0:
        packet = link.packet()
        if packet.kind == 3 and packet.qos:
            link.send(hostile.puback(packet.pid ^ 0x8000))
            packets -= 1
        elif packet.kind == 12:
            link.send(b"\xd0\x00")


def no_puback(link: hostile.Link) -> None:
    """Close between PUBLISH and PUBACK."""
    accepts(link)
    while not link.packet().topic.endswith("/data"):
        pass
    link.close()


HOSTILE: dict[str, hostile.Script] = {
    "garbage": says(b"\xff" + random.Random(SEED).randbytes(500)),
    "endless length": says(b"\x30" + b"\x80" * 5000),
    "giant PUBLISH": says(b"\x30\xff\xff\xff\x7f\x00\x01t" + bytes(20000)),
    "wrong PUBACK": wrong_puback,
    "no CONNACK": no_connack,
    "no PUBACK": no_puback,
}


def evil_context(stand: Stand) -> ssl.SSLContext:
    """A hostile broker has the right certificate, or the node would not even listen."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(stand.pki / "broker.crt", stand.pki / "broker.key")
    context.load_verify_locations(stand.pki / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def hostile_first(folder: Path, cases: dict[str, hostile.Script]) -> None:
    """A node for each case, at the same time. The first broker of its list is hostile, the second good."""
    with Network(folder) as stand, Canary() as canary, contextlib.ExitStack() as stack:
        second = stand.link()
        firsts, oracles = [], []
        for i, script in enumerate(cases.values()):
            peer = stack.enter_context(hostile.Peer(evil_context(stand), [script]))
            firsts.append(stand.link(peer.port))
            oracles.append(stand.counting_node([firsts[-1], second], f"n{i:02}"))
            stack.callback(firsts[-1].reset)  # a peer that waits for its node's end
            oracles[-1].node.start()
        for oracle, first, name in zip(oracles, firsts, cases, strict=True):
            oracle.wait_for(30)
            assert first.connections, f"{name}: the first broker was not tried"
            # Its only good broker is lost, and the first of the list has become good: back to that one.
            first.target = ("127.0.0.1", stand.broker.port)
        known = [len(first.connections) for first in firsts]
        second.refuse()
        second.reset()
        settle(oracles)
        for name, first, count in zip(cases, firsts, known, strict=True):
            assert len(first.connections) > count, f"{name}: no return to the first broker"
        print(f"\nhostile first: {', '.join(cases)}")
        report(oracles, canary)


def test_hostile_brokers_come_first(tmp_path: Path) -> None:
    hostile_first(tmp_path, HOSTILE)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_broker_that_never_acknowledges_comes_first(tmp_path: Path) -> None:
    hostile_first(tmp_path, {"wrong PUBACK for ever": lambda link: wrong_puback(link, float("inf"))})
