"""One `limpet.mqtt.Session` for a node's life: cut off everywhere, connected again, nothing left behind."""

import json
import random
import re
from collections.abc import Callable

import pytest

from tests.host.hostile import (
    CONNACK,
    CONNACK_PRESENT,
    Link,
    Packet,
    Peer,
    Plant,
    Script,
    puback,
    publish,
    sockets,
    suback,
)

SEED = 20261122


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Plant:
    return Plant(tmp_path_factory.mktemp("plant"))


# A session with everything in it, from the broker's end: each step takes or gives one packet.
STEPS: list[Callable[[Link], object]] = [
    lambda link: link.handshake(),
    lambda link: link.packet(),  # CONNECT
    lambda link: link.send(CONNACK),
    lambda link: link.packet(),  # SUBSCRIBE
    lambda link: link.send(suback(1, 1)),
    lambda link: link.packet(),  # PUBLISH
    lambda link: link.send(puback(2)),
    lambda link: link.packet(),
    lambda link: link.packet(),
    lambda link: link.send(puback(4)),
    lambda link: link.send(puback(3)),
    lambda link: link.send(publish(b"cmd", b"one", 11)),
    lambda link: link.packet(),  # PUBACK
    lambda link: link.send(publish(b"cmd", bytes(5000), 12)),
    lambda link: link.packet(),  # PUBACK
    lambda link: link.packet(),  # PINGREQ
    lambda link: link.send(b"\xd0\x00"),
]
# And what comes before the first of them is over.
BEGINNINGS: list[Callable[[Link], object]] = [
    lambda link: None,
    lambda link: link.sock.recv(5),
    lambda link: link.begin_handshake(300),
]


def whole(link: Link) -> None:
    for step in STEPS:
        step(link)
    link.until_gone()


# The same from the node's end; it goes on whatever happens, and tells what the session was like.
LIFE = """
s = new(topics=(b"cmd",))
s.set_last_will(b"w", b"gone", True, 1)
seen = []
s.on_message = lambda topic, payload: seen.append(bytes(payload))

def live():
    s.acked.clear()
    seen.clear()
    s.pid = 0
    s.connect(ADDRESS, NAME)
    if not step_until(s, lambda: s.state == UP):
        return
    s.publish(b"t", b"first", qos=1)
    if not step_until(s, lambda: s.acked):
        return
    s.publish(b"t", b"second", qos=1)
    while s.state == UP and s.publish(b"t", b"third", qos=1) is None:
        s.step()
    dropped = s.dropped
    if not step_until(s, lambda: s.dropped > dropped and not s._skip and not s._ack):
        return
    s.ping()
    step_until(s, lambda: s.state == UP and not s._wants)
"""


@pytest.mark.parametrize("end", [Link.reset, Link.close])
def test_an_end_at_every_packet_boundary(plant: Plant, end: Callable[[Link], None]) -> None:
    """After each packet of either side the connection ends; the same session then goes through all of it."""

    def after(steps: list[Callable[[Link], object]]) -> Callable[[Link], None]:
        def script(link: Link) -> None:
            for step in steps:
                step(link)
            end(link)

        return script

    ways = [after([beginning]) for beginning in BEGINNINGS]
    ways += [after(STEPS[:count]) for count in range(1, len(STEPS) + 1)]
    ways.append(whole)
    script = f"""{LIFE}
for i in range({len(ways)}):
    live()
    if i < {len(ways) - 1}:
        step_until(s, lambda: False, 5)
    tell(s.state == UP, s.error, s.malformed, s.acked, len(seen))
s.close(True)
"""
    with Peer(plant.context(), ways) as peer:
        told = plant.run(peer.port, script)
    assert told.pop() == [True, None, 0, [2, 4, 3], 1]
    for is_up, error, malformed, _, _ in told:
        assert (is_up, malformed) == (False, 0)
        assert error not in (None, "")
    assert [len(acked) for *_, acked, _ in told] == sorted(len(acked) for *_, acked, _ in told)
    assert len(peer.links) == len(ways)


def test_byte_by_byte_it_is_the_same(plant: Plant) -> None:
    def drops(link: Link) -> None:
        send = link.send
        link.send = lambda *packets: send(*(bytes((b,)) for p in packets for b in p))  # type: ignore[method-assign]
        whole(link)

    script = LIFE + "live()\ntell(s.state == UP, s.acked, [str(m, 'utf-8') for m in seen], s.dropped)"
    with Peer(plant.context(), [drops]) as peer:
        assert plant.run(peer.port, script) == [[True, [2, 4, 3], ["one"], 1]]


def test_what_was_not_whole_is_forgotten_by_the_next_connection(plant: Plant) -> None:
    """Half a packet came, half a packet went, a PUBACK was due: nothing of it goes into the next one."""
    received: list[Packet] = []

    def halves(data: bytes) -> Callable[[Link], None]:
        def script(link: Link) -> None:
            link.greet()
            link.send(publish(b"cmd", b"x", 5) + data)
            (plant.folder / f"half{len(data)}").touch()
            link.sock.recv(1)
            link.reset()

        return script

    def good(link: Link) -> None:
        received.append(link.greet())
        while True:
            received.append(link.acknowledge())

    cuts = [puback(1)[:3], publish(b"t", bytes(3000), 9)[:1000], publish(b"t" * 3000, b"", 9)[:2000]]
    scripts = [script for data in cuts for script in (halves(data), good)]
    script = f"""
s = new()
for size in {list(map(len, cuts))}:
    s.connect(ADDRESS, NAME)
    step_until(s, lambda: s.state == UP)
    while "half%d" % size not in os.listdir(FOLDER):
        time.sleep_ms(2)
    while s.publish(b"t", bytes(12000), qos=1) is not None:
        pass
    step_until(s, lambda: False)
    reconnect(s)
    s.acked.clear()
    s.pid = 0
    s.publish(b"t", b"x", qos=1)
    tell(step_until(s, lambda: s.acked), s.acked, s.malformed)
    s.close(True)
"""
    with Peer(plant.context(), scripts, receive_buffer=4096) as peer:
        assert plant.run(peer.port, script) == [[True, [1], 0]] * len(cuts)
    assert [p.first for p in received] == [0x10, 0x32, 0xE0] * len(cuts)


def test_a_present_session_is_told_and_only_when_it_is(plant: Plant) -> None:
    def greets(connack: bytes) -> Callable[[Link], None]:
        def script(link: Link) -> None:
            link.greet(connack)
            link.until_gone()

        return script

    script = """
s = new()
for _ in range(4):
    reconnect(s)
    tell(s.present)
    s.close()
"""
    connacks = [CONNACK, CONNACK_PRESENT, CONNACK_PRESENT, CONNACK]
    with Peer(plant.context(), list(map(greets, connacks))) as peer:
        assert plant.run(peer.port, script) == [[False], [True], [True], [False]]


def _reconnects(plant: Plant, count: int, seconds: float) -> None:
    """Sessions that end in every way: heap and sockets at the end are what they were at the beginning."""

    def acknowledges_once(link: Link) -> None:
        link.greet()
        link.acknowledge()

    def garbage(link: Link) -> None:
        link.greet()
        link.send(b"\xff\x00")
        link.until_gone()

    def hangs_up_in_connect(link: Link) -> None:
        link.handshake()
        link.packet()

    def resets_tls(link: Link) -> None:
        link.sock.recv(1)
        link.reset()

    def stalls_in_tls(link: Link) -> None:
        link.begin_handshake(300)
        while link.sock.recv(65536):
            pass

    def skips(link: Link) -> None:
        link.greet()
        link.send(publish(b"t", bytes(4000), 1)[:1000])

    def refuses(link: Link) -> None:
        link.greet(b"\x20\x02\x00\x03")

    ways: list[Script] = [
        whole,
        acknowledges_once,
        garbage,
        hangs_up_in_connect,
        resets_tls,
        stalls_in_tls,
        skips,
        refuses,
    ]
    rounds = count // (len(ways) + 2)
    script = f"""{LIFE}
import gc
def end():
    s.acked.clear()
    seen.clear()
    s.close()
def one_of_each():
    live()
    end()
    for _ in range({len(ways) - 1}):
        s.connect(ADDRESS, NAME)
        end_by = time.ticks_ms() + 60
        while s.state != CLOSED:
            s.step()
            if s.state == UP:
                s.publish(b"t", b"x", qos=1)
            if _ == 4 and time.ticks_ms() > end_by:
                s.close(True)
            time.sleep_ms(1)
        end()
    s.connect(ADDRESS, "elsewhere.example")
    step_until(s, lambda: False)
    end()
    s.connect(b"nonsense", NAME)
    end()
def heap():
    for _ in range(3):
        gc.collect()
    return gc.mem_free()
_ = i = end_by = 0
for _ in range(2):
    one_of_each()
tell(heap())
sys.stdin.readline()
for i in range({rounds}):
    one_of_each()
tell(heap())
sys.stdin.readline()
"""
    scripts: list[Script] = [*ways, Link.greet] * (rounds + 2)
    with Peer(plant.context(), scripts) as peer, plant.start(peer.port, script, heap="160k") as process:
        assert process.stdin is not None and process.stdout is not None
        first = process.stdout.readline()
        assert sockets(process) == 0, first
        process.stdin.write("\n")
        process.stdin.flush()
        last = process.stdout.readline()
        assert last.startswith("\x1e"), last + process.stdout.read()
        assert sockets(process) == 0
    assert len(peer.links) == len(scripts)
    free = [int(re.findall(r"\d+", line)[0]) for line in (first, last)]
    assert free[0] - free[1] < 256, free
    assert not peer.errors


def test_a_hundred_reconnects_leave_nothing_behind(plant: Plant) -> None:
    _reconnects(plant, 100, 60)


@pytest.mark.soak
def test_a_thousand_reconnects_leave_nothing_behind(plant: Plant) -> None:
    _reconnects(plant, 1000, 600)


class Fuzz:
    """Streams of packets, most of them valid, cut anywhere into TLS records; and what they should come to."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)

    def packet(self) -> bytes:
        dice = self._dice
        kind = dice.random()
        pid = dice.choice((0, dice.randrange(1, 65536)))
        topic = dice.randbytes(1).hex().encode() * dice.choice((1, 1, 20, 200, 2000))
        payload = dice.randbytes(dice.choice((0, 1, 30, 200, 300, 3000)))
        if kind < 0.45:
            return puback(dice.randrange(65536))
        if kind < 0.9:
            return publish(topic, payload, pid)
        if kind < 0.95:
            damaged = bytearray(publish(topic[:9], payload[:99], pid))
            damaged[dice.randrange(5)] ^= 1 << dice.randrange(8)
            return bytes(damaged)
        return dice.randbytes(dice.randrange(1, 40))

    def __call__(self, link: Link) -> None:
        dice = self._dice
        link.handshake()
        link.packet()
        stream = CONNACK if dice.random() < 0.95 else dice.randbytes(4)
        stream += b"".join(self.packet() for _ in range(dice.randrange(1, 30)))
        stream = stream[: dice.randrange(1, len(stream) + 1)]
        while stream:
            size = dice.choice((1, 3, 50, 255, 256, 257, 1000, 5000))
            link.send(stream[:size])
            stream = stream[size:]
        dice.choice((link.reset, link.close, link.hang_up))()


@pytest.mark.parametrize("seed", [SEED, SEED + 1])
def test_random_streams_over_tls_end_closed_and_leave_nothing(plant: Plant, seed: int) -> None:
    script = """
s = new()
def count(topic, payload):
    global seen
    seen += 1
s.on_message = count
s.on_ack = lambda pid: None
i = seen = ended = hung = grown = 0
base = None
for i in range(60):
    s.connect(ADDRESS, NAME)
    hung += not (ending(s, 5) and s.state == CLOSED)
    s.close()
    gc.collect()
    if i == 5:
        base = gc.mem_alloc()
    elif i > 5:
        grown = max(grown, gc.mem_alloc() - base)
tell(hung, grown, seen, s.dropped, s.malformed)
sys.stdin.readline()
"""
    with Peer(plant.context(), [Fuzz(seed)]) as peer, plant.start(peer.port, script, heap="160k") as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        hung, grown, seen, dropped, malformed = json.loads(said.lstrip("\x1e"))
        assert hung == 0
        assert grown < 512
        # How many depends on how much an RST has overtaken; but all kinds were there.
        assert min(seen, dropped, malformed) > 0
        assert sockets(process) == 0
