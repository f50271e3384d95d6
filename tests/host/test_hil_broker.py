"""The witness: a real Mosquitto over TLS, and players for nodes."""

import contextlib
import itertools
import socket
import ssl
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key

from host_tools.broker import mosquitto, start_broker, wire
from host_tools.errors import LimpetError, UsageError
from host_tools.hil import broker_log
from host_tools.hil.authority import NodeKind, RunAuthority, ServerKind
from host_tools.hil.blocked import Blocked
from host_tools.hil.broker import Witness
from host_tools.hil.console import Console
from host_tools.hil.heard import Heard
from host_tools.hil.timeline import Timeline
from host_tools.pki import partition
from host_tools.telemetry.event import Gap, Remark
from host_tools.telemetry.subscriber import Message
from tests.host.hil_player import Named, Player, pack
from tests.host.mqtt_clients import Refused, tls_context

NEEDS_MOSQUITTO = pytest.mark.skipif(
    mosquitto.find_executable() is None, reason="Mosquitto is not installed: install the package `mosquitto`"
)
NUMBERS = itertools.count(1)
_CONNECT_FLAGS = 9  # where they stand in the packet (MQTT 3.1.1 §3.1.2.3)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> RunAuthority:
    return RunAuthority(tmp_path_factory.mktemp("authority") / "pki")


@pytest.fixture(scope="module")
def timeline() -> Timeline:
    return Timeline()


@pytest.fixture(scope="module")
def witness(
    authority: RunAuthority, timeline: Timeline, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Witness]:
    with Witness(tmp_path_factory.mktemp("witness"), authority, timeline) as witness:
        yield witness


@pytest.fixture
def player(witness: Witness, authority: RunAuthority, tmp_path: Path) -> Player:
    """Not connected yet; each has a name of its own."""
    return Player(witness, tmp_path, authority.identity(f"n{next(NUMBERS)}"))


# What nodes told


@NEEDS_MOSQUITTO
def test_all_that_a_node_tells_is_there(witness: Witness, player: Player, timeline: Timeline) -> None:
    before = timeline.mark()
    assert (witness.state(player), witness.about(player), witness.retained(player, "state")) == (
        None,
        None,
        None,
    )
    assert not witness.readings(player, settle=None).without_gaps()
    with player:
        player.say("state", {"up": True, "boot": 7}, retain=True)
        player.say("about", {"firmware": "0.1.0"}, retain=True)
        player.say("health", {"heap_free": 130000})
        player.say("event", {"event": "gap", "epoch": "1a2b3c4d", "first": 2, "last": 2, "why": "full"})
        player.say("event", {"event": "spool", "text": "it is full"})
        player.measure(0, 1)
        player.measure(1, 3)
        readings = witness.wait_for_readings(player, 3)
        assert [each.seq for each in readings] == [0, 1, 3]
        assert (readings.lost, readings.duplicates, readings.holes[0].told) == (1, 1, 1)
        assert len(witness.wait_for_readings(player, 3, "bme280/temperature")) == 3
        assert len(witness.readings(player, "wind/speed", settle=None)) == 0
        assert witness.events(player) == [Gap("1a2b3c4d", 2, 2, "full"), Remark("spool", "it is full")]
        assert witness.about(player) == {"firmware": "0.1.0"}
        assert witness.health(player) == {"heap_free": 130000}
        assert witness.retained(player, "state") == witness.state(player) == {"up": True, "boot": 7}
        assert witness.retained(player, "health") is None
        assert witness.wills(player) == []
        player.vanish()
        assert witness.wait_for(lambda: witness.wills(player), "the will") == [{"up": False}]
    assert witness.states(player) == [{"up": True, "boot": 7}, {"up": False}]
    assert witness.retained(player, "state") == {"up": False}
    [session] = witness.connections(player)
    assert (session.client, session.clean, session.keepalive) == (player.id, True, 60)
    witness.wait_for(lambda: witness.connections(player)[0].end, "the end of the session in the log")
    data = [each for each in timeline.events(before) if each.text == f"limpet/{player.id}/data"]
    sizes = [len(pack(player.id, seqs, time.time())) for seqs in ((0, 1), (1, 3))]
    assert [(each.source, [*each.values]) for each in data] == [("broker", ["size"])] * 2
    assert all(abs(int(each.values["size"]) - size) <= 3 for each, size in zip(data, sizes, strict=True))


@NEEDS_MOSQUITTO
def test_readings_are_complete_when_one_of_now_has_come(witness: Witness, player: Player) -> None:
    """The backlog comes after the call, and a reading of now behind it."""

    def deliver() -> None:
        for seq in range(5):
            player.measure(seq, taken=began - 60 + seq)
        player.measure(5, taken=began + 3600)

    began = time.time()
    with player:
        player.measure(9, taken=began + 3600)  # dated later, but it came before the call
        witness.wait_for_readings(player, 1)
        backlog = threading.Timer(0.2, deliver)
        backlog.start()
        assert [each.seq for each in witness.readings(player)] == [9, 0, 1, 2, 3, 4, 5]
        backlog.join()


@NEEDS_MOSQUITTO
def test_readings_that_do_not_come_are_told(witness: Witness, player: Player) -> None:
    with pytest.raises(AssertionError, match=rf"no reading of {player.id} came .*; none has come at all"):
        witness.readings(player, settle=0.1)
    with player:
        player.measure(0, taken=time.time() - 60)
        witness.wait_for_readings(player, 1)
        with pytest.raises(AssertionError, match=r"was taken 60\.\d s before the call \(time: synced\)"):
            witness.readings(player, settle=0.1)
        timer = threading.Timer(
            0.1, lambda: player.say("data", pack(player.id, [1], time.time() + 60, tq="unknown"))
        )
        timer.start()
        with pytest.raises(AssertionError, match=r"after the call \(time: unknown\)"):
            witness.readings(player, settle=1)
        timer.join()
    with pytest.raises(AssertionError, match="not within 0 s: 9 readings of wind/speed"):
        witness.wait_for_readings(player, 9, "wind/speed", seconds=0.1)


@NEEDS_MOSQUITTO
def test_a_reading_of_now_is_one_by_the_time_that_nodes_are_told(
    authority: RunAuthority, tmp_path: Path
) -> None:
    now = 1e9
    with (
        Witness(tmp_path, authority, Timeline(), now=lambda: now) as witness,
        Player(witness, tmp_path, authority.identity("n01")) as player,
    ):
        threading.Timer(0.1, lambda: player.measure(0, taken=now + 1)).start()
        assert len(witness.readings(player)) == 1


@NEEDS_MOSQUITTO
@pytest.mark.parametrize("leaf", ["data", "event", "state"])
def test_what_is_malformed_is_not_passed_over(witness: Witness, player: Player, leaf: str) -> None:
    with player:
        player.say(leaf, b"[]")
        player.say("health", {})
        witness.wait_for(lambda: witness.health(player) is not None, "what was said last")
    asked = {"data": witness.wait_for_readings, "event": witness.events, "state": witness.state}[leaf]
    with pytest.raises(AssertionError, match=rf"{player.id}.* no "):
        cast(Any, asked)(player, *([1] if leaf == "data" else []))


@NEEDS_MOSQUITTO
def test_a_command_and_its_answer(witness: Witness, player: Player) -> None:
    def answer() -> None:
        topic, payload = player.next_message()
        assert payload == b"health"
        player.say(f"rsp/{topic.rpartition('/')[2]}", {"spool": 3})

    with player:
        assert player.subscribe(f"limpet/{player.id}/cmd/+")
        thread = threading.Thread(target=answer)
        thread.start()
        assert witness.command(player, "health") == {"spool": 3}
        thread.join()
        with pytest.raises(AssertionError, match=f"{player.id} does not answer the command 'put' within"):
            witness.command(player, b"put 0 \xff", seconds=0.2)


# Its life


@NEEDS_MOSQUITTO
def test_nothing_that_was_confirmed_is_missed_whatever_happens_to_the_broker(
    witness: Witness, authority: RunAuthority, tmp_path: Path
) -> None:
    """A node that comes back as soon as the port is open finds the console there."""
    identity = authority.identity(f"n{next(NUMBERS)}")
    node = Named(identity.node_id)
    port, stop, confirmed = witness.port, threading.Event(), list[int]()

    def publish() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError, Refused), Player(witness, tmp_path, identity) as player:
                while not stop.is_set() and player.send(
                    f"limpet/{node.id}/data", pack(node.id, [len(confirmed)])
                ):
                    confirmed.append(len(confirmed))

    def went_on() -> None:
        count = len(confirmed)
        witness.wait_for(lambda: len(confirmed) > count + 3, "more that is confirmed")

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        went_on()
        for trouble in (
            (witness.restart,),
            (witness.kill, witness.start),
            (lambda: witness.restart(forget=True),),
            (witness.pause, witness.resume),
        ):
            for each in trouble:
                each()
            assert witness.port == port
            went_on()
    finally:
        stop.set()
        thread.join()
    readings = witness.wait_for_readings(node, len(confirmed))
    assert readings.without_gaps()
    assert len(witness.connections(node)) >= 4


@NEEDS_MOSQUITTO
@pytest.mark.parametrize("forget", [False, True])
def test_what_waits_for_the_console_is_heard_when_the_broker_is_back(
    witness: Witness, authority: RunAuthority, player: Player, forget: bool
) -> None:
    """Somebody with the console's name takes its place, and reads nothing."""
    console = authority.console("witness")
    packet = bytearray(wire.connect("limpet.witness"))
    packet[_CONNECT_FLAGS] = 0  # keep the session
    with (
        socket.create_connection(witness.target, 20) as plain,
        tls_context(console.ca, console.certificate).wrap_socket(plain, server_hostname="localhost") as tls,
        player,
    ):
        tls.sendall(packet)
        assert wire.receive(tls) is not None
        for seq in range(9):
            player.measure(seq)
        assert len(witness.readings(player, settle=None)) == 0
    witness.restart(forget=forget)
    assert len(witness.readings(player, settle=None)) == 9


@NEEDS_MOSQUITTO
def test_a_restart_keeps_what_is_retained_unless_it_is_to_forget(witness: Witness, player: Player) -> None:
    with player:
        player.say("about", {"firmware": "0.1.0"}, retain=True)
        player.say("state", {"up": True}, retain=True)
    witness.wait_for(lambda: witness.connections(player)[0].end, "the end of its session")
    for end in (witness.stop, witness.kill):
        end()
        witness.start()
        assert witness.retained(player, "about") == {"firmware": "0.1.0"}
    assert witness.states(player) == [{"up": True}], "what is retained is no news"
    witness.restart(forget=True)
    assert witness.retained(player, "about") is None
    assert "New client connected" in witness.log and witness.log.count(" starting\n") >= 5


@NEEDS_MOSQUITTO
def test_what_is_said_meanwhile_is_not_retained(witness: Witness, player: Player) -> None:
    with player:
        stop = threading.Event()

        def talk() -> None:
            while not stop.is_set():
                player.say("health", {"uptime": 1})

        thread = threading.Thread(target=talk)
        thread.start()
        assert [witness.retained(player, "health") for _ in range(3)] == [None] * 3
        stop.set()
        thread.join()


@NEEDS_MOSQUITTO
def test_a_slow_console_hears_out_a_broker_that_has_ended(authority: RunAuthority, tmp_path: Path) -> None:
    came: list[Message] = []

    def slowly(message: Message) -> None:
        time.sleep(0.005)
        came.append(message)

    authority.server(["localhost"]).save(authority.folder, "broker")
    broker = start_broker(authority.folder, prefer="mosquitto", consoles=("limpet.slow",))
    with broker:
        console = Console(broker.port, authority.console("slow"), "limpet.slow", ("limpet/#",), slowly)
        console.start()
        with Player(broker, tmp_path, authority.identity("n01")) as player:
            for seq in range(50):
                player.measure(seq)
        broker.kill()
        console.hear_out()
    assert len(came) == 50


def test_what_the_broker_sends_again_counts_once() -> None:
    first, second = (Message("limpet/n01/data", pack("n01", [seq], 1e9), 1e9) for seq in range(2))
    heard = Heard("limpet")
    for message in (first, first, replace(first, again=True), replace(second, again=True)):
        heard.add(message)
    readings = heard.readings("n01")
    assert (len(readings), readings.duplicates) == (2, 1), "twice by the node, and again by the broker"


@NEEDS_MOSQUITTO
def test_a_paused_broker_keeps_connections_and_answers_nobody(witness: Witness, player: Player) -> None:
    with player:
        player.measure(0)
        witness.pause()
        assert witness.alive
        waiting = threading.Thread(target=player.measure, args=(1,))
        waiting.start()
        assert len(witness.readings(player, settle=None)) <= 1
        waiting.join(0.3)
        assert waiting.is_alive() and not player.gone.is_set()
        witness.resume()
        waiting.join()
        assert len(witness.wait_for_readings(player, 2)) == 2
    assert len(witness.connections(player)) == 1


@NEEDS_MOSQUITTO
def test_who_is_stopped_is_gone_and_may_be_stopped_again(authority: RunAuthority, tmp_path: Path) -> None:
    timeline = Timeline()
    with Witness(tmp_path, authority, timeline) as witness:
        witness.start()
        for end in (witness.stop, witness.kill):
            end()
            assert not witness.alive
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(witness.target)
            for ask in (witness.pause, witness.resume, lambda: witness.command(Named("n01"), "health")):
                with pytest.raises(UsageError, match="does not run: start it first"):
                    ask()
            witness.start()
        witness.pause()  # and so it is left
    assert not witness.alive
    assert witness.log.rstrip().count(" terminating\n") == 2, "the last time, too, in good order"
    happened = [event.text for event in timeline.events()]
    assert happened == ["started", "stopped", "started", "killed", "started", "paused", "stopped"]


def test_without_mosquitto_the_rig_is_blocked(
    authority: RunAuthority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(mosquitto, "_MORE_FOLDERS", ())
    with pytest.raises(Blocked, match="install the package `mosquitto`"):
        Witness(tmp_path, authority, Timeline()).start()


def test_an_address_of_another_machine(authority: RunAuthority, tmp_path: Path) -> None:
    with pytest.raises(
        LimpetError, match=r"cannot listen on '192\.0\.2\.1': it is no address of this machine"
    ):
        Witness(tmp_path, authority, Timeline(), address="192.0.2.1").start()


@NEEDS_MOSQUITTO
def test_at_every_address(authority: RunAuthority, tmp_path: Path) -> None:
    with Witness(tmp_path, authority, Timeline(), address="0.0.0.0") as witness:
        assert witness.target == ("127.0.0.1", witness.port)
        for address in ("127.0.0.1", "127.0.0.2"):
            socket.create_connection((address, witness.port)).close()


# Certificates

SERVERS: dict[ServerKind, str] = {
    "expired": "has expired",
    "not-yet-valid": "not yet valid",
    "wrong-name": "Hostname mismatch",
    "wrong-usage": "unsuitable certificate purpose|unsupported certificate purpose",
    "unknown-ca": "unable to get local issuer",
}


@NEEDS_MOSQUITTO
def test_each_wrong_certificate_that_it_can_present(
    witness: Witness, authority: RunAuthority, tmp_path: Path
) -> None:
    assert {*SERVERS, "good"} == set(get_args(ServerKind))
    port, node = witness.port, Named("another")
    context = tls_context(authority.ca, None)

    def shake_hands() -> None:
        with socket.create_connection(("127.0.0.1", port)) as plain:
            context.wrap_socket(plain, server_hostname=witness.name).close()

    for kind, complaint in SERVERS.items():
        witness.present(kind)
        with pytest.raises(ssl.SSLCertVerificationError, match=complaint):
            shake_hands()
        assert witness.retained(node, "state") is None, "the console still comes in"
        refused = witness.wait_for(witness.refusals, "what the broker says of it")
        assert "alert" in refused[-1]
    witness.present("good")
    shake_hands()
    assert witness.port == port
    with pytest.raises(UsageError, match="no certificate of the kind 'stale': use one of good, expired,"):
        witness.present(cast(Any, "stale"))
    assert witness.alive, "a mistake in a test changes nothing"


@NEEDS_MOSQUITTO
@pytest.mark.parametrize("kind", ["expired", "not-yet-valid", "wrong-usage", "unknown-ca"])
def test_a_node_with_a_wrong_certificate_is_refused(
    witness: Witness, authority: RunAuthority, tmp_path: Path, kind: NodeKind
) -> None:
    identity = authority.identity(f"n{next(NUMBERS)}", kind)
    known = len(witness.refusals())
    with pytest.raises((Refused, OSError)), Player(witness, tmp_path, identity):
        pass
    witness.wait_for(
        lambda: "certificate verify failed" in witness.refusals()[known:], "the refusal in the log"
    )
    assert witness.connections(Named(identity.node_id)) == []


@NEEDS_MOSQUITTO
def test_a_node_with_a_name_of_another_comes_in_as_that_one(
    witness: Witness, authority: RunAuthority, tmp_path: Path
) -> None:
    identity = authority.identity("n100", "wrong-name")
    assert identity.node_id == "n100"
    with Player(witness, tmp_path, identity) as player:
        player.measure(0)
        assert witness.connections(player) == []
        assert witness.connections(Named("another-node")) != []
        assert witness.retained(player, "state") is None
        assert len(witness.readings(player, settle=None)) == 0, "it may not write there"


def test_identities_that_do_not_fit(authority: RunAuthority, tmp_path: Path) -> None:
    trusted = authority.ca.read_bytes()

    def fits(kind: NodeKind) -> tuple[bool, bool]:
        identity = authority.identity("n01", kind)
        certificate = x509.load_der_x509_certificate(identity.chain[0])
        own = load_der_private_key(identity.key, None).public_key() == certificate.public_key()
        return own, ssl.DER_cert_to_PEM_cert(identity.cas[0]).strip() == trusted.decode().strip()

    assert [fits(kind) for kind in get_args(NodeKind)] == [
        (kind != "wrong-key", kind != "wrong-trust") for kind in get_args(NodeKind)
    ]
    with pytest.raises(UsageError, match="no certificate of the kind 'old'"):
        authority.identity("n01", cast(Any, "old"))
    for path in authority.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


@NEEDS_MOSQUITTO
def test_who_is_revoked_is_out_until_it_has_a_new_identity(
    witness: Witness, authority: RunAuthority, tmp_path: Path
) -> None:
    revoked, other = authority.identity("n201"), authority.identity("n202")
    with Player(witness, tmp_path, revoked) as player:
        witness.revoke(player)
        witness.wait_for(player.gone.is_set, "the end of its connection")
    known = len(witness.refusals())
    with pytest.raises((Refused, OSError)), Player(witness, tmp_path, revoked):
        pass
    assert witness.wait_for(lambda: witness.refusals()[known:], "the refusal") == [
        "certificate verify failed"
    ]
    for good in (other, partition.decode(witness.fresh_identity("n201")).identity):
        with Player(witness, tmp_path, good) as player:
            player.measure(0)
    (tmp_path / "second").mkdir()
    with (
        Witness(tmp_path / "second", authority, Timeline()) as another,
        Player(another, tmp_path, revoked) as player,
    ):
        player.measure(1)  # so nothing of a test is left for the next one's broker


# Its log


def test_sessions_and_refusals_in_a_log() -> None:
    log = """1795401612: mosquitto version 2.0.11 starting
1795401612: New client connected from 127.0.0.1:45440 as n01 (p2, c1, k60, u'n01').
1795401613: New client connected from 127.0.0.1:45442 as n02 (p2, c0, k10, u'n02').
1795401614: OpenSSL Error[0]: error:0A000126:SSL routines::unexpected eof while reading
1795401614: Client n01 closed its connection.
1795401615: New client connected from 127.0.0.1:45444 as n01 (p2, c0, k15, u'n01').
1795401630: Client n02 has exceeded timeout, disconnecting.
1795401640: OpenSSL Error[0]: error:1417C086:SSL routines:tls_process_it:certificate verify failed
1795401640: Client connection from 1.2.3.4 failed: error:0A000415:SSL routines::tlsv1 alert unknown ca.
1795401640: Client <unknown> disconnected: Protocol error.
1795401641: mosquitto version 2.0.11 starting
1795401642: Client n01 closed its connection.
half a li"""
    assert broker_log.sessions(log) == [
        broker_log.Session(1795401612, "n01", True, 60, "closed its connection"),
        broker_log.Session(1795401613, "n02", False, 10, "has exceeded timeout"),
        broker_log.Session(1795401615, "n01", False, 15),
    ]
    assert broker_log.refusals(log) == ["certificate verify failed", "tlsv1 alert unknown ca"]


def test_packets_in_a_log() -> None:
    log = """1795401612: Received PUBLISH from n01 (d0, q1, r1, m4, 'limpet/n01/state', ... (39 bytes))
1795401612: Sending PUBLISH to limpet.witness (d0, q1, r0, m2, 'limpet/n01/state', ... (39 bytes))
1795401612: Sending PUBACK to n01 (m4, rc0)
1795401612: Received PUBLISH from n01 (d0, q0, r0, m0, 'limpet/n01/health', ... (281 bytes))
1795401613: Received PUBLISH from n01 (d1, q1, r0, m65535, 'limpet/n01/data', ... (411 bytes))
1795401614: Received PUBLISH from n02 (d0, q1, r0, m1, 'limp"""
    assert broker_log.packets(log) == [
        broker_log.Packet(1795401612, "n01", 4, False, "limpet/n01/state"),
        broker_log.Packet(1795401613, "n01", 65535, True, "limpet/n01/data"),
    ]
