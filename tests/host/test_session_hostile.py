"""Brokers that lie, stall and hang up: the session ends, says why, and in time; it never raises."""

import datetime
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from host_tools.pki.authority import Authority, Credential
from tests.host.hostile import (
    BROKER_NAME,
    CONNACK,
    Link,
    Packet,
    Peer,
    Plant,
    puback,
    publish,
    sockets,
    suback,
)
from tests.host.stand import wait_until

REFUSED, RESET, TIMEOUT = "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT"
BAD_CERTIFICATE = re.compile("(?i)certificate|cert verify|X509")


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Plant:
    return Plant(tmp_path_factory.mktemp("plant"))


def after_connect(*records: bytes) -> Callable[[Link], None]:
    """Answer the CONNECT with these records, and wait until the node goes."""

    def script(link: Link) -> None:
        link.handshake()
        link.packet()
        link.send(*records)
        link.until_gone()

    return script


def before_connack(end: Callable[[Link], None]) -> Callable[[Link], None]:
    def script(link: Link) -> None:
        link.handshake()
        link.packet()
        end(link)

    return script


def when_up(*records: bytes) -> Callable[[Link], None]:
    return after_connect(CONNACK, *records)


def before_tls(end: Callable[[Link], None]) -> Callable[[Link], None]:
    def script(link: Link) -> None:
        link.sock.recv(1)
        end(link)

    return script


def alert(link: Link) -> None:
    link.sock.recv(65536)
    link.send_raw(bytes.fromhex("15 03 03 00 02 02 28"))  # fatal, handshake failure
    link.until_gone()


def alert_when_up(link: Link) -> None:
    link.greet()
    link.send_raw(bytes.fromhex("15 03 03 00 02 02 28"))  # in the clear, where only sealed records may be
    link.until_gone()


def no_tls(link: Link) -> None:
    link.send_raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    link.until_gone()


def no_tls_but_mqtt(link: Link) -> None:
    link.send_raw(CONNACK * 10)
    link.until_gone()


def no_tls_any_more(link: Link) -> None:
    link.greet()
    link.send_raw(puback(1) * 10)
    link.until_gone()


def mid_packet(link: Link) -> None:
    link.greet()
    link.send(puback(1)[:3])


def mid_skip(link: Link) -> None:
    link.greet()
    link.send(publish(b"t" * 3000, bytes(3000), 1)[:-2000])


def flood(link: Link) -> None:
    """Messages without end, as fast as they go, and then nonsense."""
    link.greet()
    for _ in range(500):
        link.send(b"\x30\x05\x00\x01tHi" * 100)
    link.send(b"\x00\x00")
    link.until_gone()


# What each broker does, what the session then says, and whether that counts as malformed.
CASES: dict[str, tuple[Callable[[Link], None], str, bool]] = {
    "closes before TLS": (before_tls(Link.close), RESET, False),
    "resets before TLS": (before_tls(Link.reset), RESET, False),
    "does not speak TLS": (no_tls, "SSL", False),
    "does not speak TLS, but MQTT": (no_tls_but_mqtt, "SSL", False),
    "sends an alert": (alert, "SSL", False),
    "closes within the handshake": (lambda link: link.begin_handshake(300), "", False),
    "closes after CONNECT": (before_connack(Link.close), RESET, False),
    "resets after CONNECT": (before_connack(Link.reset), RESET, False),
    "closes within CONNACK": (before_connack(lambda link: link.send(b"\x20\x02")), RESET, False),
    "closes when up": (before_connack(lambda link: link.send(CONNACK)), RESET, False),
    "closes within a packet": (mid_packet, RESET, False),
    "closes within a long message": (mid_skip, RESET, False),
    "sends an alert when up": (alert_when_up, "SSL", False),
    "leaves TLS when up": (no_tls_any_more, "SSL", False),
    **{
        f"refuses with code {code}": (after_connect(bytes((0x20, 2, 0, code))), f"refused {code}$", code > 5)
        for code in (1, 2, 3, 4, 5, 6, 255)
    },
    "refuses and remembers the session": (after_connect(b"\x20\x02\x01\x05"), "refused 261", True),
    "sends CONNACK with a reserved flag": (after_connect(b"\x20\x02\x02\x00"), "refused 512", True),
    "sends CONNACK with all flags": (after_connect(b"\x20\x02\xff\x00"), "refused 65280", True),
    "sends garbage for CONNACK": (after_connect(b"\xa5" * 300), "packet a5", True),
    "sends a long CONNACK": (after_connect(b"\x20\x03\x00\x00\x00"), "packet 20", True),
    "sends a short CONNACK": (after_connect(b"\x20\x01\x00"), "packet 20", True),
    "sends PUBACK for CONNACK": (after_connect(puback(1)), "packet 40", True),
    "sends PUBLISH for CONNACK": (after_connect(publish(b"t", b"")), "packet 30", True),
    "sends garbage after CONNACK": (after_connect(CONNACK + b"\xff\x00"), "packet ff", True),
    "sends CONNACK twice": (after_connect(CONNACK + CONNACK), "packet 20", True),
    "sends CONNACK late again": (when_up(CONNACK), "packet 20", True),
    "sends endless length bytes": (when_up(b"\x30" + b"\x80" * 5000), "packet 30", True),
    "sends length bytes in drops": (when_up(*[b"\x30"] + [b"\x80"] * 20), "packet 30", True),
    "sends endless length bytes for CONNACK": (after_connect(b"\x20" + b"\x80" * 5000), "packet 20", True),
    "sends endless length bytes of 0": (when_up(b"\x00" + b"\xff" * 5000), "packet 0", True),
    "claims a PUBLISH of 256 MB": (when_up(b"\x30\xff\xff\xff\x7f\x00\x01t"), "packet 30", True),
    "claims a PUBLISH of 64 KiB": (when_up(b"\x30\x80\x80\x04\x00\x01t"), "packet 30", True),
    "claims a PUBACK of 64 KiB": (when_up(b"\x40\xff\xff\x03\x00\x01"), "packet 40", True),
    "claims a PUBACK of 4 MB": (when_up(b"\x00\x82\x80\xff\x01\x00\x01"), "packet 0", True),
    "claims a PINGRESP of 200 bytes": (when_up(b"\xd0\xc8\x01" + bytes(200)), "packet d0", True),
    "sends a SUBACK that nobody asked for": (when_up(suback(1, 0)), "packet 90", True),
    "sends a PINGRESP that nobody asked for": (when_up(b"\xd0\x00"), "packet d0", True),
    "sends a PINGREQ": (when_up(b"\xc0\x00"), "packet c0", True),
    "sends a DISCONNECT": (when_up(b"\xe0\x00"), "packet e0", True),
    "sends a long PINGRESP": (when_up(b"\xd0\x01\x00"), "packet d0", True),
    "sends a short PUBACK": (when_up(b"\x40\x01\x00"), "packet 40", True),
    "sends an empty PUBACK": (when_up(b"\x40\x00"), "packet 40", True),
    "sends a long PUBACK": (when_up(b"\x40\x03\x00\x01\x00"), "packet 40", True),
    "sends a PUBACK with a reserved flag": (when_up(b"\x42\x02\x00\x01"), "packet 42", True),
    "sends a CONNECT": (when_up(b"\x10\x00"), "packet 10", True),
    "sends a PUBREC": (when_up(b"\x50\x02\x00\x01"), "packet 50", True),
    "sends an empty PUBLISH": (when_up(b"\x30\x00"), "packet 30", True),
    "sends a PUBLISH of two bytes": (when_up(b"\x30\x02\x00\x00"), "packet 30", True),
    "sends PUBLISH without a topic": (when_up(b"\x30\x04\x00\x00Hi"), "packet 30", True),
    "sends PUBLISH without an id": (when_up(b"\x32\x03\x00\x01t"), "packet 32", True),
    "sends PUBLISH with half an id": (when_up(b"\x32\x04\x00\x01t\x00"), "packet 32", True),
    "sends PUBLISH with a topic beyond it": (when_up(b"\x30\x05\x00\x04tHi"), "packet 30", True),
    "sends PUBLISH with the longest topic": (when_up(b"\x30\x05\xff\xfftHi"), "packet 30", True),
    "sends a long PUBLISH without a topic": (when_up(b"\x32\x80\x10\x00\x00Hi"), "packet 32", True),
    "sends a long PUBLISH with a topic beyond it": (when_up(b"\x32\x80\x10\x07\xfft"), "packet 32", True),
    "sends PUBLISH of QoS 2": (when_up(b"\x34\x07\x00\x01t\x00\x01Hi"), "packet 34", True),
    "sends PUBLISH of QoS 3": (when_up(b"\x36\x07\x00\x01t\x00\x01Hi"), "packet 36", True),
    "sends messages without end": (flood, "packet 0", True),
}


@pytest.fixture(scope="module")
def outcomes(plant: Plant) -> dict[str, tuple[str, int]]:
    """Each case, one after the other with the same session: what ended it, how many were malformed."""
    script = f"""
s = new()
for _ in range({len(CASES)}):
    before = s.malformed
    s.connect(ADDRESS, NAME)
    tell(ending(s), s.malformed - before)
reconnect(s)
s.publish(b"t", b"", qos=1)
tell(step_until(s, lambda: s.acked), s.dropped)
s.close(True)
"""

    def good(link: Link) -> None:
        link.greet()
        while True:
            link.acknowledge()

    with Peer(plant.context(), [*(script for script, _, _ in CASES.values()), good]) as peer:
        told = plant.run(peer.port, script)
    assert told.pop() == [True, 1]  # after all that; the one long message that was cut off
    return dict(zip(CASES, map(tuple, told), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_a_broker_that(case: str, outcomes: dict[str, tuple[str, int]]) -> None:
    _, error, is_malformed = CASES[case]
    assert re.search(error, outcomes[case][0]), outcomes[case]
    assert outcomes[case][0] not in ("", "hangs")
    assert outcomes[case][1] == is_malformed


def test_a_broker_that_claims_a_session_that_was_to_be_forgotten(plant: Plant) -> None:
    script = "s = new()\ns.connect(ADDRESS, NAME, True)\ntell(ending(s), s.malformed)"
    with Peer(plant.context(), [after_connect(b"\x20\x02\x01\x00")]) as peer:
        assert plant.run(peer.port, script) == [["refused 256", 1]]


def test_a_refused_topic_is_logged_and_the_session_stays(plant: Plant) -> None:
    def refuses(link: Link) -> None:
        link.greet()
        link.send(suback(link.packet().pid, 1, 0x80))
        while True:
            link.acknowledge()

    script = """
from limpet import log
lines = []
log.log = lambda *what: lines.append(what)
s = connect(topics=(b"a", b"b"))
s.publish(b"t", b"", qos=1)
tell(step_until(s, lambda: s.acked), lines, s._wants, s.malformed)
s.close(True)
"""
    with Peer(plant.context(), [refuses]) as peer:
        assert plant.run(peer.port, script) == [[True, [["topics", "refused (b'a', b'b')"]], 0, 0]]


@pytest.mark.parametrize(
    "answer", [suback(1, 1), suback(1, 1, 1, 1), b"\x90\x02\x00\x01", puback(1) + b"\xd0\x00"]
)
def test_a_suback_for_other_topics_than_ours_ends_the_session(plant: Plant, answer: bytes) -> None:
    def answers(link: Link) -> None:
        link.greet()
        link.packet()
        link.send(answer)
        link.until_gone()

    with Peer(plant.context(), [answers]) as peer:
        script = "s = new(topics=(b'a', b'b'))\ns.connect(ADDRESS, NAME)\ntell(ending(s), s.malformed)"
        told = plant.run(peer.port, script)
    assert told in ([["packet 90", 1]], [["packet d0", 1]])


def test_a_wrong_puback_is_handed_on_and_changes_nothing(plant: Plant) -> None:
    def confused(link: Link) -> None:
        link.greet()
        pid = link.packet().pid
        link.send(puback(0xBEEF), puback(0), puback(pid), puback(pid))
        link.until_gone()

    script = """
s = connect()
s.publish(b"t", b"", qos=1)
tell(step_until(s, lambda: len(s.acked) == 3), s.acked, s.malformed)
s.close()
"""
    with Peer(plant.context(), [confused]) as peer:
        assert plant.run(peer.port, script) == [[True, [0xBEEF, 1, 1], 0]]


def test_messages_that_nobody_asked_for_cost_neither_heap_nor_the_session(plant: Plant) -> None:
    def chatty(link: Link) -> None:
        link.greet()
        for _ in range(200):
            link.send(b"\x31\xfd\x01\x00\x01t" + bytes(250))
        link.send(puback(9))
        link.until_gone()

    script = """
s = connect()
gc.collect()
before = gc.mem_alloc()
step_until(s, lambda: s.acked)
gc.collect()
tell(s.acked, gc.mem_alloc() - before < 256, len(s._rx), s.state == UP)
s.close()
"""
    with Peer(plant.context(), [chatty]) as peer:
        assert plant.run(peer.port, script) == [[[9], True, 256, True]]


def test_a_callback_that_fails_drops_its_message_alone(plant: Plant) -> None:
    taken: list[Packet] = []

    def asks(link: Link) -> None:
        link.greet()
        link.send(publish(b"cmd", b"bad", 7), publish(b"cmd", b"good", 8))
        taken.extend((link.packet(), link.packet()))
        link.send(puback(1))
        link.until_gone()

    script = """
from limpet import log
lines = []
log.log = lambda who, what: lines.append((who, str(what)))
s = new()
seen = []
def on_message(topic, payload):
    if payload == b"bad":
        raise KeyError("no such command")
    seen.append(str(payload, "utf-8"))
s.on_message = on_message
reconnect(s)
tell(step_until(s, lambda: s.acked), seen, s.dropped, lines, s.malformed)
s.close()
"""
    with Peer(plant.context(), [asks]) as peer:
        told = plant.run(peer.port, script)
    assert told == [[True, ["good"], 1, [["on_message", "no such command"]], 0]]
    assert [p.pid for p in taken] == [7, 8]


@pytest.mark.parametrize("how", ["s.close()", "s.close(True)", "s.connect(ADDRESS, NAME)"])
@pytest.mark.parametrize("where", ["on_ack", "on_message"])
def test_a_callback_may_close_and_even_connect(plant: Plant, how: str, where: str) -> None:
    def both(link: Link) -> None:
        link.greet()
        link.send((puback(1) + publish(b"t", b"x", 1)) * 5)
        link.until_gone()

    def good(link: Link) -> None:
        link.greet()
        while True:
            link.acknowledge()

    script = f"""
s = new()
def once(*_):
    calls.append(1)
    {how}
    s.on_ack = s.acked.append
    s.on_message = None
calls = []
s.{where} = once
s.connect(ADDRESS, NAME)
step_until(s, lambda: calls)
tell(s.state != UP, s.error)
s.acked.clear()
s.connect(ADDRESS, NAME)
step_until(s, lambda: s.state == UP)
s.publish(b"t", b"", qos=1)
tell(step_until(s, lambda: s.acked), len(calls), s.malformed)
s.close()
"""
    scripts = [both, good, good]
    with Peer(plant.context(), scripts) as peer:
        assert plant.run(peer.port, script) == [[True, None], [True, 1, 0]]


def test_a_flood_never_keeps_one_step_for_long(plant: Plant) -> None:
    def flood(link: Link) -> None:
        link.greet()
        while True:
            link.send(publish(b"t", b"Hi", 3) * 1000)

    # Without a bound the first step that reads would not return before the peer pauses.
    script = """
s = connect()
most = 0
class Counted:
    def __init__(self, sock): self.sock = sock
    def close(self): self.sock.close()
    def write(self, data):
        self.turns += 1
        return self.sock.write(data)
    def readinto(self, buf):
        self.turns += 1
        return self.sock.readinto(buf)
s.sock = Counted(s.sock)
for _ in range(300):
    s.sock.turns = 0
    s.step()
    most = max(most, s.sock.turns)
tell(most, s.state == UP)
s.close()
"""
    with Peer(plant.context(), [flood]) as peer:
        assert plant.run(peer.port, script) == [[8, True]]


def silent_after_connect(link: Link) -> None:
    link.handshake()
    link.packet()
    link.until_gone()


def silent_from_the_start(link: Link) -> None:
    while link.sock.recv(65536):
        pass


def silent_within_the_handshake(link: Link) -> None:
    link.begin_handshake(300)
    silent_from_the_start(link)


def silent_within_connack(link: Link) -> None:
    link.handshake()
    link.packet()
    link.send(CONNACK[:3])
    link.until_gone()


def silent_after_subscribe(link: Link) -> None:
    link.greet()
    while True:
        link.acknowledge()  # what else comes is answered


def talks_but_never_greets(link: Link) -> None:
    link.handshake()
    link.packet()
    link.send(*(CONNACK[:1],))
    link.until_gone()


@pytest.mark.parametrize(
    "script",
    [
        silent_from_the_start,
        silent_within_the_handshake,
        silent_after_connect,
        silent_within_connack,
        talks_but_never_greets,
        silent_after_subscribe,
    ],
)
def test_silence_ends_the_connect_after_fifteen_seconds(plant: Plant, script: Callable[[Link], None]) -> None:
    node = """
s = new(topics=(b"cmd",))
mqtt.time = now = Manual()
s.connect(ADDRESS, NAME)
while s.state != CLOSED:
    now.ticks += 10
    s.step()
    if s.state == UP:
        s.publish(b"t", b"", qos=1)
    if s._out or now.ticks % 100 == 0:
        time.sleep_ms(1)
tell(s.error, now.ticks, s.malformed)
"""
    with Peer(plant.context(), [script]) as peer:
        assert plant.run(peer.port, node) == [["[Errno 110] ETIMEDOUT", 15010, 0]]


@pytest.mark.parametrize(("late", "comes"), [(14900, True), (15000, True), (15010, False)])
def test_a_late_connack_counts_until_fifteen_seconds(plant: Plant, late: int, comes: bool) -> None:
    def hesitates(link: Link) -> None:
        link.handshake()
        link.packet()
        wait_until((plant.folder / f"late{late}").exists, "the moment")
        link.send(CONNACK)
        link.until_gone()

    script = f"""
s = new()
mqtt.time = now = Manual()
s.connect(ADDRESS, NAME)
for _ in range(50):
    s.step()
    time.sleep_ms(2)
now.ticks = {late}
s.step()
sign("late{late}")
step_until(s, lambda: s.state == UP)
tell(s.state == UP)
s.close()
"""
    with Peer(plant.context(), [hesitates]) as peer:
        assert plant.run(peer.port, script) == [[comes]]


@pytest.mark.parametrize("keepalive", [5, 30, 3600])
def test_half_open_is_noticed_within_one_and_a_half_keepalives(plant: Plant, keepalive: int) -> None:
    """The peer has gone without a word: nothing comes any more, and what we send finds room or not."""
    (plant.folder / f"gone{keepalive}").unlink(missing_ok=True)

    def gone(link: Link) -> None:
        link.greet()
        link.acknowledge()
        wait_until((plant.folder / f"gone{keepalive}").exists, "the end")

    for publishes in ("", "s.publish(b't', bytes(1000), qos=1)", "s.publish(b't', b'')"):
        script = f"""
mqtt.time = now = Manual()
s = connect(keepalive={keepalive})
s.publish(b"t", b"", qos=1)
step_until(s, lambda: s.acked)
last = now.ticks
while s.state != CLOSED:
    now.ticks += 250
    {publishes}
    s.step()
tell(s.error, (now.ticks - last) / {keepalive})
sign("gone{keepalive}")
"""
        (plant.folder / f"gone{keepalive}").unlink(missing_ok=True)
        with Peer(plant.context(), [gone], receive_buffer=4096) as peer:
            ((error, keepalives),) = plant.run(peer.port, script)
        assert TIMEOUT in error
        assert 1400 < keepalives <= 1500


def test_a_peer_that_talks_but_does_not_listen_is_left(plant: Plant) -> None:
    def talks_alone(link: Link) -> None:
        link.greet()
        while True:
            link.send(b"\x30\x05\x00\x01tHi" * 1000)

    node = """
mqtt.time = now = Manual()
s = connect(keepalive=30)
most = 0
while s.state == UP and now.ticks < 100000:
    while s.publish(b"t", bytes(1000), qos=1) is not None:
        pass
    before = time.ticks_ms()
    s.flush()
    s.step()
    most = max(most, time.ticks_diff(time.ticks_ms(), before))
    now.ticks += 100
    time.sleep_ms(1)
tell(s.error, now.ticks <= 45000, most < 1000)
s.close()
"""
    with Peer(plant.context(), [talks_alone], receive_buffer=4096) as peer:
        ((error, *rest),) = plant.run(peer.port, node)
    assert TIMEOUT in error
    assert rest == [True, True]


def test_pings_unanswered_end_it_though_messages_come(plant: Plant) -> None:
    """A broker that sends what nobody answers, and nothing that answers us, is not known to hear us."""

    def deaf(link: Link) -> None:
        link.greet()
        while link.packet().kind != 12:
            pass
        (plant.folder / "asked").touch()
        while True:
            link.send(publish(b"t", b"still here"))
            link.packet()

    node = """
mqtt.time = now = Manual()
s = connect(keepalive=30)
seen = []
s.on_message = lambda *_: seen.append(1)
while not s._wants:
    now.ticks += 100
    s.step()
while "asked" not in os.listdir(FOLDER):
    time.sleep_ms(5)
while s.state == UP:
    known = len(seen)
    s.publish(b"t", b"")
    step_until(s, lambda: len(seen) > known, 2)
    now.ticks += 1000
tell(s.error, now.ticks <= 45000, len(seen) > 5)
"""
    with Peer(plant.context(), [deaf]) as peer:
        ((error, *rest),) = plant.run(peer.port, node)
    assert TIMEOUT in error
    assert rest == [True, True]


def test_nothing_raises_and_nothing_hangs_without_heap(plant: Plant) -> None:
    """Heap runs out at every moment of a session: step and connect do not raise, and later all is well."""

    def normal(link: Link) -> None:
        link.greet()
        link.send(suback(link.packet().pid, 1))
        while True:
            link.acknowledge()
            link.send(publish(b"cmd", b"x" * 40, 1))

    script = """
s = new(topics=(b"cmd",))
s.set_last_will(b"w", b"gone", True, 1)
s.on_message = lambda topic, payload: None
def exhaust(left):
    # All but about `left` pairs of the heap's blocks are taken.
    gc.collect()
    chain = None
    try:
        while True:
            chain = [chain, None]
    except MemoryError:
        pass
    for _ in range(left):
        chain = chain[0]
    return chain
_ = ended = ups = left = moment = 0
chain = None
errors = set()
for left in list(range(0, 24)) + list(range(24, 200, 16)):
    for moment in range(4):
        s.close()
        if moment:
            reconnect(s)
            step_until(s, lambda: not s._wants)
        if moment == 2:
            s.publish(b"t", b"", qos=1)
            time.sleep_ms(3)
        chain = exhaust(left)
        gc.disable()
        if not moment:
            s.connect(ADDRESS, NAME)
        if moment == 3:
            s.flush()
        for _ in range(5):
            s.step()
        s.flush()
        chain = None
        gc.enable()
        gc.collect()
        ups += s.state == UP
        ended += s.state == CLOSED
        if s.error is not None:
            errors.add(str(s.error)[:25])
s.close()
reconnect(s)
s.acked.clear()
s.publish(b"t", b"", qos=1)
tell(step_until(s, lambda: s.acked), ups, ended, list(errors), s.malformed)
s.close(True)
"""
    with Peer(plant.context(), [normal]) as peer:
        ((works, ups, ended, errors, malformed),) = plant.run(peer.port, script, heap="96k")
    assert works
    assert ups and ended
    assert any("memory" in error for error in errors), errors
    assert malformed == 0


def self_signed() -> Credential:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, BROKER_NAME)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(BROKER_NAME)]), critical=False)
    return Credential(key, builder.sign(key, hashes.SHA256()))


FAULTS = ["other name", "other authority", "self-signed", "expired", "not yet valid"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broker_that_is_not_the_right_one_is_refused(plant: Plant, tmp_path: Path, fault: str) -> None:
    if fault == "other name":
        credential = plant.authority.issue_broker(["elsewhere.example"])
    elif fault == "expired":
        credential = plant.authority.issue_broker(
            [BROKER_NAME], now=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
        )
    elif fault == "not yet valid":
        future = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=30)
        credential = plant.authority.issue_broker([BROKER_NAME], now=future)
    elif fault == "self-signed":
        credential = self_signed()
    else:
        credential = Authority.create(tmp_path / "other").issue_broker([BROKER_NAME])
    told: list[Packet] = []

    def script(link: Link) -> None:
        link.handshake()
        told.append(link.packet())

    with Peer(plant.context(credential), [script]) as peer:
        ((error,),) = plant.run(peer.port, "s = new()\ns.connect(ADDRESS, NAME)\ntell(ending(s))")
    assert BAD_CERTIFICATE.search(error), error
    assert told == []


def test_a_node_without_the_right_certificate_is_turned_away(plant: Plant, tmp_path: Path) -> None:
    stranger = Plant(tmp_path)
    (stranger.folder / "trusted.der").write_bytes((plant.folder / "trusted.der").read_bytes())
    with Peer(plant.context(), [Link.greet]) as peer:
        ((error,),) = stranger.run(peer.port, "s = new()\ns.connect(ADDRESS, NAME)\ntell(ending(s))")
    assert error not in (None, "hangs")


def test_nobody_listens(plant: Plant) -> None:
    with Peer(plant.context(), [Link.greet]) as peer:
        port = peer.port
    script = "s = new()\ns.connect(ADDRESS, NAME)\ntell(ending(s))"
    assert plant.run(port, script) == [["[Errno 111] ECONNREFUSED"]]


def test_no_such_address(plant: Plant) -> None:
    script = """
s = new()
for nonsense in (None, b"", 7, ("127.0.0.1", -1)):
    s.connect(nonsense, NAME)
    tell(s.state == CLOSED, bool(s.error))
sys.stdin.readline()
"""
    with plant.start(1, script) as process:
        assert process.stdout is not None
        for _ in range(4):
            assert process.stdout.readline() == "\x1e[true, true]\n"
        assert sockets(process) == 0
