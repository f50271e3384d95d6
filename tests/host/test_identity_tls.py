"""The node's identity at work: MicroPython with `limpet.identity` against real brokers with mutual TLS."""

import contextlib
import datetime
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from cryptography.x509.oid import NameOID

from host_tools import micropython
from host_tools.broker import embedded, mosquitto
from host_tools.broker.acl import Access
from host_tools.broker.config import BrokerConfig
from host_tools.paths import FIRMWARE
from host_tools.pki.authority import Authority
from host_tools.pki.partition import Identity, encode

NEEDS_MOSQUITTO = pytest.mark.skipif(
    mosquitto.find_executable() is None, reason="Mosquitto is not installed: install the package `mosquitto`"
)
LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
DEADLINE = 60.0

# Reads the identity from a file, connects, and says how far it came.
NODE = """
import socket, sys
path, port, name, connections = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
from limpet import identity
class Flash:
    def readblocks(self, block, buffer, offset):
        with open(path, "rb") as file:
            file.seek(block * 4096 + offset)
            assert file.readinto(buffer) == len(buffer)
me = identity.read(Flash())
node_id = me.node_id.encode()
for i in range(connections):
    sock = socket.socket()
    sock.connect(socket.getaddrinfo("127.0.0.1", port)[0][-1])
    try:
        tls = me.context().wrap_socket(sock, server_hostname=name)
        assert (me.key, me.chain, me.cas) == (None, None, None)
        body = b"\\x00\\x04MQTT\\x04\\x02\\x00\\x3c" + bytes([0, len(node_id)]) + node_id
        tls.write(b"\\x10" + bytes([len(body)]) + body)
        print("CONNACK", tls.read(4))
        tls.close()
    except Exception as e:
        print(type(e).__name__, repr(str(e)))
    sock.close()
"""


@dataclass
class World:
    """A broker's authority and certificate files, and where they are."""

    authority: Authority
    folder: Path

    def config(self, ca: Path | None = None, stem: Path | None = None) -> BrokerConfig:
        """The broker's configuration, with another authority or another `stem` of certificate and key."""
        stem = stem or self.folder / "broker"
        certificate, key = stem.with_suffix(".crt"), stem.with_suffix(".key")
        return BrokerConfig("127.0.0.1", 0, Access(), ca or self.folder / "ca.crt", certificate, key)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("pki") / "ca"
    authority = Authority.create(folder)
    authority.issue_broker(["broker.plant.example", "127.0.0.1"]).save(folder, "broker")
    return World(authority, folder)


def other_authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "other")


@contextlib.contextmanager
def running(config: BrokerConfig, folder: Path, kind: str = "mosquitto") -> Iterator[int]:
    """A broker on `config` as it stands, unchecked: some of these tests want a bad one. Yields its port."""
    folder.mkdir()
    if kind == "embedded":
        process, port = embedded.start(config, folder)
    else:
        executable = mosquitto.find_executable()
        assert executable is not None
        process, port = mosquitto.start(executable, config, folder)
    try:
        yield port
    finally:
        process.stop()


def connect(
    identity: Identity, port: int, folder: Path, name: str = "broker.plant.example", connections: int = 1
) -> list[str]:
    """What the node says of its connections to `port`, where it expects a certificate with `name`."""
    flash, script = folder / "identity.bin", folder / "node.py"
    flash.write_bytes(encode(identity))
    script.write_text(NODE)
    done = subprocess.run(
        [*micropython.command(), str(script), str(flash), str(port), name, str(connections)],
        env=os.environ | {"MICROPYPATH": f".frozen:{FIRMWARE}"},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


ACCEPTED = r"CONNACK b' \x02\x00\x00'"


@pytest.mark.parametrize("kind", [pytest.param("mosquitto", marks=NEEDS_MOSQUITTO), "embedded"])
@pytest.mark.parametrize("name", ["broker.plant.example", "127.0.0.1"])
def test_node_connects_again_and_again(world: World, tmp_path: Path, kind: str, name: str) -> None:
    with running(world.config(), tmp_path / "run", kind) as port:
        identity = world.authority.issue_node("n01")
        assert connect(identity, port, tmp_path, name, connections=3) == [ACCEPTED] * 3


@NEEDS_MOSQUITTO
def test_key_in_pkcs8_serves_too(world: World, tmp_path: Path) -> None:
    identity = world.authority.issue_node("n01")
    key = load_der_private_key(identity.key, password=None)
    pkcs8 = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    with running(world.config(), tmp_path / "run") as port:
        assert connect(replace(identity, key=pkcs8), port, tmp_path) == [ACCEPTED]


@NEEDS_MOSQUITTO
@pytest.mark.parametrize("own_at", [0, 1, 2])
def test_each_of_several_cas_is_trusted(world: World, tmp_path: Path, own_at: int) -> None:
    identity = world.authority.issue_node("n01")
    cas = [Authority.create(tmp_path / str(i)).issue_node("n01").cas[0] for i in range(2)]
    cas.insert(own_at, identity.cas[0])
    with running(world.config(), tmp_path / "run") as port:
        assert connect(replace(identity, cas=tuple(cas)), port, tmp_path) == [ACCEPTED]


@NEEDS_MOSQUITTO
def test_whole_chain_is_sent(world: World, tmp_path: Path) -> None:
    """The broker knows the root alone; the node must send its issuer's certificate along."""
    root_key, root = certificate("root", None, path_length=1)
    issuer_key, issuer = certificate("issuer", (root_key, root), path_length=0)
    leaf_key, leaf = certificate("n01", (issuer_key, issuer), path_length=None)
    root_file = tmp_path / "root.crt"
    root_file.write_bytes(root.public_bytes(Encoding.PEM))
    identity = Identity(
        "n01",
        leaf_key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
        (leaf.public_bytes(Encoding.DER), issuer.public_bytes(Encoding.DER)),
        (world.authority.certificate.public_bytes(Encoding.DER),),
    )
    with running(world.config(ca=root_file), tmp_path / "run") as port:
        assert connect(identity, port, tmp_path) == [ACCEPTED]
        (said,) = connect(replace(identity, chain=identity.chain[:1]), port, tmp_path)
        assert said.startswith(("OSError", "ValueError", "CONNACK b''")), said


@NEEDS_MOSQUITTO
def test_broker_of_another_authority_is_refused(world: World, tmp_path: Path) -> None:
    other = other_authority(tmp_path)
    identity = replace(world.authority.issue_node("n01"), cas=other.issue_node("n01").cas)
    with running(world.config(), tmp_path / "run") as port:
        (said,) = connect(identity, port, tmp_path)
    assert said.startswith("ValueError") and "not correctly signed by the trusted CA" in said


@NEEDS_MOSQUITTO
@pytest.mark.parametrize("name", ["other.plant.example", "plant.example", "127.0.0.2", "n01"])
def test_broker_of_another_name_is_refused(world: World, tmp_path: Path, name: str) -> None:
    with running(world.config(), tmp_path / "run") as port:
        (said,) = connect(world.authority.issue_node("n01"), port, tmp_path, name)
    assert said.startswith("ValueError") and "does not match with the expected CN" in said


@NEEDS_MOSQUITTO
@pytest.mark.parametrize(
    ("days", "complaint"), [(-900, "validity has expired"), (+30, "validity starts in the future")]
)
def test_broker_out_of_date_is_refused(world: World, tmp_path: Path, days: int, complaint: str) -> None:
    now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    world.authority.issue_broker(["broker.plant.example"], now=now).save(tmp_path, "bad")
    config = world.config(stem=tmp_path / "bad")
    with running(config, tmp_path / "run") as port:
        (said,) = connect(world.authority.issue_node("n01"), port, tmp_path)
    assert said.startswith("ValueError") and complaint in said


@NEEDS_MOSQUITTO
def test_client_certificate_is_no_brokers(world: World, tmp_path: Path) -> None:
    """A stolen node certificate cannot play the broker, whatever name it bears."""
    world.authority.issue_console("fake").save(tmp_path, "fake")
    config = world.config(stem=tmp_path / "fake")
    with running(config, tmp_path / "run") as port:
        (said,) = connect(world.authority.issue_node("n01"), port, tmp_path, "limpet.fake")
    assert said.startswith("ValueError") and "Usage does not match" in said


@pytest.mark.parametrize("kind", [pytest.param("mosquitto", marks=NEEDS_MOSQUITTO), "embedded"])
@pytest.mark.parametrize("fault", ["expired", "stranger", "another's key"])
def test_bad_node_is_refused(world: World, tmp_path: Path, kind: str, fault: str) -> None:
    identity = world.authority.issue_node("n01")
    if fault == "expired":
        identity = world.authority.issue_node("n01", now=LONG_AGO)
    elif fault == "stranger":
        identity = replace(other_authority(tmp_path).issue_node("n01"), cas=identity.cas)
    else:
        identity = replace(identity, key=world.authority.issue_node("n01").key)
    with running(world.config(), tmp_path / "run", kind) as port:
        (said,) = connect(identity, port, tmp_path)
    assert said.startswith(("OSError", "ValueError", "CONNACK b''")), said


def test_no_verification_can_be_skipped(world: World, tmp_path: Path) -> None:
    """A server that asks for nothing and bears the right name, but comes from elsewhere."""
    impostor = other_authority(tmp_path).issue_broker(["broker.plant.example"])
    impostor.save(tmp_path, "impostor")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "impostor.crt", tmp_path / "impostor.key")
    heard: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        plain, _ = listener.accept()
        with plain, contextlib.suppress(OSError):
            heard.append(context.wrap_socket(plain, server_side=True).recv(100))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        (said,) = connect(world.authority.issue_node("n01"), listener.getsockname()[1], tmp_path)
        server.join(DEADLINE)
    assert said.startswith("ValueError")
    assert heard in ([], [b""]), "the node spoke to an impostor"


def certificate(
    name: str, issuer: tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None, path_length: int | None
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """A certificate of a hierarchy with a root and an issuing authority; a leaf has no path length."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[1].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(path_length is not None, path_length), critical=True)
        .sign(issuer[0] if issuer else key, hashes.SHA256())
    )
    return key, made
