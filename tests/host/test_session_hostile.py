"""Brokers that lie, stall and hang up: the session ends with an error that the uplink knows, and in time."""

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
from tests.host.hostile import BROKER_NAME, CONNACK, Link, Packet, Peer, Plant, puback

KNOWN = {"OSError", "ValueError", "MQTTException"}
"""What limpet.uplink takes for the end of a session."""


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


def no_tls(link: Link) -> None:
    link.send_raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    link.until_gone()


def mid_packet(link: Link) -> None:
    link.greet()
    link.send(puback(1)[:3])


def flood(link: Link) -> None:
    """Messages without end, as fast as they go, and then nonsense."""
    link.greet()
    for _ in range(500):
        link.send(b"\x30\x05\x00\x01tHi" * 100)
    link.send(b"\x00\x00")
    link.until_gone()


CASES: dict[str, tuple[Callable[[Link], None], str]] = {
    "closes before TLS": (before_tls(Link.close), "OSError"),
    "resets before TLS": (before_tls(Link.reset), "OSError"),
    "does not speak TLS": (no_tls, "OSError"),
    "sends an alert": (alert, "OSError"),
    "closes within the handshake": (lambda link: link.begin_handshake(300), "OSError"),
    "closes after CONNECT": (before_connack(Link.close), "OSError"),
    "resets after CONNECT": (before_connack(Link.reset), "OSError"),
    "closes within CONNACK": (before_connack(lambda link: link.send(b"\x20\x02")), "OSError"),
    "closes when up": (before_connack(lambda link: link.send(CONNACK)), "OSError"),
    "closes within a packet": (mid_packet, "OSError"),
    **{
        f"refuses with code {code}": (
            after_connect(bytes((0x20, 2, 0, code))),
            f"MQTTException.*code {code}$",
        )
        for code in (1, 2, 3, 4, 5, 255)
    },
    "sends garbage for CONNACK": (after_connect(b"\xa5" * 300), "MQTTException"),
    "sends a long CONNACK": (after_connect(b"\x20\x03\x00\x00\x00"), "MQTTException.*no CONNACK"),
    "sends PUBACK for CONNACK": (after_connect(puback(1)), "MQTTException.*no CONNACK"),
    "sends garbage after CONNACK": (after_connect(CONNACK + b"\xff\x00"), "MQTTException"),
    "sends CONNACK twice": (after_connect(CONNACK + CONNACK), "MQTTException.*0x20"),
    "sends CONNACK late again": (when_up(CONNACK), "MQTTException.*0x20"),
    "sends endless length bytes": (when_up(b"\x30" + b"\x80" * 5000), "MQTTException.*too large"),
    "sends length bytes in drops": (when_up(*[b"\x30"] + [b"\x80"] * 20), "MQTTException.*too large"),
    "claims a PUBLISH of 256 MB": (when_up(b"\x30\xff\xff\xff\x7f\x00\x01t"), "MQTTException.*too large"),
    "sends a PUBLISH a byte too large": (when_up(b"\x30\xfe\x01" + bytes(254)), "MQTTException.*too large"),
    "sends a SUBACK": (when_up(b"\x90\x03\x00\x01\x00"), "MQTTException.*0x90"),
    "sends a PINGREQ": (when_up(b"\xc0\x00"), "MQTTException.*0xc0"),
    "sends a long PINGRESP": (when_up(b"\xd0\x01\x00"), "MQTTException.*0xd0"),
    "sends a short PUBACK": (when_up(b"\x40\x01\x00"), "MQTTException.*0x40"),
    "sends a long PUBACK": (when_up(b"\x40\x03\x00\x01\x00"), "MQTTException.*0x40"),
    "sends a CONNECT": (when_up(b"\x10\x00"), "MQTTException.*0x10"),
    "sends an empty PUBLISH": (when_up(b"\x30\x00"), "MQTTException.*0x30"),
    "sends PUBLISH of QoS 1": (when_up(b"\x32\x07\x00\x01t\x00\x01Hi"), "MQTTException.*0x32"),
    "sends PUBLISH of QoS 2": (when_up(b"\x34\x07\x00\x01t\x00\x01Hi"), "MQTTException.*0x34"),
    "sends PUBLISH of QoS 3": (when_up(b"\x36\x07\x00\x01t\x00\x01Hi"), "MQTTException.*0x36"),
    "sends messages without end": (flood, "MQTTException.*0x00"),
}


@pytest.fixture(scope="module")
def outcomes(plant: Plant) -> dict[str, str]:
    """Each case with a session of its own, all in one MicroPython: what ended it."""
    with Peer(plant.context(), [script for script, _ in CASES.values()]) as peer:
        script = f"for _ in range({len(CASES)}):\n    tell(*outcome(new()))"
        told = plant.run(peer.port, script)
    return {name: ": ".join(told[i]) for i, name in enumerate(CASES)}


@pytest.mark.parametrize("case", CASES)
def test_a_broker_that(case: str, outcomes: dict[str, str]) -> None:
    assert re.match(CASES[case][1], outcomes[case]), outcomes[case]
    assert outcomes[case].split(":")[0] in KNOWN


def test_messages_that_nobody_asked_for_cost_neither_heap_nor_the_session(plant: Plant) -> None:
    def chatty(link: Link) -> None:
        link.greet()
        for _ in range(200):
            link.send(b"\x31\xfd\x01\x00\x01t" + bytes(250))
        link.send(puback(9))
        link.until_gone()

    script = """
s = new()
acked = []
s.on_ack = acked.append
s.connect()
step_until(s, lambda: s.state == UP)
gc.collect()
before = gc.mem_alloc()
step_until(s, lambda: acked)
gc.collect()
tell(acked, gc.mem_alloc() - before < 256, len(s._rx), s.state == UP)
s.close()
"""
    with Peer(plant.context(), [chatty]) as peer:
        assert plant.run(peer.port, script) == [[[9], True, 256, True]]


def test_a_flood_never_keeps_one_step_for_long(plant: Plant) -> None:
    def flood(link: Link) -> None:
        link.greet()
        while True:
            link.send(b"\x30\x05\x00\x01tHi" * 1000)

    # Without a bound the first step that reads would not return before the peer pauses.
    script = """
s = connect()
most = 0
class Counted:
    def __init__(self, sock): self.sock = sock
    def write(self, data): return self.sock.write(data)
    def close(self): self.sock.close()
    def readinto(self, buf):
        self.reads += 1
        return self.sock.readinto(buf)
s.sock = Counted(s.sock)
for _ in range(300):
    s.sock.reads = 0
    s.step()
    most = max(most, s.sock.reads)
tell(most)
s.close()
"""
    with Peer(plant.context(), [flood]) as peer:
        assert plant.run(peer.port, script) == [[4]]


def silent_after_connect(link: Link) -> None:
    link.handshake()
    link.packet()
    link.until_gone()


def silent_from_the_start(link: Link) -> None:
    while link.sock.recv(65536):
        pass


@pytest.mark.parametrize("script", [silent_from_the_start, silent_after_connect])
def test_silence_ends_the_connect_after_fifteen_seconds(plant: Plant, script: Callable[[Link], None]) -> None:
    node = """
s = new()
mqtt.time = now = Manual()
s.connect()
try:
    while True:
        now.ticks += 10
        s.step()
except Exception as e:
    tell(type(e).__name__, str(e), now.ticks)
s.close()
"""
    with Peer(plant.context(), [script]) as peer:
        assert plant.run(peer.port, node) == [["OSError", "[Errno 110] ETIMEDOUT", 15010]]


def test_a_peer_that_talks_but_does_not_listen_is_left(plant: Plant) -> None:
    def talks_alone(link: Link) -> None:
        link.greet()
        while True:
            link.send(b"\x30\x05\x00\x01tHi" * 1000)

    node = """
s = connect()
mqtt.time = now = Manual()
s._heard = s._said = 0
try:
    for _ in range(5000):
        while s.publish(b"t", bytes(1000)) is not None:
            pass
        now.ticks += 100
        s.step()
        time.sleep_ms(1)
    tell("still there")
except OSError as e:
    tell(e.errno)
s.close()
"""
    with Peer(plant.context(), [talks_alone], receive_buffer=4096) as peer:
        assert plant.run(peer.port, node) == [[110]]


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
        ((kind, text),) = plant.run(peer.port, "tell(*outcome(new()))")
    assert kind == "ValueError", text
    assert told == []


def test_a_node_without_the_right_certificate_is_turned_away(plant: Plant, tmp_path: Path) -> None:
    stranger = Plant(tmp_path)
    (stranger.folder / "trusted.der").write_bytes((plant.folder / "trusted.der").read_bytes())
    with Peer(plant.context(), [Link.greet]) as peer:
        ((kind, text),) = stranger.run(peer.port, "tell(*outcome(new()))")
    assert kind == "OSError", text


def test_nobody_listens(plant: Plant) -> None:
    with Peer(plant.context(), [Link.greet]) as peer:
        port = peer.port
    assert plant.run(port, "tell(*outcome(new()))") == [["OSError", "[Errno 111] ECONNREFUSED"]]


def test_two_hundred_sessions_leave_nothing_behind(plant: Plant) -> None:
    """Sessions that end in every way: the heap is as before, and so are the process's file descriptors."""

    def acknowledges_once(link: Link) -> None:
        link.greet()
        link.acknowledge()

    ways = [acknowledges_once, before_tls(Link.reset), before_connack(Link.close), when_up(b"\xff\x00")]
    sessions = 200
    scripts = [ways[i % len(ways)] for i in range(sessions)]
    node = f"""
def one(i):
    s = new(name="elsewhere.example" if i % 20 == 10 else NAME)
    s.set_last_will(b"w", b"gone", True, 1)
    try:
        s.connect()
        step_until(s, lambda: s.state == UP)
        s.publish(b"t", b"x", qos=1)
        step_until(s, lambda: False)
    except (OSError, ValueError, mqtt.MQTTException):
        pass
    s.close()
heap = []
for i in range({sessions}):
    one(i)
    if i % 100 == 99:
        gc.collect()
        heap.append(gc.mem_alloc())
tell(heap)
sys.stdin.readline()
"""
    with Peer(plant.context(), scripts) as peer, plant.start(peer.port, node, heap="256k") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        while line and not line.startswith("\x1e"):
            line = process.stdout.readline()
        first, last = map(int, re.findall(r"\d+", line))
        files = [link.readlink().name for link in Path(f"/proc/{process.pid}/fd").iterdir()]
    assert len(peer.links) == sessions
    assert last - first < 512
    assert [name for name in files if name.startswith("socket")] == []
