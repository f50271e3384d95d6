"""`limpet.mqtt.Session` as the broker sees it: every byte of its packets, and the records that carry them."""

import struct

import pytest

from tests.host.hostile import Link, Packet, Peer, Plant, puback
from tests.host.stand import wait_until

# From RFC 5246: header, explicit nonce of AES-GCM, tag. ChaCha20 and CCM need no more.
TLS_OVERHEAD = 5 + 8 + 16
TX_SIZE = 640  # limpet.mqtt._TX_SIZE


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Plant:
    return Plant(tmp_path_factory.mktemp("plant"))


class Taken:
    """A script that accepts, and keeps what comes until the node goes; `ack` acknowledges it."""

    def __init__(self, ack: bool = True) -> None:
        self._ack = ack
        self.packets: list[Packet] = []

    def __call__(self, link: Link) -> None:
        self.packets.append(link.greet())
        while True:
            self.packets.append(link.acknowledge() if self._ack else link.packet())


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("will", [None, (True, 1), (False, 0), (True, 2)])
def test_connect_is_right_to_the_bit(plant: Plant, clean: bool, will: tuple[bool, int] | None) -> None:
    taken = Taken()
    script = "s = new(keepalive=1234)\n"
    if will:
        script += f's.set_last_will(b"limpet/n01/state", b\'{{"up":false}}\', {will[0]}, {will[1]})\n'
    script += f"s.connect(clean_session={clean})\ntell(step_until(s, lambda: s.state == UP))\ns.close()"
    with Peer(plant.context(), [taken]) as peer:
        assert plant.run(peer.port, script) == [[True]]
    flags = clean << 1
    tail = b"\x00\x03n01"
    if will:
        flags |= 0x04 | will[1] << 3 | will[0] << 5
        tail += b'\x00\x10limpet/n01/state\x00\x0c{"up":false}'
    expected = b"\x00\x04MQTT\x04" + bytes((flags,)) + struct.pack(">H", 1234) + tail
    assert taken.packets == [Packet(0x10, expected)]


def test_publish_is_right_at_every_length_and_one_record_each(plant: Plant) -> None:
    topic = "limpet/n01/data"
    # Remaining length is 2 + topic + payload for QoS 0, and 2 more for QoS 1: payloads around 127 and 128
    # of each, the send buffer's size, beyond it, and where the length takes three bytes.
    sizes = [0, 1, *range(105, 124), *range(600, 640), TX_SIZE, 4000, 5000, 16361, 16362, 16370, 20000]
    script = f"""
s = connect()
told = 0
def on_ack(pid):
    global told
    told += 1
s.on_ack = on_ack
want = 0
for size in {sizes}:
    for qos, retain in ((0, False), (1, False), (1, True), (0, True)):
        message = bytes([(size + i) & 0xFF for i in range(size)])
        pid = s.publish(b"{topic}", message, retain, qos)
        while pid is None:
            s.step()
            pid = s.publish(b"{topic}", message, retain, qos)
        want += qos
        assert pid == (want if qos else 0), (pid, want)
tell(step_until(s, lambda: told == want), want)
s.close()
"""
    taken = Taken()
    with Peer(plant.context(), [taken]) as peer:
        assert plant.run(peer.port, script, heap="1m") == [[True, 2 * len(sizes)]]
    pid = 0
    expected = []
    for size in sizes:
        for qos, retain in ((0, False), (1, False), (1, True), (0, True)):
            pid += qos
            expected.append((qos, retain, topic, pid if qos else 0, size))
    packets = taken.packets[1:]
    assert [(p.qos, bool(p.first & 1), p.topic, p.pid, len(p.payload)) for p in packets] == expected
    assert all(p.first & 0xF0 == 0x30 and not p.first & 0x08 for p in packets)
    for packet in packets:
        size = len(packet.payload)
        assert packet.payload == bytes((size + i) & 0xFF for i in range(size))
    # One packet, one write, one record: the CONNECT, and each PUBLISH that TLS takes at once (4 KiB).
    (link,) = peer.links
    small = [p for p in packets if len(p.body) < 4090]
    bodies = [1 + len(taken.packets[0].body) + 1]
    bodies += [1 + (1 if len(p.body) < 128 else 2) + len(p.body) for p in small]
    assert [size - TLS_OVERHEAD for size in link.records[: len(bodies)]] == bodies


def test_packet_ids_wrap_from_65535_to_1(plant: Plant) -> None:
    script = """
s = connect()
acked = []
s.on_ack = acked.append
s.pid = 65533
tell([s.publish(b"t", b"", qos=1) for _ in range(4)])
step_until(s, lambda: len(acked) == 4)
tell(acked)
s.close()
"""
    taken = Taken()
    with Peer(plant.context(), [taken]) as peer:
        ids = [65534, 65535, 1, 2]
        assert plant.run(peer.port, script) == [[ids], [ids]]
    assert [p.pid for p in taken.packets[1:]] == ids


def test_pubacks_arrive_in_any_order_and_any_pieces(plant: Plant) -> None:
    def scatter(link: Link) -> None:
        link.greet()
        ids = [link.packet().pid for _ in range(20)]
        for pid in reversed(ids[:5]):  # out of order
            link.send(puback(pid))
        for pid in ids[5:10]:  # a byte a record
            link.send(*(bytes((b,)) for b in puback(pid)))
        link.send(b"".join(map(puback, ids[10:])))  # many in one record
        link.send(b"".join(map(puback, range(1000, 1300))))  # more than the receive buffer holds at once
        link.send(b"\x40", b"\x82\x00", struct.pack(">H", 7777))  # a length in two bytes where one does
        link.until_gone()

    script = """
s = connect()
acked = []
s.on_ack = acked.append
for _ in range(20):
    s.publish(b"t", b"x", qos=1)
step_until(s, lambda: 7777 in acked)
tell(acked)
s.close()
"""
    with Peer(plant.context(), [scatter]) as peer:
        ((acked,),) = plant.run(peer.port, script)
    assert acked == [5, 4, 3, 2, 1, *range(6, 21), *range(1000, 1300), 7777]


def test_a_peer_that_stops_reading_loses_and_garbles_nothing(plant: Plant) -> None:
    received: list[Packet] = []

    def lazy(link: Link) -> None:
        link.greet()
        wait_until((plant.folder / "blocked").exists, "a full send buffer")
        while True:
            received.append(link.acknowledge())

    script = """
s = connect()
acked = []
s.on_ack = acked.append
refused = sent = 0
while refused < 50 or sent < 400:
    begun = s.begin(b"t", 1)
    if begun is None:
        refused += 1
        if refused == 50:
            open(FOLDER + "/blocked", "w").close()
        s.step()
        time.sleep_ms(1)
        continue
    buf, at = begun
    size = 1000 + sent % 3 * 2500  # the largest takes two records, and may stop between them
    buf[at : at + size] = bytes([(sent + i) & 0xFF for i in range(size)])
    s.commit(at + size)
    sent += 1
tell(step_until(s, lambda: len(acked) == sent), sent)
s.close()
"""
    with Peer(plant.context(), [lazy], receive_buffer=4096) as peer:
        ((everything, sent),) = plant.run(peer.port, script)
    assert everything
    assert [p.pid for p in received] == list(range(1, sent + 1))
    for number, packet in enumerate(received):
        assert packet.payload == bytes((number + i) & 0xFF for i in range(1000 + number % 3 * 2500))


def test_ping_keeps_a_quiet_session_and_notices_a_silent_peer(plant: Plant) -> None:
    pings: list[int] = []

    def answers_three_pings(link: Link) -> None:
        link.greet()
        while len(pings) < 4:
            pings.append(link.packet().first)
            if len(pings) < 4:
                link.send(b"\xd0\x00")
        link.until_gone()

    script = """
s = connect(keepalive=20)
mqtt.time = now = Manual()
s._heard = s._said = 0
took = []
for _ in range(3):
    since = now.ticks
    while not s._pinged:
        now.ticks += 100
        s.step()
    took.append(now.ticks - since)
    step_until(s, lambda: not s._pinged)  # the answer comes in its own time
since = now.ticks
try:
    while True:
        now.ticks += 100
        s.step()
except OSError as e:
    tell(e.errno, took, now.ticks - since)
s.close()
"""
    with Peer(plant.context(), [answers_three_pings]) as peer:
        ((errno, took, silence),) = plant.run(peer.port, script)
    assert pings == [0xC0] * 4
    assert errno == 110  # ETIMEDOUT
    # Three quarters of the keepalive to a ping, one and a half from the last sign of life.
    assert took == [15100] * 3
    assert silence == 30100


def test_disconnect_of_the_base_class_says_goodbye(plant: Plant) -> None:
    with Peer(plant.context(), [taken := Taken()]) as peer:
        assert plant.run(peer.port, "s = connect()\ns.disconnect()\ns.close()\ntell(s.sock)") == [[None]]
    assert taken.packets[1:] == [Packet(0xE0, b"")]


def test_wait_returns_as_soon_as_the_broker_has_said_something(plant: Plant) -> None:
    def soon(link: Link) -> None:
        link.greet()
        link.send(puback(link.packet().pid))
        link.until_gone()

    script = """
s = connect()
acked = []
s.on_ack = acked.append
s.publish(b"t", b"", qos=1)
while not acked:
    s.step()
tell(acked)
s.close()
"""
    with Peer(plant.context(), [soon]) as peer:
        assert plant.run(peer.port, script) == [[[1]]]
