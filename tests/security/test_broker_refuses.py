"""Promise 3, the broker's half: which clients Mosquitto lets in, by their certificates alone."""

import contextlib
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from host_tools.broker import wire
from host_tools.broker.mosquitto import find_executable
from host_tools.ca import CertificateAuthority
from host_tools.errors import LimpetError
from host_tools.pki.credential import Credential
from tests.security.forged import MONTH, YEARS, Hierarchy, below, changed, new_key, self_signed
from tests.security.ground import Mosquitto, hierarchy, mosquitto, new_authority, unlock

pytestmark = pytest.mark.skipif(not find_executable(), reason="Mosquitto is not installed")

NODE = "n01"
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
DEADLINE = 20.0


@dataclass
class Place:
    authority: CertificateAuthority
    signs: Hierarchy
    broker: Mosquitto
    folder: Path

    def comes_in(self, credential: Credential | None, version: ssl.TLSVersion, name: str = NODE) -> bool:
        """Whether a client with this credential gets a CONNACK that says yes."""
        context = ssl.create_default_context(cafile=str(self.authority.folder.trusted))
        context.minimum_version = context.maximum_version = version
        if credential:
            credential.save(self.folder, "client")
            context.load_cert_chain(self.folder / "client.crt", self.folder / "client.key")
        with (
            contextlib.suppress(ssl.SSLError, ConnectionError),
            socket.create_connection(("127.0.0.1", self.broker.port), DEADLINE) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            tls.sendall(wire.connect(name))
            answer = wire.receive(tls)
            return answer is not None and answer.kind == wire.CONNACK and answer.body[1] == 0
        return False


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("refuses")
    with (
        CertificateAuthority.open(new_authority(folder), unlock()) as authority,
        mosquitto(authority, folder / "broker") as running,
    ):
        yield Place(authority, hierarchy(authority), running, folder)


def request(name: str) -> tuple[ec.EllipticCurvePrivateKey, bytes]:
    """A new key, and its request (DER) for a certificate of this name."""
    key = new_key()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)] if name else [])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return key, made.public_bytes(Encoding.DER)


def issued(authority: CertificateAuthority, node_id: str) -> Credential:
    """A node's credential as the authority issues it."""
    key, csr = request(node_id)
    found = authority.issue_node(csr, node_id)
    chain = tuple(map(x509.load_der_x509_certificate, authority.chain))
    return Credential(key, found.certificate, chain)


WRONG = {
    "none": lambda signs: None,
    "unknown authority": lambda signs: Hierarchy.create().node(NODE),
    "self-signed": lambda signs: self_signed(signs.node(NODE)),
    "expired": lambda signs: signs.node(NODE, later=-YEARS),
    "not yet valid": lambda signs: signs.node(NODE, later=MONTH),
    "a server's usage": lambda signs: changed(
        signs.node(NODE), signs.issuing, usage=ExtendedKeyUsageOID.SERVER_AUTH
    ),
    "a broker's certificate": lambda signs: signs.broker("localhost"),
    "signed by a node": lambda signs: below(signs.node("n02"), signs.node(NODE)),
    "signed by a broker": lambda signs: below(signs.broker("localhost"), signs.node(NODE)),
    "an authority too deep": lambda signs: below(signs.issuing_below(), signs.node(NODE)),
}
"""A client's credentials, each like a node's but for one thing."""


@pytest.mark.parametrize("version", VERSIONS)
def test_the_right_node_is_accepted(place: Place, version: ssl.TLSVersion) -> None:
    assert place.comes_in(issued(place.authority, f"right-{version}"), version)
    assert place.comes_in(place.signs.node(NODE), version), "what the wrong ones are copies of"
    renewed = changed(place.signs.node(NODE), place.signs.issuing)
    assert place.comes_in(renewed, version), "a copy is as good"


@pytest.mark.security(
    3, "IEC 62443-4-2 CR 1.8", "IEC 62443-4-2 CR 1.2", "IEC 62443-4-2 CR 1.9", "ETSI EN 303 645 5.5-1"
)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("wrong", WRONG)
def test_the_broker_refuses_a_client(place: Place, wrong: str, version: ssl.TLSVersion) -> None:
    """Mosquitto refuses a client without a certificate, and one whose certificate is from an unknown
    authority, self-signed, out of date, for servers, signed by a leaf, or below an authority too many."""
    assert not place.comes_in(WRONG[wrong](place.signs), version)


@pytest.mark.security(3, "IEC 62443-4-2 CR 1.8", "IEC 62443-4-2 CR 1.5", "ETSI EN 303 645 5.5-5")
def test_the_broker_refuses_who_is_revoked(place: Place) -> None:
    """A node that came in is refused as soon as the authority has revoked it; another still comes in."""
    bad, good = issued(place.authority, "n08"), issued(place.authority, "n09")
    for version in VERSIONS:
        assert place.comes_in(bad, version, "n08") and place.comes_in(good, version, "n09")
    place.authority.revoke("n08", "key-compromise")
    place.broker.take_lists(place.authority)
    for version in VERSIONS:
        assert not place.comes_in(bad, version, "n08")
        assert place.comes_in(good, version, "n09")


@pytest.mark.security(3, "IEC 62443-4-2 CR 1.4", "IEC 62443-4-2 CR 1.8")
@pytest.mark.parametrize(
    "name", ["limpet.operator", "limpet.console", "+", "#", "n01/cmd", "-n01", "", "ñ01", "n" * 33, "n01\x00"]
)
def test_the_authority_signs_no_name_but_a_nodes(place: Place, name: str) -> None:
    """The authority signs no request for the name of an operator or a console, for a wildcard, for part of a
    topic, or for a name that is another's."""
    before = place.authority.state.n
    _, csr = request(name)
    for node_id in (name, "n20"):
        with pytest.raises(LimpetError):
            place.authority.issue_node(csr, node_id)
    assert place.authority.state.n == before, "nothing was written, so nothing was issued"


def test_a_request_that_is_right_is_signed(place: Place) -> None:
    _, csr = request("n20")
    assert place.authority.issue_node(csr, "n20").node_id == "n20"
