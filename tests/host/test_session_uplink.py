"""`limpet.uplink` against brokers that fail it: nothing ends delivery for good, and no reading is skipped."""

import json
from collections.abc import Iterable
from typing import Any

import pytest

from host_tools.telemetry.senml import decode
from tests.host.hostile import Link, Packet, Peer, Plant, puback
from tests.host.stand import wait_until

SEVERAL = 90  # readings: more than a window and several packs

# The node without its sensors and Wi-Fi; the queue, the clock and what is published are the real ones.
NODE = """
class Fake: pass
machine = Fake()
machine.reset_cause = lambda: 1
sys.modules["machine"] = machine
from limpet import clock as clock_module, uplink as uplink_module
from limpet.clock import Clock
from limpet.queue import Queue
from limpet.uplink import Uplink

def channel(i):
    return ("sensor-with-a-name-%02d/q" % i, "Cel", 2, -4000, 8500, 1000)

class Wifi:
    joins = 1
    def is_up(self): return True
    def rssi(self): return -60

class Sampler:
    def __init__(self, channels):
        self.channels = [channel(i) for i in range(channels)]
        self.sensors = []

queue = Queue(128)
clock = Clock()
def make(channels=4, brokers=None, **settings):
    settings.update(prefix="limpet", board="virtual", ntp=[],
        brokers=brokers or [{"host": "127.0.0.1", "port": PORT, "name": NAME}])
    return Uplink(settings, "n01", context, clock, queue, Wifi(), Sampler(channels))

def sample(n):
    for _ in range(n):
        queue.append(clock.uptime_ms(), queue.next % 4, 0, queue.next)

def run_until(uplink, condition, seconds=20):
    steps = uplink.run()
    end = time.ticks_add(time.ticks_ms(), seconds * 1000)
    while not condition():
        if time.ticks_diff(end, time.ticks_ms()) < 0:
            return False
        time.sleep_ms(min(next(steps), 5))
    steps.close()
    return True
"""


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Plant:
    return Plant(tmp_path_factory.mktemp("plant"))


class Broker:
    """A script that acknowledges all it takes, from the first packet on until `dies_after` packets."""

    def __init__(self, dies_after: int | None = None, withholds: Iterable[int] = ()) -> None:
        self.packets: list[Packet] = []
        self._dies_after = dies_after
        self._withholds = set(withholds)

    def __call__(self, link: Link) -> None:
        link.greet()
        self.serve(link)

    def serve(self, link: Link) -> None:
        while self._dies_after is None or len(self.packets) < self._dies_after:
            packet = link.packet()
            self.packets.append(packet)
            if packet.kind == 12:
                link.send(b"\xd0\x00")
            elif packet.qos and len(self.packets) not in self._withholds:
                link.send(puback(packet.pid))
        link.hang_up()


def values(brokers: Iterable[Broker]) -> list[int]:
    """The numbers of the readings that came, in order."""
    found = []
    for broker in brokers:
        for packet in broker.packets:
            if packet.topic == "limpet/n01/data" and packet.kind == 3:
                for reading in decode(packet.payload, "n01"):
                    assert reading.value is not None
                    assert int(reading.value * 100) == reading.seq
                    found.append(reading.seq)
    return found


def payloads(broker: Broker, leaf: str) -> list[Any]:
    return [json.loads(p.payload) for p in broker.packets if p.topic == f"limpet/n01/{leaf}"]


def test_every_reading_comes_whenever_the_session_dies(plant: Plant) -> None:
    """Die after each number of packets there is: before state, within the packs, after the last."""
    script = f"""
u = make()
sample({SEVERAL})
tell(run_until(u, lambda: not len(queue)), queue.lost, u.error)
"""
    for packets in (0, 1, 2, 3, 4, 6):
        brokers = [Broker(packets), Broker(packets + 1), Broker()]
        with Peer(plant.context(), brokers) as peer:
            assert plant.run(peer.port, NODE + script) == [[True, 0, None]]
        assert sorted(set(values(brokers))) == list(range(SEVERAL))
        last = values(brokers[2:])
        assert last == sorted(last)


def test_about_of_32_channels_is_whole_and_delivery_goes_on(plant: Plant) -> None:
    script = """
u = make(channels=32)
sample(20)
tell(run_until(u, lambda: not len(queue)), u.connects)
"""
    with Peer(plant.context(), [broker := Broker()]) as peer:
        assert plant.run(peer.port, NODE + script) == [[True, 1]]
    (about,) = payloads(broker, "about")
    assert [c["n"] for c in about["channels"]] == [f"sensor-with-a-name-{i:02d}/q" for i in range(32)]
    assert values([broker]) == list(range(20))
    (health,) = payloads(broker, "health")
    assert health["connects"] == 1


def test_a_puback_that_never_comes_ends_the_session_not_the_delivery(plant: Plant) -> None:
    # The broker answers pings and later packets, but one pack it never acknowledges.
    first, second = Broker(withholds=[4]), Broker()
    script = """
mqtt.time = uplink_module.time = clock_module.time = Hurried(60)
u = make(keepalive=20)
clock = Clock()
u._clock = clock
sample(60)
tell(run_until(u, lambda: u.connects == 2 and not len(queue)), queue.lost)
"""
    with Peer(plant.context(), [first, second]) as peer:
        assert plant.run(peer.port, NODE + script) == [[True, 0]]
    assert sorted(set(values([first, second]))) == list(range(60))
    assert 12 in {p.kind for p in first.packets}  # it was alive, by its pings


def test_brokers_are_tried_in_order_and_the_best_first_again(plant: Plant) -> None:
    silent = "{'host': '127.0.0.1', 'port': 1, 'name': NAME}"
    best, other = Broker(3), Broker(3)
    with Peer(plant.context(), [best]) as first, Peer(plant.context(), [other]) as second:
        script = f"""
u = make(brokers=[{silent},
    {{"host": "127.0.0.1", "port": {first.port}, "name": NAME}},
    {{"host": "127.0.0.1", "port": {second.port}, "name": NAME}}])
lines = []
uplink_module.log = lambda who, what: lines.append(what)
sample(300)
u._backoff = 1
uplink_module.os = Fake()
uplink_module.os.urandom = lambda n: bytes(n)
steps = u.run()
while len(lines) < 5:
    next(steps)
tell(*lines)
"""
        (told,) = plant.run(first.port, NODE + script)
    kinds = [
        "refused" if "ECONNREFUSED" in line else "up" if "connected" in line else "lost" for line in told
    ]
    assert kinds[:4] == ["refused", "up", "lost", "refused"]
    assert (len(first.links), len(second.links)) == (2, 0)


def test_backoff_doubles_to_five_minutes_and_starts_again_after_a_puback(plant: Plant) -> None:
    script = """
u = make(brokers=[{"host": "127.0.0.1", "port": 1, "name": NAME}])
u._sync_due = time.ticks_add(time.ticks_ms(), 1000000)
steps = u.run()
seen = []
for _ in range(12):
    assert 0 <= next(steps) < u._backoff
    seen.append(u._backoff)
tell(seen)
u._settings["brokers"] = [{"host": "127.0.0.1", "port": PORT, "name": NAME}]
u._backoff = 300000
steps = u.run()
sample(20)
while len(queue):
    next(steps)
tell(u._backoff)
"""
    with Peer(plant.context(), [Broker()]) as peer:
        seen, after = plant.run(peer.port, NODE + script)
    assert seen == [[min(1000 * 2**i, 300000) for i in range(12)]]
    assert after == [1000]


def test_a_connection_without_a_puback_does_not_reset_the_backoff(plant: Plant) -> None:
    def accepts_alone(link: Link) -> None:
        link.greet()
        link.packet()
        link.hang_up()

    script = """
u = make()
u._backoff = 8000
steps = u.run()
try:
    while u._backoff == 8000:
        next(steps)
finally:
    tell(u.connects, u._backoff)
"""
    with Peer(plant.context(), [accepts_alone]) as peer:
        assert plant.run(peer.port, NODE + script) == [[1, 16000]]


def test_a_queue_that_overflows_while_packs_are_on_their_way_counts_right(plant: Plant) -> None:
    """100 readings are sent and wait for their PUBACKs; 150 more push out them and 22 others."""
    broker = Broker()

    def holds_back(link: Link) -> None:
        link.greet()
        while len(values([broker])) < 100:
            broker.packets.append(link.packet())
        wait_until((plant.folder / "overflown").exists, "an overflown queue")
        for packet in broker.packets:
            if packet.qos:
                link.send(puback(packet.pid))
        broker.serve(link)

    script = """
u = make()
sample(100)
steps = u.run()
while not u._flight or u._flight[-1][2] < 100:
    time.sleep_ms(min(next(steps), 5))
sample(150)
lost = queue.lost, queue.first
open(FOLDER + "/overflown", "w").close()
while len(queue):
    time.sleep_ms(min(next(steps), 5))
tell(lost, queue.lost, queue.first, queue.next)
"""
    with Peer(plant.context(), [holds_back]) as peer:
        assert plant.run(peer.port, NODE + script) == [[[122, 122], 22, 250, 250]]
    assert values([broker]) == [*range(100), *range(122, 250)]
