"""What can be seen of TLS from outside: between real clients and a real Mosquitto, and in bytes at random."""

import contextlib
import random
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from host_tools.broker import mosquitto
from host_tools.hil.authority import RunAuthority
from host_tools.hil.broker import Witness
from host_tools.hil.link import Link
from host_tools.hil.timeline import Timeline
from host_tools.hil.tls_seen import Flight, Handshake, Handshakes, shown
from host_tools.pki.partition import Identity
from host_tools.virtual.link import Connection
from tests.host.hil_player import Named, Player, pem_files
from tests.host.mqtt_clients import Refused
from tests.host.test_identity_tls import ACCEPTED, connect

pytestmark = pytest.mark.skipif(
    mosquitto.find_executable() is None, reason="Mosquitto is not installed: install the package `mosquitto`"
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> RunAuthority:
    return RunAuthority(tmp_path_factory.mktemp("authority") / "pki")


@pytest.fixture(scope="module")
def witness(authority: RunAuthority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Witness]:
    with Witness(tmp_path_factory.mktemp("witness"), authority, Timeline()) as witness:
        yield witness


@pytest.fixture(scope="module")
def link(witness: Witness) -> Iterator[Link]:
    with Link(Timeline()) as link:
        link.lead_to(witness)
        yield link


def seen(witness: Witness, ask: Any) -> Handshake:
    """The one handshake that `ask` makes."""
    known = len(witness.handshakes())
    ask()
    [new] = witness.handshakes()[known:]
    witness.wait_for(lambda: new.connection.end, "the end of the connection")
    return new


def shake_hands(
    link: Link, folder: Path, authority: RunAuthority, identity: Identity | None, version: ssl.TLSVersion
) -> None:
    context = ssl.create_default_context(cafile=str(authority.ca))
    context.minimum_version = context.maximum_version = version
    if identity:
        certificate = pem_files(identity, folder, "client")
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", link.port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as tls,
    ):
        tls.settimeout(20)
        tls.sendall(b"\xe0\x00")  # DISCONNECT
        tls.recv(1)


def test_a_nodes_certificate(witness: Witness, link: Link, authority: RunAuthority, tmp_path: Path) -> None:
    """MicroPython's: that is what a node speaks."""
    first, second = authority.identity("n01"), authority.identity("n01")
    for identity in (first, second):
        said: list[str] = []
        handshake = seen(witness, lambda: said.extend(connect(identity, link.port, tmp_path, "localhost")))  # noqa: B023
        assert said == [ACCEPTED]
        assert (handshake.client.chain, handshake.server.version) == ([*identity.chain], "TLS 1.2")
        assert not (handshake.client.alerts or handshake.server.alerts)
    ders = [each.public_bytes(Encoding.DER) for each in witness.certificates(Named("n01"))]
    assert ders == [first.chain[0], second.chain[0]]
    assert witness.certificates(Named("n10")) == []
    server = shown(handshake.server)
    assert server is not None
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "localhost" in names.get_values_for_type(x509.DNSName)


def test_why_a_node_gives_up(witness: Witness, link: Link, authority: RunAuthority, tmp_path: Path) -> None:
    identity = authority.identity("n02", "wrong-trust")
    handshake = seen(witness, lambda: connect(identity, link.port, tmp_path, "localhost"))
    assert handshake.client.alerts == ["unknown CA"]
    assert handshake.client.chain == [] and shown(handshake.server) is not None


@pytest.mark.parametrize(
    ("kind", "alert"),
    [
        ("expired", "certificate expired"),
        ("not-yet-valid", "bad certificate"),
        ("wrong-usage", "unsupported certificate"),
        ("unknown-ca", "unknown CA"),
    ],
)
def test_why_the_broker_gives_up(
    witness: Witness, link: Link, authority: RunAuthority, tmp_path: Path, kind: Any, alert: str
) -> None:
    identity = authority.identity("n03", kind)
    version = ssl.TLSVersion.TLSv1_2
    handshake = seen(witness, lambda: shake_hands(link, tmp_path, authority, identity, version))
    assert (handshake.server.alerts, handshake.client.chain[:1]) == ([alert], [*identity.chain])


def test_tls_1_3_shows_its_version_alone(
    witness: Witness, link: Link, authority: RunAuthority, tmp_path: Path
) -> None:
    version = ssl.TLSVersion.TLSv1_3
    handshake = seen(
        witness, lambda: shake_hands(link, tmp_path, authority, authority.identity("n04"), version)
    )
    assert handshake.server == Flight("TLS 1.3") and handshake.client == Flight()


def test_a_client_without_a_certificate(
    witness: Witness, link: Link, authority: RunAuthority, tmp_path: Path
) -> None:
    handshake = seen(witness, lambda: shake_hands(link, tmp_path, authority, None, ssl.TLSVersion.TLSv1_2))
    assert handshake.client.chain == [] and shown(handshake.client) is None
    assert handshake.server.alerts == ["handshake failure"]


def test_a_revoked_node_on_the_wire(
    witness: Witness, link: Link, authority: RunAuthority, tmp_path: Path
) -> None:
    """Over the link, as a rig has it; the witness is the same after its restart."""
    identity = authority.identity("n05")
    with Player(link, tmp_path, identity) as player:
        player.measure(0)
        witness.revoke(player)
    version = ssl.TLSVersion.TLSv1_2
    handshake = seen(witness, lambda: shake_hands(link, tmp_path, authority, identity, version))
    assert handshake.server.alerts == ["certificate revoked"]
    with pytest.raises((Refused, OSError)), Player(link, tmp_path, identity):
        pass


# Bytes

CERTIFICATES = b"\x0b\x00\x00\x0c\x00\x00\x09\x00\x00\x03abc\x00\x00\x00"
ALERT = b"\x15\x03\x03\x00\x02\x02\x30"


def record(kind: int, body: bytes) -> bytes:
    return bytes((kind, 3, 3)) + len(body).to_bytes(2, "big") + body


def test_messages_are_found_however_they_are_cut() -> None:
    stream = b"".join(record(22, CERTIFICATES[at : at + 5]) for at in range(0, len(CERTIFICATES), 5)) + ALERT
    for size in range(1, len(stream)):
        flight = Flight()
        for at in range(0, len(stream), size):
            flight.feed(stream[at : at + size])
        assert flight == Flight("", [b"abc", b""], ["unknown CA"])


def test_nothing_is_looked_at_once_it_is_encrypted() -> None:
    for kind in (20, 23):
        flight = Flight()
        flight.feed(record(kind, b"\x01") + ALERT)
        flight.feed(record(22, CERTIFICATES))
        assert flight == Flight()


def test_an_encrypted_or_unknown_alert() -> None:
    flight = Flight()
    flight.feed(record(21, b"\x02\xc8") + record(21, bytes(26)) + ALERT)
    assert flight.alerts == ["alert 200"]


def test_no_bytes_can_do_harm() -> None:
    dice = random.Random(7)
    for _ in range(2000):
        flight = Flight()
        for _ in range(dice.randrange(1, 5)):
            body = bytes((dice.choice((2, 11)), 0, 0, dice.randrange(60))) + dice.randbytes(
                dice.randrange(60)
            )
            flight.feed(record(dice.choice((21, 22)), body) if dice.random() < 0.8 else dice.randbytes(20))
        shown(flight)
    endless = Flight()
    for _ in range(70):
        endless.feed(record(22, b"\x0b\xff\xff\xff" + bytes(1000)))
    endless.feed(ALERT)
    assert endless.alerts == [] and shown(Flight(chain=[b"no certificate"])) is None


def test_each_connection_is_a_handshake_of_its_own() -> None:
    handshakes = Handshakes()
    one, other = Connection(), Connection()
    handshakes.tap(one, "up", record(22, CERTIFICATES))
    handshakes.tap(other, "down", ALERT)
    handshakes.tap(one, "down", ALERT)
    first, second = handshakes.all()
    assert first.connection is one and second.connection is other
    assert (len(first.client.chain), first.server.alerts) == (2, ["unknown CA"])
    assert (second.client.chain, second.server.alerts) == ([], ["unknown CA"])
