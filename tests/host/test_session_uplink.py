"""`limpet.uplink` and `limpet.delivery` against brokers that fail them: nothing is skipped, nothing ends."""

import json
from collections.abc import Iterable
from typing import Any

import pytest

from host_tools.telemetry.senml import Reading, decode
from tests.host.hostile import CONNACK, Gone, Link, Packet, Peer, Plant, puback
from tests.host.stand import wait_until

SEVERAL = 3000  # readings: more than a window of packs at once
CONNACK_PRESENT = b"\x20\x02\x01\x00"

# The node without its sensors and Wi-Fi; the spool, and what is published, are the real ones.
NODE = """
class Fake: pass
machine = Fake()
machine.reset_cause = lambda: 1
sys.modules["machine"] = machine
from limpet import delivery as delivery_module, uplink as uplink_module
from limpet.events import Events
from limpet.ram import RamFlash
from limpet.spool import Spool
from limpet.uplink import Uplink

UNIX_MS = 1800000000000  # when the node was started

def channel(i):
    return ("sensor-with-a-name-%02d/q" % i, "Cel", 2, -4000, 8500, 1000)

class Wifi:
    joins = 1
    def is_up(self): return True
    def rssi(self): return -60
    def dns(self): return "127.0.0.1"

class Clock:
    drift = 0
    synced = True
    def is_synced(self): return self.synced
    def trust_text(self): return "synced"
    def uptime_ms(self): return 61000

class Sampler:
    missed = 0
    def lateness(self): return 0
    def __init__(self, channels):
        self.channels = [channel(i) for i in range(channels)]
        self.sensors = []

def make(channels=4, brokers=None, sectors=20, flash=None, **settings):
    global spool, clock, events
    settings = dict({"prefix": "limpet", "board": "virtual", "retry_ms": 20, "batch_ms": 50,
        "brokers": brokers or [{"host": "127.0.0.1", "port": PORT, "name": NAME}]}, **settings)
    clock, events, sampler = Clock(), Events(), Sampler(channels)
    spool = Spool(flash or RamFlash(sectors), "n01")
    spool.start(sampler.channels)
    spool.mark(UNIX_MS, 2)
    return Uplink(settings, "n01", context, clock, spool, Wifi(), sampler, events)

def sample(n):
    for _ in range(n):
        seq = spool.next
        spool.append(seq, 0, seq % 4, 0, seq)

def run_until(uplink, condition, seconds=60):
    steps = uplink.run()
    end = time.ticks_add(time.ticks_ms(), seconds * 1000)
    while not condition():
        if time.ticks_diff(end, time.ticks_ms()) < 0:
            return False
        time.sleep_ms(min(next(steps), 5))
    uplink.session.close()
    return True

def drained():
    return not len(spool)
"""


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Plant:
    return Plant(tmp_path_factory.mktemp("plant"))


class Broker:
    """A script that acknowledges what it takes, until it has had `dies_after` packets."""

    def __init__(
        self, dies_after: int | None = None, withholds: Iterable[int] = (), connack: bytes = CONNACK
    ) -> None:
        self.packets: list[Packet] = []
        self.connect: Packet | None = None
        self._dies_after = dies_after
        self._withholds = set(withholds)
        self._connack = connack

    def __call__(self, link: Link) -> None:
        self.greet(link)
        self.serve(link)

    def greet(self, link: Link) -> None:
        link.handshake()
        self.connect = link.packet()
        link.send(self._connack)

    def take(self, link: Link) -> Packet:
        packet = link.packet()
        self.packets.append(packet)
        return packet

    def answer(self, link: Link, packet: Packet) -> None:
        if packet.kind == 8:
            link.send(b"\x90\x03" + packet.body[:2] + b"\x01")
        elif packet.kind == 12:
            link.send(b"\xd0\x00")
        elif packet.kind == 3 and packet.qos and len(self.packets) not in self._withholds:
            link.send(puback(packet.pid))

    def serve(self, link: Link) -> None:
        while self._dies_after is None or len(self.packets) < self._dies_after:
            self.answer(link, self.take(link))
        link.hang_up()

    def of(self, leaf: str) -> list[Packet]:
        return [p for p in self.packets if p.kind == 3 and p.topic == f"limpet/n01/{leaf}"]


def readings(brokers: Iterable[Broker]) -> list[Reading]:
    """What came, pack by pack; each reading is checked against what was sampled."""
    found = []
    for broker in brokers:
        for packet in broker.of("data"):
            for reading in decode(packet.payload, "n01"):
                assert reading.value is not None
                assert int(reading.value * 100) == reading.seq
                assert reading.channel == f"sensor-with-a-name-{reading.seq % 4:02d}/q"
                assert reading.unix_ms == 1_800_000_000_000 + reading.seq * 1000
                found.append(reading)
    return found


def numbers(brokers: Iterable[Broker]) -> list[int]:
    return [reading.seq for reading in readings(brokers)]


def payloads(broker: Broker, leaf: str) -> list[Any]:
    return [json.loads(p.payload) for p in broker.of(leaf)]


def test_every_reading_comes_whenever_the_session_dies(plant: Plant) -> None:
    """Die after each number of packets there is: before the subscription, within the packs, behind them."""
    script = f"""
u = make()
sample({SEVERAL})
tell(run_until(u, drained), spool.lost, spool.damaged, u.error)
"""
    for packets in (0, 1, 2, 3, 4, 7, 30, 70):
        brokers = [Broker(packets), Broker(packets + 1), Broker()]
        with Peer(plant.context(), brokers) as peer:
            assert plant.run(peer.port, NODE + script) == [[True, 0, 0, None]], packets
        assert sorted(set(numbers(brokers))) == list(range(SEVERAL))
        last = numbers(brokers[2:])
        assert last == sorted(last)


def test_packets_in_flight_come_again_with_dup_and_the_same_id(plant: Plant) -> None:
    first, second = Broker(withholds=range(100)), Broker(connack=CONNACK_PRESENT)

    def dies(link: Link) -> None:
        first.greet(link)
        while len(first.of("data")) < 5:
            first.answer(link, first.take(link))
        link.reset()

    script = """
u = make()
sample(400)
tell(run_until(u, drained))
"""
    with Peer(plant.context(), [dies, second]) as peer:
        assert plant.run(peer.port, NODE + script) == [[True]]
    before, after = first.of("data")[:5], second.of("data")[:5]
    assert [p.first & 8 for p in before] == [0] * 5
    assert [p.first & 8 for p in after] == [8] * 5
    assert [(p.pid, p.payload) for p in after] == [(p.pid, p.payload) for p in before]
    assert [p.first & 8 for p in second.of("data")[5:]].count(8) <= 59  # the rest of the window, if at all
    assert numbers([second]) == list(range(400))
    assert not [p for p in second.packets if p.kind == 8], "the broker has the subscription already"
    assert first.connect is not None
    assert first.connect.body[7] & 2 == 0, "clean session"


def test_a_broker_that_has_forgotten_the_session_gets_everything_anew(plant: Plant) -> None:
    first, second = Broker(dies_after=6, withholds=range(100)), Broker()
    script = """
u = make()
sample(400)
tell(run_until(u, drained))
"""
    with Peer(plant.context(), [first, second]) as peer:
        assert plant.run(peer.port, NODE + script) == [[True]]
    assert not [p for p in second.packets if p.kind == 3 and p.first & 8]
    assert [p.kind for p in second.packets].count(8) == 1
    assert numbers([second]) == list(range(400))


def test_a_pack_acknowledged_out_of_turn_does_not_come_again(plant: Plant) -> None:
    first, second = Broker(), Broker(connack=CONNACK_PRESENT)

    def withholds_the_second_pack(link: Link) -> None:
        first.greet(link)
        while len(first.of("data")) < 4:
            packet = first.take(link)
            if packet.kind != 3 or packet.topic != "limpet/n01/data" or len(first.of("data")) != 2:
                first.answer(link, packet)
        link.hang_up()

    script = """
u = make()
sample(160)
tell(run_until(u, drained))
"""
    with Peer(plant.context(), [withholds_the_second_pack, second]) as peer:
        assert plant.run(peer.port, NODE + script) == [[True]]
    again = [(p.pid, p.payload) for p in second.of("data") if p.first & 8]
    assert again[0] == (first.of("data")[1].pid, first.of("data")[1].payload)
    acknowledged = {p.pid for p in first.of("data")} - {first.of("data")[1].pid}
    assert not acknowledged & {pid for pid, _ in again}
    assert sorted(set(numbers([first, second]))) == list(range(160))


def test_the_window_is_64_and_ids_wrap_from_65535_to_1(plant: Plant) -> None:
    broker = Broker()

    def holds_back(link: Link) -> None:
        broker.greet(link)
        broker.answer(link, broker.take(link))  # SUBSCRIBE
        link.sock.settimeout(2)
        try:
            while True:
                broker.take(link)
        except Gone:
            pass  # nothing more comes: the window is full
        link.sock.settimeout(60)
        assert len({p.pid for p in broker.packets if p.kind == 3 and p.qos}) == 64
        for packet in broker.packets[1:]:
            broker.answer(link, packet)
        broker.serve(link)

    script = """
u = make()
u.session.pid = 65500
sample(4000)
tell(run_until(u, drained, 40))
"""
    with Peer(plant.context(), [holds_back]) as peer:
        assert plant.run(peer.port, NODE + script) == [[True]]
    ids = [p.pid for p in broker.packets if p.kind == 3 and p.qos]
    assert ids.index(1) - ids.index(65535) == 1
    assert 0 not in ids
    assert numbers([broker]) == list(range(4000))


def test_about_of_32_channels_is_whole_and_delivery_goes_on(plant: Plant) -> None:
    script = """
u = make(channels=32)
sample(20)
tell(run_until(u, drained), u.connects)
"""
    with Peer(plant.context(), [broker := Broker()]) as peer:
        assert plant.run(peer.port, NODE + script) == [[True, 1]]
    (about,) = payloads(broker, "about")
    assert [c["n"] for c in about["channels"]] == [f"sensor-with-a-name-{i:02d}/q" for i in range(32)]
    assert numbers([broker]) == list(range(20))
    (health,) = payloads(broker, "health")
    assert health["connects"] == 1
    (state,) = payloads(broker, "state")
    assert (state["up"], state["boot"]) == (True, 1)


def test_few_readings_wait_for_others_and_many_do_not(plant: Plant) -> None:
    script = """
u = make(batch_ms=3600000)
sample(45)
tell(run_until(u, lambda: len(spool) < 20), spool.next - spool.cursor > 0)
"""
    with Peer(plant.context(), [broker := Broker()]) as peer:
        assert plant.run(peer.port, NODE + script)[0][0] is True
    assert len(broker.of("data")) == 1
    assert len(readings([broker])) >= 25


def test_a_puback_that_never_comes_ends_the_session_not_the_delivery(plant: Plant) -> None:
    # The broker answers pings and later packets, but one pack it never acknowledges.
    first, second = Broker(withholds=[4]), Broker()
    script = """
delivery_module.time = Hurried(12)
u = make(keepalive=3)
sample(60)
tell(run_until(u, lambda: u.connects == 2 and drained()), spool.lost)
"""
    with Peer(plant.context(), [first, second]) as peer:
        assert plant.run(peer.port, NODE + script) == [[True, 0]]
    assert sorted(set(numbers([first, second]))) == list(range(60))
    assert 12 in {p.kind for p in first.packets}  # it was alive, by its pings


def test_all_brokers_get_their_turn_before_there_is_a_pause(plant: Plant) -> None:
    silent = "{'host': '127.0.0.1', 'port': 1, 'name': NAME}"
    with Peer(plant.context(), [Broker(4)]) as first, Peer(plant.context(), [Broker(4)]) as second:
        script = f"""
lines = []
uplink_module.log = lambda who, what: lines.append(what)
u = make(brokers=[{silent},
    {{"host": "127.0.0.1", "port": {first.port}, "name": NAME}},
    {{"host": "127.0.0.1", "port": {second.port}, "name": NAME}}], retry_ms=12000)
u._backoff = Fake()
u._backoff.cap = 1000000
u._backoff.wait = lambda: lines.append("pause") or 1
sample(300)
steps = u.run()
while len(lines) < 7:
    next(steps)
tell(*lines)
"""
        (told,) = plant.run(first.port, NODE + script)
        ports = [first.port, second.port]
    kinds = [line if line == "pause" else "up" if "connected" in line else "lost" for line in told]
    assert kinds == ["lost", "up", "lost", "up", "lost", "pause", "lost"]
    assert [f":{port}" in line for port, line in zip(ports, (told[1], told[3]), strict=True)] == [True, True]


def test_it_returns_to_the_first_broker_after_ten_minutes(plant: Plant) -> None:
    first, second = Broker(), Broker()

    def refuses(link: Link) -> None:
        link.handshake()
        link.send(b"\x20\x02\x00\x03")
        link.hang_up()

    with Peer(plant.context(), [refuses, first]) as best, Peer(plant.context(), [second]) as other:
        script = f"""
uplink_module.time = Hurried(200)
u = make(brokers=[{{"host": "127.0.0.1", "port": {best.port}, "name": NAME}},
    {{"host": "127.0.0.1", "port": {other.port}, "name": NAME}}])
tell(run_until(u, lambda: u.connects == 2 and spool.cursor), u._turn)
"""
        # One reading has to be there, or no broker proves itself.
        script = script.replace("tell(", "sample(1)\ntell(", 1)
        assert plant.run(best.port, NODE + script) == [[True, 0]]
    assert second.packets[-1].kind == 14, "it says goodbye: no last will"


def test_a_session_proves_itself_by_a_puback_and_half_a_minute(plant: Plant) -> None:
    script = """
u = make(retry_ms=20000)
u._backoff.wait()
u._backoff.wait()
tell(u._backoff.cap)
sample(1)
tell(run_until(u, drained), u._backoff.cap)
uplink_module.time = Hurried(60)
sample(1)
tell(run_until(u, lambda: u._proved), u._backoff.cap)
"""
    with Peer(plant.context(), [Broker(), Broker()]) as peer:
        before, acknowledged, proved = plant.run(peer.port, NODE + script)
    assert before == [80000]
    assert acknowledged == [True, 80000]
    assert proved == [True, 20000]


def test_a_session_that_outlasts_the_wait_before_it_has_proved_itself(plant: Plant) -> None:
    script = """
u = make(retry_ms=300)
u._backoff.wait()
sample(1)
steps = u.run()
began = time.ticks_ms()
while not u._proved:
    if u._delivery.acks:
        up = time.ticks_diff(time.ticks_ms(), began)
    else:
        began = time.ticks_ms()
    time.sleep_ms(min(next(steps), 5))
tell(up > 300, u._backoff.cap)
"""
    with Peer(plant.context(), [Broker()]) as peer:
        assert plant.run(peer.port, NODE + script) == [[True, 300]]


def test_a_connection_without_a_puback_does_not_reset_the_backoff(plant: Plant) -> None:
    def accepts_alone(link: Link) -> None:
        link.greet()
        link.packet()
        link.hang_up()

    script = """
u = make(retry_ms=10)
waits = []
wait = u._backoff.wait
u._backoff.wait = lambda: waits.append(u._backoff.cap) or wait()
run_until(u, lambda: len(waits) == 5)
tell(waits)
"""
    with Peer(plant.context(), [accepts_alone]) as peer:
        assert plant.run(peer.port, NODE + script) == [[[10, 20, 40, 80, 160]]]


def test_a_full_spool_tells_exactly_what_it_dropped(plant: Plant) -> None:
    """100 readings are sent and wait for their PUBACKs; then the spool overflows far beyond them."""
    broker, second = Broker(), Broker()

    def holds_back(link: Link) -> None:
        broker.greet(link)
        while len(readings([broker])) < 100:
            packet = broker.take(link)
            if packet.kind == 8:
                broker.answer(link, packet)
        wait_until((plant.folder / "overflown").exists, "an overflown spool")
        for packet in broker.packets:
            if packet.kind == 3:
                broker.answer(link, packet)
        broker.serve(link)

    script = """
u = make(sectors=4)
sample(100)
steps = u.run()
while u._delivery._next < 100:
    time.sleep_ms(min(next(steps), 5))
sample(2000)
lost, first = spool.lost, spool.first
open(FOLDER + "/overflown", "w").close()
while len(spool):
    time.sleep_ms(min(next(steps), 5))
tell(lost, spool.lost, first, spool.next)
"""
    with Peer(plant.context(), [holds_back, second]) as peer:
        [[before, lost, first, end]] = plant.run(peer.port, NODE + script)
    assert (before, lost, end) == (first, first - 100, 2100)
    assert sorted(set(numbers([broker]))) == [*range(100), *range(first, 2100)]
    (gap,) = payloads(broker, "event")
    epoch = readings([broker])[0].epoch
    assert gap == {"event": "gap", "epoch": epoch, "first": 100, "last": first - 1, "why": "full"}


def test_undated_readings_wait_for_the_time_and_the_rest_goes_on(plant: Plant) -> None:
    script = """
u = make()
spool.mark = None
spool = Spool(RamFlash(4), "n01")
spool.start(Sampler(4).channels)
u = Uplink(u._settings, "n01", context, clock, spool, Wifi(), Sampler(4), events)
sample(50)
clock.synced = False
uplink_module.time = Hurried(100)  # it waits a while for the time before it connects
steps = u.run()
while not u.connects:
    time.sleep_ms(min(next(steps), 5))
for _ in range(50):
    time.sleep_ms(min(next(steps), 5))
held = len(spool)
spool.mark(UNIX_MS, 2)
while len(spool):
    time.sleep_ms(min(next(steps), 5))
tell(held)
"""
    with Peer(plant.context(), [broker := Broker()]) as peer:
        assert plant.run(peer.port, NODE + script) == [[50]]
    assert numbers([broker]) == list(range(50))
    assert {r.quality for r in readings([broker])} == {"recovered"}


def test_undated_readings_go_before_the_spool_must_drop_them(plant: Plant) -> None:
    script = """
u = make()
spool = Spool(RamFlash(4), "n01")
spool.start(Sampler(4).channels)
u = Uplink(u._settings, "n01", context, clock, spool, Wifi(), Sampler(4), events)
sample(spool.capacity * 3 // 4 + 50)
tell(run_until(u, lambda: spool.cursor), spool.lost, spool.capacity, len(spool))
"""
    with Peer(plant.context(), [broker := Broker()]) as peer:
        [[sent, lost, capacity, left]] = plant.run(peer.port, NODE + script)
    assert (sent, lost) == (True, 0)
    assert left > capacity / 2, "the rest still waits for its time"
    found = [r for p in broker.of("data") for r in decode(p.payload, "n01")]
    assert {r.quality for r in found} == {"unknown"}


def test_events_are_said_until_they_are_acknowledged(plant: Plant) -> None:
    first, second = Broker(dies_after=4), Broker()
    script = """
u = make()
events.tell("spool", "spool of another node")
events.tell("spool", "second")
tell(run_until(u, lambda: not events.waiting))
"""
    with Peer(plant.context(), [first, second]) as peer:
        assert plant.run(peer.port, NODE + script) == [[True]]
    said = payloads(first, "event") + payloads(second, "event")
    assert said[0] == {"event": "spool", "text": "spool of another node"}
    assert said[-1] == {"event": "spool", "text": "second"}


def test_commands_are_answered(plant: Plant) -> None:
    broker = Broker()

    def commands(link: Link) -> None:
        broker.greet(link)
        subscribe = broker.take(link)
        assert subscribe.body[2:] == b"\x00\x10limpet/n01/cmd/+\x01"
        broker.answer(link, subscribe)
        for leaf, text in (("a1", b"health"), ("b2", b"open the door")):
            topic = f"limpet/n01/cmd/{leaf}".encode()
            body = len(topic).to_bytes(2, "big") + topic + b"\x00\x07" + text
            link.send(b"\x32" + bytes((len(body),)) + body)
            while not broker.of(f"rsp/{leaf}"):
                broker.answer(link, broker.take(link))
        broker.serve(link)

    script = """
from limpet.commands import Commands
u = make(health_s=3600)
steps, orders = u.run(), Commands(u, "n01").run()
sample(1)
while True:
    next(orders)
    time.sleep_ms(min(next(steps), 5))
"""
    with Peer(plant.context(), [commands]) as peer, plant.start(peer.port, NODE + script):
        wait_until(lambda: broker.of("rsp/b2"), "the answers")
    (health,) = payloads(broker, "rsp/a1")
    assert health["connects"] == 1
    assert payloads(broker, "rsp/b2") == [{"error": "unknown command"}]
    assert [p.body for p in broker.packets if p.kind == 4] == [b"\x00\x07"] * 2
