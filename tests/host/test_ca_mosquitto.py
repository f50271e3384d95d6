"""What a real Mosquitto makes of the authority's certificates and CRL."""

import contextlib
import datetime
import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from host_tools.broker import mosquitto
from host_tools.broker.process import BrokerProcess
from host_tools.ca import CertificateAuthority
from host_tools.pki import crl
from host_tools.pki.credential import Credential
from host_tools.pki.profiles import utc_now
from tests.host.authorities import Place, cheap_passphrases, make, request

needs_mosquitto = pytest.mark.skipif(
    mosquitto.find_executable() is None, reason="Mosquitto is not installed: install the package `mosquitto`"
)
DEADLINE = 20.0
CLAUSES = ("IEC 62443-4-2 CR 1.9", "ETSI EN 303 645 5.5-1")
CONNECT = bytes.fromhex("100e 0004 4d515454 04 02 003c 0002 6e31")  # MQTT 3.1.1, client id `n1`
CONNACK = bytes.fromhex("20020000")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with cheap_passphrases():
        yield make(tmp_path_factory.mktemp("model"))


@pytest.fixture
def place(model: Path, tmp_path: Path) -> Place:
    return Place(tmp_path, model)


def credential(ca: CertificateAuthority, name: str, folder: Path) -> None:
    """A node's certificate, with the key in a file: what a node would show."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = ca.issue_node(request(name, key), name)
    chain = tuple(map(x509.load_der_x509_certificate, ca.chain))
    Credential(key, made.certificate, chain).save(folder, name)


@contextlib.contextmanager
def broker(folder: Path, trusted: Path, lists: Path) -> Iterator[int]:
    """Mosquitto with broker.crt of `folder`, and its port."""
    executable = mosquitto.find_executable()
    assert executable is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = folder / "mosquitto.conf"
    lines = ["user root"] if os.geteuid() == 0 else []
    lines += [f"listener {port} 127.0.0.1", f"cafile {trusted}", f"crlfile {lists}"]
    lines += [f"certfile {folder / 'broker.crt'}", f"keyfile {folder / 'broker.key'}"]
    lines += ["require_certificate true", "use_identity_as_username true", "log_dest stderr"]
    settings.write_text("\n".join(lines) + "\n")
    process = BrokerProcess("Mosquitto", [executable, "-c", str(settings)], folder / "broker.log")
    try:
        process.wait_ready(mosquitto._READY)
        yield port
    finally:
        process.stop()


def gets_in(port: int, trusted: Path, folder: Path, name: str) -> bool:
    """Whether the broker admits the client `name`. It must be the broker that refuses, not the client."""
    context = ssl.create_default_context(cafile=str(trusted))
    context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), DEADLINE)) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="localhost") as secured:
                secured.sendall(CONNECT)
                return secured.recv(4) == CONNACK
        except ssl.SSLCertVerificationError:
            raise
        except (ssl.SSLError, ConnectionError):  # a refusal comes as an alert, or as the connection's end
            return False


@needs_mosquitto
@pytest.mark.security(3, *CLAUSES)
def test_a_revoked_node_is_refused_and_no_other(place: Place, tmp_path: Path) -> None:
    """Mosquitto with the authority's crl.pem refuses a revoked node and admits the others."""
    trusted, lists = place.ca / "trusted.crt", place.ca / "crl.pem"
    with place.open() as ca:
        ca.issue_broker(["localhost"]).save(tmp_path, "broker")
        for name in ("n1", "n2"):
            credential(ca, name, tmp_path)
        with broker(tmp_path, trusted, lists) as port:
            assert gets_in(port, trusted, tmp_path, "n1") and gets_in(port, trusted, tmp_path, "n2")
        ca.revoke("n1", "key-compromise")
        with broker(tmp_path, trusted, lists) as port:
            assert not gets_in(port, trusted, tmp_path, "n1")
            assert gets_in(port, trusted, tmp_path, "n2")
        ca.rotate(place.folder / "second.backup", root=True)
        for name in ("n3", "n4"):
            credential(ca, name, tmp_path)
        ca.revoke("n4", "superseded")
        with broker(tmp_path, trusted, lists) as port:
            admitted = {name: gets_in(port, trusted, tmp_path, name) for name in ("n1", "n2", "n3", "n4")}
        assert admitted == {"n1": False, "n2": True, "n3": True, "n4": False}
        # Until the old root is retired, a broker's new certificate serves nodes that know that root alone.
        ca.issue_broker(["localhost"]).save(tmp_path / "new", "broker")
        first = tmp_path / "first.crt"
        first.write_text(trusted.read_text().split("-----END", 1)[0] + "-----END CERTIFICATE-----\n")
        with broker(tmp_path / "new", trusted, lists) as port:
            assert gets_in(port, first, tmp_path, "n2")


@needs_mosquitto
def test_a_list_that_has_run_out_shuts_everybody_out(place: Place, tmp_path: Path) -> None:
    """Why our lists last as long as their authority: this is what Mosquitto does with others."""
    trusted = place.ca / "trusted.crt"
    with place.open() as ca:
        ca.issue_broker(["localhost"]).save(tmp_path, "broker")
        credential(ca, "n1", tmp_path)
        signer = ca.signer(ca.state.issuing)
        made = {"good": crl.build(signer, (), 9, utc_now()), "ended": ended(signer.key, signer.certificate)}
        for name, each in made.items():
            (tmp_path / name).write_bytes(crl.to_pem([each]))
    with broker(tmp_path, trusted, tmp_path / "good") as port:
        assert gets_in(port, trusted, tmp_path, "n1")
    with broker(tmp_path, trusted, tmp_path / "ended") as port:
        assert not gets_in(port, trusted, tmp_path, "n1")


def ended(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> x509.CertificateRevocationList:
    now, day = utc_now(), datetime.timedelta(days=1)
    builder = x509.CertificateRevocationListBuilder().issuer_name(certificate.subject)
    return builder.last_update(now - 2 * day).next_update(now - day).sign(key, hashes.SHA256())
