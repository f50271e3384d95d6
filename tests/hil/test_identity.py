"""Who the node is, to whom it talks, and who lets it in."""

import base64
import hashlib
import socketserver
import threading
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_private_key

from host_tools.hil.authority import NodeKind, ServerKind
from host_tools.hil.broker import Witness
from host_tools.hil.link import Link
from host_tools.hil.node import Node
from host_tools.pki import partition
from host_tools.pki.partition import SLOT_SIZE, Identity
from host_tools.telemetry.event import Remark
from host_tools.virtual.link import Connection, Way


def own(node: Node) -> Identity:
    """The identity that was installed on the node."""
    return partition.decode(node.image.identity).identity


def newer(node: Node, broker: Witness) -> tuple[Identity, bytes]:
    """Another good identity of this node, and the slot that makes it the newer one."""
    identity = partition.decode(broker.fresh_identity(node.id)).identity
    return identity, partition.encode_slot(identity, 2)


def fingerprint(identity: Identity) -> str:
    return hashlib.sha256(identity.chain[0]).hexdigest()


def wait_for_remark(broker: Witness, node: Node, text: str) -> Remark:
    """Wait until the node has told that as an event."""

    def told() -> Remark | None:
        found = (each for each in broker.events(node) if isinstance(each, Remark))
        return next((each for each in found if text in each.text), None)

    return broker.wait_for(told, f"the event '{text}'")


def assert_tells_nothing(broker: Witness, link: Link, known: int, attempts: int = 2) -> None:
    """So many connections beyond those that are known come to nothing, and not one byte of MQTT leaves."""

    def enough() -> bool:
        new = link.connections[known:]
        ended = [each for each in new if each.down.bytes and each.end == "closed"]
        return len(ended) >= attempts or any(each.up.records for each in new)

    broker.wait_for(enough, f"{attempts} connections that come to nothing")
    assert [each.up.records for each in link.connections[known:] if each.up.records] == []


def test_the_broker_sees_exactly_the_nodes_certificate(node: Node, broker: Witness) -> None:
    assert [each.client.chain for each in broker.handshakes()] == [list(own(node).chain)]
    about = broker.about(node)
    assert about and about["certificate"] == fingerprint(own(node))
    assert [each.client for each in broker.connections(node)] == [about["node"]] == [node.id]


# Brokers that are not ours


@pytest.mark.parametrize("kind", ["expired", "not-yet-valid", "wrong-name", "wrong-usage", "unknown-ca"])
def test_a_broker_with_a_wrong_certificate_is_told_nothing(
    node: Node, broker: Witness, link: Link, kind: ServerKind
) -> None:
    known = len(link.connections)
    broker.present(kind)
    assert_tells_nothing(broker, link, known)


def test_what_a_wrong_broker_was_not_told_the_right_one_hears(
    node: Node, broker: Witness, link: Link
) -> None:
    known = len(link.connections)
    broker.present("expired")
    node.run_for(2)
    assert_tells_nothing(broker, link, known)
    broker.present("good")
    assert broker.readings(node).without_gaps()


class PlainBroker(socketserver.ThreadingTCPServer):
    """It knows nothing of TLS, and lets in everybody who comes. A link can lead there."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Welcome)
        self.heard: dict[int, bytes] = {}
        """What each connection said."""

    @property
    def target(self) -> tuple[str, int]:
        return "127.0.0.1", self.server_address[1]

    def tap(self, connection: Connection, way: Way, data: bytes) -> None:
        if way == "up":
            self.heard[id(connection)] = self.heard.get(id(connection), b"") + data


class _Welcome(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(b"\x20\x02\x00\x00\x90\x03\x00\x01\x01")  # CONNACK, SUBACK
        while self.request.recv(4096):
            pass


@pytest.fixture
def plain() -> Iterator[PlainBroker]:
    with PlainBroker() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


def test_without_tls_nothing_is_said_at_all(
    node: Node, broker: Witness, link: Link, plain: PlainBroker
) -> None:
    link.lead_to(plain)
    link.reset()
    broker.wait_for(lambda: len(plain.heard) > 2, "a third attempt")
    assert all(each.startswith(b"\x16\x03") for each in plain.heard.values()), "a handshake of TLS"
    assert not any(b"MQTT" in each for each in plain.heard.values())
    link.lead_to(broker)
    assert broker.readings(node).without_gaps()


def test_a_broker_that_says_nothing_is_given_up(node: Node, broker: Witness, link: Link) -> None:
    """It takes the connection, and TLS does not begin."""
    broker.pause()
    known = len(link.connections)
    node.reset()
    broker.wait_for(lambda: len(link.connections) > known + 1, "a second attempt")
    broker.resume()
    assert broker.readings(node).without_gaps()


# Nodes that may not come in


@pytest.mark.parametrize(
    "kind", ["expired", "not-yet-valid", "wrong-usage", "wrong-key", "unknown-ca", "wrong-trust"]
)
def test_a_node_with_a_wrong_identity_stays_out(
    node: Node, broker: Witness, link: Link, kind: NodeKind
) -> None:
    """By the broker's refusal; by its own where it trusts another authority than the broker's."""
    node.provision(identity=broker.fresh_identity(node.id, kind))
    known = len(link.connections)
    assert_tells_nothing(broker, link, known)
    assert len(broker.connections(node)) == 1, "that of before"


def test_a_node_does_not_go_by_the_certificate_of_another(node: Node, broker: Witness, link: Link) -> None:
    """The broker would let it in as that one, and confirm what it then throws away."""
    node.provision(identity=broker.fresh_identity(node.id, "wrong-name"))
    known = len(link.connections)
    node.says("cannot start: the certificate of node is another node's")
    assert node.answers() == "-"
    assert link.connections[known:] == []


def test_who_is_revoked_is_out_at_once_and_for_good(node: Node, broker: Witness, link: Link) -> None:
    known = len(link.connections)
    broker.revoke(node)
    assert_tells_nothing(broker, link, known)
    known = len(link.connections)
    node.reset()
    assert_tells_nothing(broker, link, known)
    assert len(broker.connections(node)) == 1, "that of before"


def test_a_new_certificate_brings_a_revoked_node_back_with_its_backlog(node: Node, broker: Witness) -> None:
    broker.revoke(node)
    node.flash.write("identity", broker.fresh_identity(node.id))
    readings = broker.readings(node)
    assert readings.without_gaps() and len(readings.epochs) == 1


# Two identities


def test_a_newer_identity_takes_over_and_the_older_key_is_erased(node: Node, broker: Witness) -> None:
    old = node.image.identity[:SLOT_SIZE]
    identity, slot = newer(node, broker)
    node.provision(identity=old + slot)
    wait_for_remark(broker, node, "the new certificate works; the old one is erased")
    about = broker.about(node)
    assert about and about["certificate"] == fingerprint(identity)
    assert node.flash.read("identity") == b"\xff" * SLOT_SIZE + slot


def test_a_damaged_newer_identity_leaves_the_older_one_in_force(node: Node, broker: Witness) -> None:
    identity, slot = newer(node, broker)
    at = slot.index(identity.chain[0]) + len(identity.chain[0]) - 1  # in its signature
    damaged = slot[:at] + bytes([slot[at] ^ 1]) + slot[at + 1 :]
    node.provision(identity=node.image.identity[:SLOT_SIZE] + damaged)
    node.says("identity: slot 1: CRC mismatch; the other slot counts")
    wait_for_remark(broker, node, "slot 1: CRC mismatch; the other slot counts")
    assert broker.certificates(node)[-1].fingerprint(hashes.SHA256()).hex() != fingerprint(identity)


# The key


def test_the_private_key_is_told_to_nobody(node: Node, broker: Witness, link: Link) -> None:
    key = load_der_private_key(own(node).key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    secret = key.private_numbers().private_value.to_bytes(32, "big")
    ear = Ear(broker)
    link.lead_to(ear)
    node.log.write(b"\x03")  # to be told in a traceback what it is at
    node.says("KeyboardInterrupt")
    node.reset()
    answers = [broker.command(node, each) for each in ("identity", "key same", "health", "key", "put 0 x")]
    told = node.log.text + repr(
        (answers, broker.about(node), broker.states(node), broker.health(node), broker.events(node))
    )
    assert "csr" in told
    assert [each for each in written(secret) if each in told] == []
    assert own(node).chain[0] in ear.heard and secret not in ear.heard


class Ear:
    """Between a link and the broker: hears every byte."""

    def __init__(self, broker: Witness) -> None:
        self._tap = broker.tap
        self.target = broker.target
        self.heard = bytearray()

    def tap(self, connection: Connection, way: Way, data: bytes) -> None:
        self.heard += data
        self._tap(connection, way, data)


def written(secret: bytes) -> list[str]:
    """A secret as it could be printed: in hexadecimal, Python's way, in base64 wherever it begins."""
    padded = [base64.b64encode(bytes(skip) + secret).decode()[skip + 1 : -4] for skip in range(3)]
    return [secret.hex(), secret.hex().upper(), repr(secret)[2:-1], str(list(secret))[1:-1], *padded]
