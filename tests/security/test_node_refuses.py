"""Promise 3, the node's half: which brokers the firmware talks to, by their certificates alone."""

import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from host_tools.broker.mosquitto import find_executable
from host_tools.pki.credential import Credential
from host_tools.pki.partition import Identity
from tests.host.stand import BME280_SPEC, Stand
from tests.security.forged import MONTH, YEARS, Hierarchy, below, changed, self_signed
from tests.security.wire import Behaviour, Conversation, Tap

pytestmark = pytest.mark.skipif(not find_executable(), reason="Mosquitto is not installed")

NAME = "localhost"
RIGHT = "right"
COMPLAINTS = {
    "unknown authority": "not correctly signed by the trusted CA",
    "self-signed": "not correctly signed by the trusted CA",
    "expired": "validity has expired",
    "not yet valid": "validity starts in the future",
    "another host": "does not match with the expected CN",
    "another host's address": "does not match with the expected CN",
    "a client's usage": "BAD_CERTIFICATE",
    "a node's certificate": "does not match with the expected CN",
    "signed by a node": "not correctly signed by the trusted CA",
    "signed by a broker": "not correctly signed by the trusted CA",
    "an authority too deep": "not correctly signed by the trusted CA",
    "without the authority between": "not correctly signed by the trusted CA",
}
"""What is wrong with a broker, and what the TLS library of the node says of it."""


def bad_brokers(authority: Hierarchy) -> dict[str, Credential]:
    """Each like the right one but for one thing."""
    right = authority.broker(NAME)
    deep = authority.issuing_below()
    return {
        "unknown authority": Hierarchy.create().broker(NAME),
        "self-signed": self_signed(right),
        "expired": authority.broker(NAME, later=-YEARS),
        "not yet valid": authority.broker(NAME, later=MONTH),
        "another host": authority.broker("another.example"),
        "another host's address": authority.broker("127.0.0.1"),
        "a client's usage": changed(right, authority.issuing, usage=ExtendedKeyUsageOID.CLIENT_AUTH),
        "a node's certificate": authority.node(NAME),
        "signed by a node": below(authority.node("n02"), right),
        "signed by a broker": below(right, authority.broker(NAME)),
        "an authority too deep": below(deep, right),
        "without the authority between": replace(right, chain=()),
    }


def answers(credential: Credential, folder: Path, said: list[bytes]) -> Behaviour:
    """A broker with this certificate, which hangs up when a node has said something to it inside TLS."""
    credential.save(folder, "it")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "it.crt", folder / "it.key")

    def behave(conversation: Conversation) -> None:
        with (
            contextlib.suppress(ssl.SSLError),
            context.wrap_socket(conversation.sock, server_side=True) as tls,
        ):
            said.append(tls.recv(65536))

    return behave


@pytest.fixture(scope="module")
def met(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[bytes, str]]]:
    """What a node said to each broker inside TLS, and noted of it. It met the right one first and last."""
    folder = tmp_path_factory.mktemp("met")
    authority = Hierarchy.create()
    brokers = {RIGHT: authority.broker(NAME), **bad_brokers(authority), "right again": authority.broker(NAME)}
    said: dict[str, list[bytes]] = {name: [] for name in brokers}
    with contextlib.ExitStack() as stack:
        stand = stack.enter_context(Stand(folder, "mosquitto"))
        taps = {
            name: stack.enter_context(Tap(answers(each, folder / f"broker {name}", said[name])))
            for name, each in brokers.items()
        }
        known = [{"host": "127.0.0.1", "port": tap.port, "name": NAME} for tap in taps.values()]
        # The stand's own broker comes last: when its console hears the node, all others have been met.
        known.append({"host": "127.0.0.1", "port": stand.broker.port, "name": NAME})
        mine = stand.authority.issue_node("n01")
        root = authority.root.certificate.public_bytes(Encoding.DER)
        identity = Identity(mine.node_id, mine.key, mine.chain, (root, *mine.cas))
        node = stand.node(stand.settings(BME280_SPEC, brokers=known), identity=identity).start()
        stand.wait_for_readings(node, 1)
        notes = node.log.split("uplink: ")
        yield {
            name: (b"".join(said[name]), " ".join(note for note in notes if f":{tap.port}:" in note))
            for name, tap in taps.items()
        }


def test_the_right_broker_is_accepted(met: dict[str, tuple[bytes, str]]) -> None:
    for name in (RIGHT, "right again"):
        said, note = met[name]
        assert said.startswith(b"\x10") and b"MQTT" in said, note


@pytest.mark.security(
    3, "IEC 62443-4-2 CR 1.8", "IEC 62443-4-2 CR 1.2", "IEC 62443-4-2 CR 3.1 RE 1", "ETSI EN 303 645 5.5-1"
)
@pytest.mark.parametrize("wrong", COMPLAINTS)
def test_a_node_refuses_a_broker(met: dict[str, tuple[bytes, str]], wrong: str) -> None:
    """A node refuses a broker whose certificate is from an unknown authority, self-signed, out of date, for
    another host, for clients, signed by a leaf, or below an authority too many."""
    said, note = met[wrong]
    assert said == b"", f"the node talked to a broker that it must refuse: {wrong}"
    assert COMPLAINTS[wrong] in note
