"""A private key with its certificate, and the files that hold them."""

from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from host_tools.pki import files


@dataclass(frozen=True)
class Credential:
    """A private key with its certificate, and what leads from that to a trusted root.

    The key never shows in the repr.
    """

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...] = ()
    """The certificates between this one and the root, as a TLS peer shows them."""

    def save(self, folder: Path, stem: str) -> None:
        """Write `stem.key` and `stem.crt`, the chain included, into `folder` (PEM, mode 0600).

        Raises LimpetError if the folder cannot be written.
        """
        files.make_private_folder(folder)
        files.write_private(folder / f"{stem}.key", key_pem(self.key))
        files.write_private(folder / f"{stem}.crt", pem(self.certificate, *self.chain))


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The key as PKCS#8 in PEM, not encrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def pem(*certificates: x509.Certificate) -> bytes:
    """The certificates in PEM, one after the other."""
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)
