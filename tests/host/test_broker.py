"""Whom the brokers let in and what they let them do, over real TLS. Both brokers keep the same promises."""

import datetime
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from host_tools.broker import Broker, Kind, start_broker
from host_tools.broker.mosquitto import find_executable
from host_tools.errors import LimpetError
from host_tools.pki import profiles
from host_tools.pki.authority import Authority
from host_tools.pki.credential import Credential
from host_tools.pki.names import CONSOLE, OPERATOR, OPERATOR_URI
from tests.host.mqtt_clients import DEADLINE, Client, Refused, console, node_credential, tls_context

NEEDS_MOSQUITTO = pytest.mark.skipif(
    find_executable() is None, reason="Mosquitto is not installed: install the package `mosquitto`"
)
KINDS = [pytest.param("mosquitto", marks=NEEDS_MOSQUITTO), "embedded"]
LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
LATER = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=30)
UP, DOWN = b'{"up": true}', b'{"up": false}'


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and credentials good and bad, in a folder with a blank in its name."""
    folder = tmp_path_factory.mktemp("trust") / "our ca"
    authority = Authority.create(folder)
    authority.issue_broker(["localhost", "127.0.0.1"]).save(folder, "broker")
    authority.issue_console().save(folder, "console")
    _operator(folder, authority).save(folder, "operator")
    for node in ("n01", "n02"):
        node_credential(authority, node).save(folder, node)
    node_credential(authority, "n01", now=LONG_AGO).save(folder, "expired")
    node_credential(authority, "n01", now=LATER).save(folder, "too early")
    stranger = Authority.create(folder / "stranger")
    node_credential(stranger, "n01").save(folder, "stranger")
    return folder


def _operator(folder: Path, authority: Authority) -> Credential:
    """What only `limpet ca` issues: the throwaway authority has no operators."""
    signer = load_pem_private_key((folder / "ca.key").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    with_name = profiles.Signer(signer, authority.certificate)
    return Credential(
        key, profiles.client(with_name, OPERATOR, OPERATOR_URI, key.public_key(), profiles.utc_now())
    )


@pytest.fixture(params=KINDS)
def broker(request: pytest.FixtureRequest, pki: Path) -> Iterator[Broker]:
    with start_broker(pki, prefer=request.param) as broker:
        assert broker.kind == request.param
        yield broker


def connect_packet(client_id: str, keep_alive: int = 60, will: tuple[str, bytes] | None = None) -> bytes:
    """An MQTT 3.1.1 CONNECT packet, clean session (§3.1)."""

    def text(value: bytes) -> bytes:
        return struct.pack("!H", len(value)) + value

    flags = 0x02 | (0x2C if will else 0)
    body = text(b"MQTT") + struct.pack("!BBH", 4, flags, keep_alive) + text(client_id.encode())
    if will:
        body += text(will[0].encode()) + text(will[1])
    return bytes([0x10, len(body)]) + body


# -- who comes in ------------------------------------------------------------------------------------------


def test_readings_reach_the_console(broker: Broker, pki: Path) -> None:
    with console(broker, pki) as watcher, Client(broker, pki, "n01", "n01") as node:
        for i in range(50):
            node.publish("limpet/n01/data", b"%d" % i)
        assert [watcher.next_message() for _ in range(50)] == [
            ("limpet/n01/data", b"%d" % i) for i in range(50)
        ]


@pytest.mark.parametrize("stem", [None, "stranger", "expired", "too early", "broker"])
def test_bad_certificate_is_refused(broker: Broker, pki: Path, stem: str | None) -> None:
    with pytest.raises((Refused, ssl.SSLError, ConnectionError)), Client(broker, pki, stem, "n01"):
        pass


def test_handshake_ends_without_a_certificate(broker: Broker, pki: Path) -> None:
    context = tls_context(pki / "ca.crt", None)
    # TLS 1.3 tells the client only after its own half of the handshake.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("localhost", broker.port), timeout=DEADLINE) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(plain, server_hostname="localhost")


def test_plaintext_is_refused(broker: Broker) -> None:
    with socket.create_connection(("localhost", broker.port), timeout=DEADLINE) as plain:
        plain.sendall(connect_packet("n01"))
        try:
            answer = plain.recv(100)
        except ConnectionResetError:
            answer = b""
        assert not answer.startswith(b"\x20"), "CONNACK without TLS"


def test_old_tls_is_refused(broker: Broker, pki: Path) -> None:
    context = tls_context(pki / "ca.crt", pki / "n01.crt")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("localhost", broker.port), timeout=DEADLINE) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(plain, server_hostname="localhost")


def test_client_refuses_a_broker_of_another_name(pki: Path, tmp_path: Path) -> None:
    Authority.load(pki).issue_broker(["broker.plant.example"]).save(tmp_path, "broker")
    (tmp_path / "ca.crt").write_bytes((pki / "ca.crt").read_bytes())
    with (
        start_broker(tmp_path) as broker,
        pytest.raises(ssl.SSLCertVerificationError),
        Client(broker, pki, "n01", "n01"),
    ):
        pass


# -- what they may do --------------------------------------------------------------------------------------


def test_no_node_takes_the_client_id_of_another(broker: Broker, pki: Path) -> None:
    with (
        console(broker, pki) as watcher,
        Client(broker, pki, "n01", "n01", will=("limpet/n01/state", DOWN)) as victim,
    ):
        assert victim.subscribe("limpet/n01/cmd/#")
        try:
            with Client(broker, pki, "n02", "n01") as thief:
                # Mosquitto lets it in under its own name.
                thief.send("limpet/n01/data", b"forged")
                thief.subscribe("limpet/n01/cmd/#")
                victim.publish("limpet/n01/cmd/1", b"still here")
                thief.publish("limpet/n02/cmd/1", b"marker")
                assert thief.subscribe("limpet/n02/cmd/#")
                thief.publish("limpet/n02/cmd/2", b"marker")
                assert thief.next_message() == ("limpet/n02/cmd/2", b"marker")
        except Refused:
            victim.publish("limpet/n01/cmd/1", b"still here")
        assert victim.next_message() == ("limpet/n01/cmd/1", b"still here")
        assert not victim.gone.is_set()
        assert watcher.until("limpet/n01/cmd/1", b"still here") == []


def test_no_node_writes_as_another(broker: Broker, pki: Path) -> None:
    with console(broker, pki) as watcher, Client(broker, pki, "n02", "n02") as node:
        for topic in (
            "limpet/n01/data",
            "limpet/n01/state",
            "limpet/data",
            "limpet/n022/data",
            "limpet/N02/data",
        ):
            node.send(topic, b"forged", retain=True)
        node.publish("limpet/n02/data", b"own")
        assert watcher.until("limpet/n02/data", b"own") == []
    with console(broker, pki) as late, Client(broker, pki, "n02", "n02") as node:
        node.publish("limpet/n02/data", b"marker")
        assert late.until("limpet/n02/data", b"marker") == []


def test_no_node_leaves_a_will_as_another(broker: Broker, pki: Path) -> None:
    with console(broker, pki) as watcher:
        try:
            with Client(broker, pki, "n02", "n02", will=("limpet/n01/state", b"forged")) as node:
                node.vanish()
        except Refused:
            pass
        with Client(broker, pki, "n02", "n02", will=("limpet/n02/state", DOWN)) as node:
            node.publish("limpet/n02/data", b"marker")
        assert watcher.until("limpet/n02/data", b"marker") == []


def test_no_node_reads_another(broker: Broker, pki: Path) -> None:
    with console(broker, pki) as watcher, Client(broker, pki, "n01", "n01") as victim:
        victim.publish("limpet/n01/state", UP, retain=True)
        with Client(broker, pki, "n02", "n02") as spy:
            for topic in (
                "#",
                "+/#",
                "limpet/#",
                "limpet/+/cmd/#",
                "limpet/n01/#",
                "limpet/n01/state",
                "limpet/n02/#",
            ):
                spy.subscribe(topic)
            assert spy.subscribe("limpet/n02/cmd/#")
            victim.publish("limpet/n01/cmd/1", b"secret")
            victim.publish("limpet/n01/data", b"secret")
            watcher.until("limpet/n01/data", b"secret")
            spy.publish("limpet/n02/data", b"not for itself")
            spy.publish("limpet/n02/cmd/1", b"own")
            # Overlapping filters may deliver a message more than once (MQTT 3.1.1 §3.3.5).
            assert set(spy.until("limpet/n02/cmd/1", b"own")) <= {("limpet/n02/cmd/1", b"own")}


def test_a_new_client_gets_nothing_it_did_not_ask_for(broker: Broker, pki: Path) -> None:
    with console(broker, pki), Client(broker, pki, "n01", "n01") as other:
        other.publish("limpet/n01/state", UP, retain=True)
        with Client(broker, pki, "n02", "n02") as node:
            assert node.subscribe("limpet/n02/cmd/#")
            node.publish("limpet/n02/cmd/1", b"own")
            assert node.until("limpet/n02/cmd/1", b"own") == []


def test_console_writes_nothing(broker: Broker, pki: Path) -> None:
    with console(broker, pki) as watcher, Client(broker, pki, "n01", "n01") as node:
        for topic in ("limpet/n01/data", f"limpet/{CONSOLE}/data", "limpet/x"):
            watcher.send(topic, b"forged")
        node.publish("limpet/n01/data", b"own")
        assert watcher.until("limpet/n01/data", b"own") == []


def test_operator_writes_commands_alone(broker: Broker, pki: Path) -> None:
    with (
        console(broker, pki) as watcher,
        Client(broker, pki, "operator", OPERATOR) as operator,
        Client(broker, pki, "n01", "n01") as node,
    ):
        assert operator.subscribe("limpet/#") and node.subscribe("limpet/n01/cmd/#")
        for topic in ("limpet/n01/data", "limpet/n01/cmd", "limpet/n01/cmd/1/2", f"limpet/{OPERATOR}/state"):
            operator.send(topic, b"forged")
        operator.publish("limpet/n01/cmd/1", b"about")
        assert watcher.until("limpet/n01/cmd/1", b"about") == []
        assert node.next_message() == ("limpet/n01/cmd/1", b"about")
        node.publish("limpet/n01/rsp/1", b"{}")
        assert operator.until("limpet/n01/rsp/1", b"{}") == [("limpet/n01/cmd/1", b"about")]


# -- state and last will -----------------------------------------------------------------------------------


def test_retained_state_reaches_a_late_console(broker: Broker, pki: Path) -> None:
    with Client(broker, pki, "n01", "n01") as node:
        node.publish("limpet/n01/state", UP, retain=True)
        with console(broker, pki, "limpet/+/state") as late:
            assert late.next_message() == ("limpet/n01/state", UP)


KILLED = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from types import SimpleNamespace
from tests.host.mqtt_clients import Client
broker = SimpleNamespace(port={port})
with Client(broker, Path({pki!r}), "n01", "n01", will=("limpet/n01/state", {down!r})) as node:
    node.publish("limpet/n01/state", {up!r}, retain=True)
    print("up", flush=True)
    sys.stdin.read()
"""


def test_killed_node_leaves_its_will(broker: Broker, pki: Path) -> None:
    root = str(Path(__file__).parents[2])
    script = KILLED.format(root=root, port=broker.port, pki=str(pki), up=UP, down=DOWN)
    with (
        console(broker, pki, "limpet/n01/state") as watcher,
        subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as node,
    ):
        try:
            assert node.stdout is not None and node.stdout.readline() == b"up\n"
            assert watcher.next_message() == ("limpet/n01/state", UP)
            node.send_signal(signal.SIGKILL)
            assert watcher.next_message() == ("limpet/n01/state", DOWN)
        finally:
            node.kill()
    with console(broker, pki, "limpet/n01/state") as late:
        assert late.next_message() == ("limpet/n01/state", DOWN)


def test_orderly_end_leaves_no_will(broker: Broker, pki: Path) -> None:
    with console(broker, pki) as watcher:
        with Client(broker, pki, "n01", "n01", will=("limpet/n01/state", b"must not come")) as node:
            node.publish("limpet/n01/state", DOWN, retain=True)
        with Client(broker, pki, "n01", "n01") as node:
            node.publish("limpet/n01/data", b"marker")
        assert watcher.until("limpet/n01/data", b"marker") == [("limpet/n01/state", DOWN)]


def test_reconnect_ends_the_old_connection_first(broker: Broker, pki: Path) -> None:
    state = "limpet/n01/state"
    with (
        console(broker, pki, state) as watcher,
        Client(broker, pki, "n01", "n01", will=(state, b"old is down")) as old,
        Client(broker, pki, "n01", "n01", will=(state, b"new is down")) as new,
    ):
        new.publish(state, b"new is up", retain=True)
        assert watcher.until(state, b"new is up") == [(state, b"old is down")]
        assert old.gone.wait(DEADLINE)
    with console(broker, pki, state) as late:
        assert late.next_message() == (state, b"new is up")


def test_silent_client_is_dropped(broker: Broker, pki: Path) -> None:
    context = tls_context(pki / "ca.crt", pki / "n01.crt")
    with (
        console(broker, pki, "limpet/n01/state") as watcher,
        socket.create_connection(("localhost", broker.port), timeout=DEADLINE) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as silent,
    ):
        silent.sendall(connect_packet("n01", keep_alive=1, will=("limpet/n01/state", b"fell silent")))
        assert silent.recv(4) == b"\x20\x02\x00\x00"
        assert watcher.next_message() == ("limpet/n01/state", b"fell silent")


# -- rough company -----------------------------------------------------------------------------------------


def test_half_open_connections_do_no_harm(broker: Broker, pki: Path) -> None:
    context = tls_context(pki / "ca.crt", pki / "n02.crt")
    sockets = [socket.create_connection(("localhost", broker.port), timeout=DEADLINE) for _ in range(30)]
    try:
        for i, plain in enumerate(sockets[:20]):
            # The beginning of a ClientHello, nothing at all, or noise.
            plain.sendall((b"\x16\x03\x01\x02\x00\x01\x00", b"", os.urandom(40))[i % 3])
        # A handshake without a CONNECT packet after it.
        sockets[20:] = [context.wrap_socket(plain, server_hostname="localhost") for plain in sockets[20:]]
        with console(broker, pki) as watcher, Client(broker, pki, "n01", "n01") as node:
            node.publish("limpet/n01/data", b"through")
            assert watcher.next_message() == ("limpet/n01/data", b"through")
    finally:
        for plain in sockets:
            plain.close()
    assert broker.alive


def test_oversized_packet_is_refused(broker: Broker, pki: Path) -> None:
    with console(broker, pki) as watcher:
        with Client(broker, pki, "n01", "n01") as node:
            node.send("limpet/n01/data", bytes(100_000))
            assert node.gone.wait(DEADLINE)
        with Client(broker, pki, "n01", "n01") as node:
            node.publish("limpet/n01/data", b"marker")
        assert watcher.until("limpet/n01/data", b"marker") == []


def test_packet_below_the_limit_passes(broker: Broker, pki: Path) -> None:
    with console(broker, pki) as watcher, Client(broker, pki, "n01", "n01") as node:
        node.publish("limpet/n01/data", bytes(60_000))
        watcher.until("limpet/n01/data", bytes(60_000))


# -- start and end -----------------------------------------------------------------------------------------


def is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE).close()
    except ConnectionError:
        return False
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_stop_leaves_nothing(kind: Kind, pki: Path) -> None:
    broker = start_broker(pki, prefer=kind)
    folder = broker.log.parent
    assert is_listening(broker.port) and folder.exists()
    broker.stop()
    broker.stop()
    assert not broker.alive
    assert not is_listening(broker.port)
    assert not folder.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_for_their_owner_alone(kind: Kind, pki: Path, tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        with start_broker(pki, prefer=kind, run_folder=tmp_path / "run"):
            modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "run").iterdir()}
            assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(umask)
    assert modes and set(modes.values()) == {0o600}, modes
    assert (tmp_path / "run" / "broker.log").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_busy_port(kind: Kind, pki: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(LimpetError, match=f"Port {port} of 127.0.0.1 is busy"):
            start_broker(pki, port=port, prefer=kind)


STARTER = """
import sys
from pathlib import Path
from host_tools.broker import start_broker
broker = start_broker(Path(sys.argv[1]), prefer=sys.argv[2], run_folder=Path(sys.argv[3]))
print(broker.port, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("kind", KINDS)
def test_broker_dies_with_its_starter(kind: Kind, pki: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTER, str(pki), kind, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as starter:
        try:
            assert starter.stdout is not None
            port = int(starter.stdout.readline())
            assert is_listening(port)
        finally:
            starter.kill()
    deadline = time.monotonic() + DEADLINE
    while is_listening(port):
        assert time.monotonic() < deadline, "the broker outlived its starter"
        time.sleep(0.05)


def broken(pki: Path, folder: Path, **replaced: bytes) -> Path:
    """A copy of the authority's folder in which files are replaced; dots in names are written as '_'."""
    folder.mkdir()
    for name in ("ca.crt", "broker.crt", "broker.key"):
        content = replaced.get(name.replace(".", "_"), (pki / name).read_bytes())
        if content:
            (folder / name).write_bytes(content)
    return folder


def test_broken_files_are_named(pki: Path, tmp_path: Path) -> None:
    authority = Authority.load(pki)
    authority.issue_broker(["localhost"], now=LONG_AGO).save(tmp_path, "old")
    stranger = (pki / "stranger" / "ca.crt").read_bytes()
    old_key, old_certificate = (tmp_path / "old.key").read_bytes(), (tmp_path / "old.crt").read_bytes()
    cases = {
        "no certificate": ({"broker_crt": b""}, "broker.crt cannot be read"),
        "no key": ({"broker_key": b""}, "broker.key cannot be read"),
        "no authority": ({"ca_crt": b""}, "ca.crt cannot be read"),
        "junk key": ({"broker_key": b"junk"}, "broker.key is not an unencrypted private key"),
        "junk certificate": ({"broker_crt": b"junk"}, "broker.crt is not a certificate"),
        "other key": ({"broker_key": old_key}, "do not belong together"),
        "other authority": ({"ca_crt": stranger}, "was not issued by"),
        "expired": ({"broker_key": old_key, "broker_crt": old_certificate}, "expired on 2022-04-04"),
    }
    for name, (replaced, text) in cases.items():
        with pytest.raises(LimpetError, match=text):
            start_broker(broken(pki, tmp_path / name, **replaced), prefer="embedded")


def test_unusable_settings_are_named(pki: Path, tmp_path: Path) -> None:
    cases: list[tuple[dict[str, object], str]] = [
        ({"port": 65536}, "port 65536 is not valid"),
        ({"port": -1}, "port -1 is not valid"),
        ({"address": "203.0.113.1"}, "cannot listen on '203.0.113.1'"),
        ({"address": "nosuch.invalid"}, "cannot listen on"),
        ({"address": "127.0.0.1\nallow_anonymous true"}, "cannot listen on"),
        ({"prefix": ""}, "topic prefix '' is not valid"),
        ({"prefix": "a/#"}, "is not valid"),
        ({"prefix": "/a"}, "is not valid"),
        ({"prefix": "a\nuser x"}, "is not valid"),
        ({"prefix": "$SYS"}, "is not valid"),
        ({"consoles": ["+"]}, "console name"),
        ({"run_folder": pki / "ca.crt" / "run"}, "cannot be made"),
    ]
    for options, text in cases:
        with pytest.raises(LimpetError, match=text):
            start_broker(pki, prefer="embedded", **options)  # type: ignore[arg-type]
