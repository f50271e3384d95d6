"""An authority with credentials in files, and brokers of its own, for tests of `limpet broker`."""

import os
import ssl
from pathlib import Path
from types import SimpleNamespace

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from host_tools.broker import birth
from host_tools.broker.project import BrokerFolder
from host_tools.ca import birth as authorities
from host_tools.ca import passphrase
from host_tools.ca.authority import CertificateAuthority
from host_tools.ca.passphrase import Unlock
from host_tools.ca.state import Issued
from host_tools.pki.credential import Credential
from host_tools.pki.partition import Identity
from tests.host.mqtt_clients import Client

PASSPHRASE = "seven green bottles"


def unlock() -> Unlock:
    """What gives the passphrase, as from a pipe."""
    read, write = os.pipe()
    os.write(write, f"{PASSPHRASE}\n".encode())
    os.close(write)
    return passphrase.from_descriptor(read, "the authority of a test")


class Project:
    """A project's folder with an authority, open, and clients' credentials in `pki`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = folder / "ca"
        self.pki = folder / "pki"
        self.pki.mkdir()
        authorities.create(self.ca, unlock(), folder / "backup")
        self.authority = CertificateAuthority.open(self.ca, unlock())
        self.first_list = self.authority.folder.crl.read_bytes()
        """The CRL in which nobody is revoked."""
        (self.pki / "ca.crt").write_bytes((self.ca / "trusted.crt").read_bytes())
        self.save(self.authority.issue_client("console"), "console")

    def save(self, credential: Credential, stem: str) -> None:
        """Put a client's credential into `pki`."""
        credential.save(self.pki, stem)

    def node(self, node_id: str, *, stem: str | None = None, replace: bool = False) -> Identity:
        """Issue an identity for a node and put it into `pki`."""
        identity = self.authority.issue_node_key(node_id, replace=replace)
        self.keep(identity, stem or node_id)
        return identity

    def rotate(self, node_id: str, stem: str) -> Issued:
        """Issue a node a second certificate, for a new key, beside the one that it has."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node_id)])
        request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
        issued = self.authority.issue_node(request.public_bytes(Encoding.DER), node_id, overlap=True)
        chain = tuple(map(x509.load_der_x509_certificate, self.authority.chain))
        self.save(Credential(key, issued.certificate, chain), stem)
        return issued

    def keep(self, identity: Identity, stem: str) -> None:
        """Put a node's identity into `pki`."""
        key = ssl.DER_cert_to_PEM_cert(identity.key).replace("CERTIFICATE", "EC PRIVATE KEY")
        (self.pki / f"{stem}.key").write_text(key)
        (self.pki / f"{stem}.crt").write_text("".join(map(ssl.DER_cert_to_PEM_cert, identity.chain)))

    def broker(self, name: str, port: int, **wanted: object) -> BrokerFolder:
        """Make a broker's folder. Root's temporary folders are closed to other accounts, so it stays root."""
        options = {"names": ("localhost",), "address": "127.0.0.1", "port": port, **wanted}
        if os.geteuid() == 0:
            options.setdefault("user", "root")
        birth.init(self.folder / name, self.ca, unlock(), birth.Wanted(**options))  # type: ignore[arg-type]
        return BrokerFolder(self.folder / name)

    def client(self, port: int, stem: str, client_id: str | None = None, **options: object) -> Client:
        """A client, to be used as a context manager."""
        broker = SimpleNamespace(port=port)
        return Client(broker, self.pki, stem, client_id or stem, **options)  # type: ignore[arg-type]
