"""`limpet.mqtt.Session` as the broker sees it: every byte of its packets, and the records that carry them."""

import struct
from pathlib import Path

import pytest

from tests.host.hostile import CONNACK, CONNACK_PRESENT, Link, Packet, Peer, Plant, puback, publish, suback
from tests.host.stand import wait_until

# From RFC 5246: header, explicit nonce of AES-GCM, tag. ChaCha20 and CCM need no more.
TLS_OVERHEAD = 5 + 8 + 16
TX_SIZE = 1056  # limpet.mqtt._TX_SIZE


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Plant:
    return Plant(tmp_path_factory.mktemp("plant"))


class Taken:
    """A script that accepts, and keeps what comes until the node goes; `ack` acknowledges it."""

    def __init__(self, ack: bool = True, connack: bytes = CONNACK) -> None:
        self._ack = ack
        self._connack = connack
        self.packets: list[Packet] = []

    def __call__(self, link: Link) -> None:
        self.packets.append(link.greet(self._connack))
        while True:
            self.packets.append(link.acknowledge() if self._ack else link.packet())


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("will", [None, (True, 1), (False, 0), (True, 2)])
def test_connect_is_right_to_the_bit(plant: Plant, clean: bool, will: tuple[bool, int] | None) -> None:
    taken = Taken()
    script = "s = new(keepalive=1234)\n"
    if will:
        script += f's.set_last_will("limpet/größe", b\'{{"up":false}}\', {will[0]}, {will[1]})\n'
    script += f"reconnect(s, {clean})\ns.close()\ntell(s.error)"
    with Peer(plant.context(), [taken]) as peer:
        assert plant.run(peer.port, script) == [[None]]
    flags = clean << 1
    tail = b"\x00\x03n01"
    if will:
        flags |= 0x04 | will[1] << 3 | will[0] << 5
        tail += b"\x00\x0e" + "limpet/größe".encode() + b'\x00\x0c{"up":false}'
    expected = b"\x00\x04MQTT\x04" + bytes((flags,)) + struct.pack(">H", 1234) + tail
    assert taken.packets == [Packet(0x10, expected)]


def test_publish_is_right_at_every_length_and_one_record_each(plant: Plant) -> None:
    topic = "limpet/n01/data"
    # Remaining length is 2 + topic + payload for QoS 0, and 2 more for QoS 1: payloads around 127 and 128
    # of each, the send buffer's size, beyond it, and the most that a length of two bytes can say.
    most = 16383 - 4 - len(topic)
    sizes = [0, 1, *range(105, 124), *range(TX_SIZE - 40, TX_SIZE, 3), TX_SIZE, 4000, 5000, most]
    script = f"""
s = connect()
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
tell(step_until(s, lambda: len(s.acked) == want), want)
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
s.pid = 65533
tell([s.publish(b"t", b"", qos=1) for _ in range(4)])
step_until(s, lambda: len(s.acked) == 4)
tell(s.acked)
s.close()
"""
    taken = Taken()
    with Peer(plant.context(), [taken]) as peer:
        ids = [65534, 65535, 1, 2]
        assert plant.run(peer.port, script) == [[ids], [ids]]
    assert [p.pid for p in taken.packets[1:]] == ids


def test_a_packet_goes_again_with_its_id_and_dup_and_new_ids_go_on(plant: Plant) -> None:
    script = """
s = connect()
first = [s.publish(b"t", b"%d" % i, qos=1) for i in range(3)]
step_until(s, lambda: s.state == CLOSED)
reconnect(s)
again = []
for i, pid in enumerate(first):
    buf, at = s.begin(b"t", 1, pid)
    buf[at : at + 1] = b"%d" % i
    again.append(s.commit(at + 1, dup=True))
new = s.publish(b"t", b"new", qos=1)
step_until(s, lambda: len(s.acked) == 4)
tell(s.present, first, again, new, s.acked)
s.close()
"""
    sent: list[Packet] = []

    def forgets(link: Link) -> None:
        link.greet()
        sent.extend(link.packet() for _ in range(3))
        link.reset()

    taken = Taken(connack=CONNACK_PRESENT)
    with Peer(plant.context(), [forgets, taken]) as peer:
        (told,) = plant.run(peer.port, script)
    assert told == [True, [1, 2, 3], [1, 2, 3], 4, [1, 2, 3, 4]]
    again, new = taken.packets[1:4], taken.packets[4]
    assert [p.body for p in again] == [p.body for p in sent]
    assert [p.first for p in (*sent, *again, new)] == [0x32] * 3 + [0x3A] * 3 + [0x32]


def test_subscribe_is_right_to_the_bit_and_only_said_to_a_broker_that_has_forgotten(plant: Plant) -> None:
    script = """
s = new(topics=(b"limpet/n01/cmd/+", b"all"))
s.pid = 65535
for clean in (False, False, True):
    reconnect(s, clean)
    tell(s.present, s.pid)
    s.close(True)
"""
    taken = [Taken(ack=False), Taken(ack=False, connack=CONNACK_PRESENT), Taken(ack=False)]
    with Peer(plant.context(), taken) as peer:
        assert plant.run(peer.port, script) == [[False, 1], [True, 1], [False, 2]]
    said = b"\x00\x10limpet/n01/cmd/+\x01\x00\x03all\x01"
    disconnect = Packet(0xE0, b"")
    assert taken[0].packets[1:] == [Packet(0x82, b"\x00\x01" + said), disconnect]
    assert taken[1].packets[1:] == [disconnect]
    assert taken[2].packets[1:] == [Packet(0x82, b"\x00\x02" + said), disconnect]


def test_messages_come_whole_and_in_order_and_are_acknowledged_once(plant: Plant) -> None:
    """Of QoS 0 and 1, up to the longest that is taken in, cut in every way; some while others wait."""
    messages = [(b"t", b"", 0), (b"a/b", b"x" * 100, 1), (b"long", bytes(range(247)), 0)]
    messages += [(b"long", bytes(range(245)), 0xFFFF), (b"t" * 249, b"", 0x1234), (b"t", b"last", 2)]
    packets = [publish(*message) for message in messages]
    assert max(map(len, packets)) == 256
    pubacks: list[Packet] = []

    def says(link: Link) -> None:
        link.greet()
        stream = b"".join(packets)
        link.send(*packets)
        link.send(stream)
        link.send(*(stream[i : i + 1] for i in range(len(stream))))
        link.send(*(stream[i : i + 97] for i in range(0, len(stream), 97)))
        pubacks.extend(link.packet() for _ in range(4 * 4))
        link.send(puback(9))
        link.until_gone()

    script = f"""
s = new()
seen = []
s.on_message = lambda topic, payload: seen.append([str(topic, "utf-8"), list(payload)])
reconnect(s)
step_until(s, lambda: s.acked)
tell(s.state == UP, s.dropped, len(seen), seen[:{len(messages)}] * 4 == seen, seen[:{len(messages)}])
s.close()
"""
    with Peer(plant.context(), [says]) as peer:
        ((*told, seen),) = plant.run(peer.port, script)
    assert told == [True, 0, 4 * len(messages), True]
    assert [(topic.encode(), bytes(payload)) for topic, payload in seen] == [m[:2] for m in messages]
    assert pubacks == [Packet(0x40, struct.pack(">H", pid)) for _, _, pid in messages if pid] * 4


def test_messages_that_are_too_long_are_skipped_acknowledged_and_counted(plant: Plant) -> None:
    """By payload, by topic, by both, up to the longest; the packets between them are taken."""
    long = [
        publish(b"t", bytes(252)),
        publish(b"t", bytes(250), 1),
        publish(b"t" * 250, b"1", 2),
        publish(b"t" * 300, bytes(300), 3),
        publish(b"t" * 40000, b"", 4),
        publish(b"t" * 40000, b""),
        publish(b"t", bytes(65535 - 5), 5),
        publish(b"t" * 65533, b""),
    ]
    assert len(long[-1]) == 65535 + 4
    pubacks: list[Packet] = []

    def says(link: Link) -> None:
        link.greet()
        for pieces in (1, 7, 1000):
            for i, packet in enumerate(long):
                size = len(packet) if pieces == 1 else max(1, len(packet) // pieces)
                link.send(*(packet[at : at + size] for at in range(0, len(packet), size)))
                link.send(publish(b"between", b"%d" % i))
            pubacks.extend(link.packet() for _ in range(5))
        link.send(puback(9))
        link.until_gone()

    script = """
s = new()
seen = []
s.on_message = lambda topic, payload: seen.append(int(payload))
reconnect(s)
gc.collect()
before = gc.mem_alloc()
step_until(s, lambda: s.acked)
gc.collect()
tell(s.state == UP, s.dropped, seen, gc.mem_alloc() - before < 2000)
s.close()
"""
    with Peer(plant.context(), [says]) as peer:
        assert plant.run(peer.port, script, heap="128k") == [
            [True, 3 * len(long), list(range(len(long))) * 3, True]
        ]
    assert [p.pid for p in pubacks] == [1, 2, 3, 4, 5] * 3
    assert {p.first for p in pubacks} == {0x40}


def test_a_puback_of_ours_waits_its_turn(plant: Plant) -> None:
    """The callback publishes more than the socket takes: the PUBACK comes behind that, and whole."""
    received: list[Packet] = []

    def lazy(link: Link) -> None:
        link.greet()
        link.send(publish(b"ask", b"1", 5), publish(b"ask", b"2", 6), publish(b"ask", b"3"))
        wait_until((plant.folder / "blocked").exists, "a full send buffer")
        while len(received) < 2 or received[-2].pid != 6:
            received.append(link.packet())
        link.send(puback(1))
        link.until_gone()

    script = """
s = new()
answers = 0
asked = []
def answer(topic, payload):
    global answers
    asked.append(int(payload))
    while s.publish(b"answer", bytes(12000)) is not None:
        answers += 1
s.on_message = answer
reconnect(s)
while not asked:
    s.step()
for _ in range(20):
    s.step()
early = list(asked)
sign("blocked")
tell(step_until(s, lambda: s.acked), early, asked)
s.close()
"""
    with Peer(plant.context(), [lazy], receive_buffer=4096) as peer:
        assert plant.run(peer.port, script) == [[True, [1], [1, 2, 3]]]
    assert [p.pid for p in received if p.kind == 4] == [5, 6]
    assert {p.payload for p in received if p.kind == 3} == {bytes(12000)}


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
for _ in range(20):
    s.publish(b"t", b"x", qos=1)
step_until(s, lambda: 7777 in s.acked)
tell(s.acked)
s.close()
"""
    with Peer(plant.context(), [scatter]) as peer:
        ((acked,),) = plant.run(peer.port, script)
    assert acked == [5, 4, 3, 2, 1, *range(6, 21), *range(1000, 1300), 7777]


def test_a_peer_that_stops_reading_loses_and_garbles_nothing(plant: Plant) -> None:
    received: list[Packet] = []

    def lazy(link: Link) -> None:
        link.greet()
        wait_until((plant.folder / "stopped").exists, "a full send buffer")
        while True:
            received.append(link.acknowledge())

    script = """
s = connect()
refused = sent = 0
while refused < 50 or sent < 400:
    begun = s.begin(b"t", 1)
    if begun is None:
        refused += 1
        if refused == 50:
            sign("stopped")
        s.step()
        time.sleep_ms(1)
        continue
    buf, at = begun
    size = 1000 + sent % 3 * 2500  # the largest takes two records, and may stop between them
    buf[at : at + size] = bytes([(sent + i) & 0xFF for i in range(size)])
    s.commit(at + size)
    sent += 1
tell(step_until(s, lambda: len(s.acked) == sent), sent)
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
mqtt.time = now = Manual()
s = connect(keepalive=20)
took = []
for _ in range(3):
    since = now.ticks
    while not s._wants:
        now.ticks += 100
        s.step()
    took.append(now.ticks - since)
    step_until(s, lambda: not s._wants)  # the answer comes in its own time
since = now.ticks
while s.state != CLOSED:
    now.ticks += 100
    s.step()
tell(s.error, took, now.ticks - since)
"""
    with Peer(plant.context(), [answers_three_pings]) as peer:
        ((error, took, silence),) = plant.run(peer.port, script)
    assert pings == [0xC0] * 4
    assert "ETIMEDOUT" in error
    # 0.7 of the keepalive to a ping, 1.4 from the last sign of life to the end: less than the 1.5 promised.
    assert took == [14100] * 3
    assert silence == 28100


def test_a_ping_goes_at_once_and_no_second_one_before_its_answer(plant: Plant) -> None:
    taken = Taken()
    script = """
s = connect()
s.ping()
s.ping()
step_until(s, lambda: not s._wants)
s.ping()
tell(step_until(s, lambda: not s._wants))
s.close(True)
s.ping()
"""
    with Peer(plant.context(), [taken]) as peer:
        assert plant.run(peer.port, script) == [[True]]
    assert taken.packets[1:] == [Packet(0xC0, b"")] * 2 + [Packet(0xE0, b"")]


def test_no_ping_while_pubacks_show_that_the_broker_lives(plant: Plant) -> None:
    taken = Taken()
    script = """
mqtt.time = now = Manual()
s = connect(keepalive=20)
for i in range(10):
    now.ticks += 10000
    s.publish(b"t", b"", qos=1)
    step_until(s, lambda: len(s.acked) > i)
tell(s.state == UP)
s.close(True)
"""
    with Peer(plant.context(), [taken]) as peer:
        assert plant.run(peer.port, script) == [[True]]
    assert [p.first for p in taken.packets[1:]] == [0x32] * 10 + [0xE0]


def test_nothing_waits_that_the_node_could_have_read(plant: Plant) -> None:
    """The node was busy past the deadlines; what came meanwhile still counts."""

    def prompt(link: Link) -> None:
        link.greet()
        link.send(suback(link.packet().pid, 1))
        link.send(puback(link.packet().pid))
        (plant.folder / "acknowledged").touch()
        link.until_gone()

    script = """
mqtt.time = now = Manual()
s = connect(topics=(b"c",))
while s._wants:
    s.step()
s.publish(b"t", b"", qos=1)
while "acknowledged" not in os.listdir(FOLDER):
    time.sleep_ms(5)
now.ticks += 100000
tell(step_until(s, lambda: s.acked), s.state == UP)
s.close()
"""
    with Peer(plant.context(), [prompt]) as peer:
        assert plant.run(peer.port, script) == [[True, True]]


# What is told of today's class, in our words: an SSLContext instead of a flag, and no socket at first.
TODAY = """
class MQTTException(Exception):
    pass

class MQTTClient:
    def __init__(self, client_id, server, port=0, user=None, password=None, keepalive=0, ssl=None,
        ssl_params={}):
        self.client_id = client_id
        self.server = server
        self.port = port or (8883 if ssl else 1883)
        self.ssl, self.ssl_params = ssl, ssl_params
        self.user, self.pswd = user, password
        self.pid = 0
        self.cb = None
        self.keepalive = keepalive
        self.lw_topic = self.lw_msg = None
        self.lw_qos, self.lw_retain = 0, False

    def set_last_will(self, topic, msg, retain=False, qos=0):
        self.lw_topic, self.lw_msg, self.lw_retain, self.lw_qos = topic, msg, retain, qos
"""


def test_the_base_class_of_today_serves_as_well(plant: Plant, tmp_path: Path) -> None:
    (tmp_path / "umqtt").mkdir()
    (tmp_path / "umqtt" / "simple.py").write_text(TODAY)
    script = """
s = new(keepalive=77)
s.close()
s.set_last_will(b"w", b"gone", True, 1)
reconnect(s)
s.publish(b"t", b"x", qos=1)
tell(step_until(s, lambda: s.acked))
s.close(True)
"""
    taken = Taken()
    with Peer(plant.context(), [taken]) as peer:
        assert plant.run(peer.port, script, umqtt=tmp_path) == [[True]]
    assert taken.packets[0].body == b"\x00\x04MQTT\x04\x2c\x00\x4d\x00\x03n01\x00\x01w\x00\x04gone"
    assert [p.first for p in taken.packets[1:]] == [0x32, 0xE0]
