"""A throwaway authority for the demo and for tests: `ca.key`, not encrypted, and `ca.crt` in a folder.

One that lasts, with a passphrase, a record and revocation, is `host_tools.ca`.
"""

import datetime
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from host_tools.errors import LimpetError
from host_tools.pki import crl, files, profiles
from host_tools.pki.credential import Credential, key_pem, pem
from host_tools.pki.crl import Revoked
from host_tools.pki.malformed import MALFORMED
from host_tools.pki.names import console_name, console_uri
from host_tools.pki.partition import Identity
from host_tools.pki.profiles import Signer, utc_now

__all__ = ["CA_CERTIFICATE", "CA_KEY", "Authority", "Credential"]

CA_KEY = "ca.key"
CA_CERTIFICATE = "ca.crt"


class Authority:
    """A certificate authority: make one with `create` or read one with `load`."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._signer = Signer(key, certificate)
        self.certificate = certificate

    @classmethod
    def create(cls, folder: Path, *, now: datetime.datetime | None = None) -> "Authority":
        """Make a new authority in `folder`, which is made too if it is missing (mode 0700, files 0600).

        Raises LimpetError if the folder holds an authority already or cannot be written.
        """
        files.make_private_folder(folder)
        for name in (CA_KEY, CA_CERTIFICATE):
            if files.exists(folder / name):
                raise LimpetError(
                    f"{folder} already holds {name}: load that authority, or choose another folder."
                )
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = profiles.root(
            key, now or utc_now(), title="CA", path_length=0, lifetime=profiles.LIFETIME
        )
        files.write_private(folder / CA_KEY, key_pem(key))
        files.write_private(folder / CA_CERTIFICATE, pem(certificate))
        return cls(key, certificate)

    @classmethod
    def load(cls, folder: Path, *, now: datetime.datetime | None = None) -> "Authority":
        """Read the authority in `folder`.

        Raises LimpetError if it is missing, half made, unreadable, not an authority, expired,
        not valid yet, or if its key belongs to another certificate.
        """
        present = [name for name in (CA_KEY, CA_CERTIFICATE) if files.exists(folder / name)]
        if not present:
            raise LimpetError(f"There is no certificate authority in {folder}: make one there first.")
        if len(present) == 1:
            missing = CA_CERTIFICATE if present == [CA_KEY] else CA_KEY
            raise LimpetError(
                f"The certificate authority in {folder} is half made, {missing} is missing: "
                f"restore that file from a backup, or remove {present[0]} and make a new authority."
            )
        key = _load_key(folder / CA_KEY)
        certificate = _load_certificate(folder / CA_CERTIFICATE)
        if key.public_key() != certificate.public_key():
            raise LimpetError(
                f"In {folder}, {CA_KEY} and {CA_CERTIFICATE} do not belong together: "
                "restore the pair from a backup."
            )
        try:
            is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except x509.ExtensionNotFound:
            is_ca = False
        if not is_ca:
            raise LimpetError(
                f"{folder / CA_CERTIFICATE} is not the certificate of an authority: "
                "restore the right one from a backup."
            )
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        now = now or utc_now()
        if now >= end:
            raise LimpetError(
                f"The certificate authority in {folder} expired on {end:%Y-%m-%d}: "
                "make a new one and give the nodes new identities."
            )
        if now < begin:
            raise LimpetError(
                f"The certificate authority in {folder} is not valid before {begin:%Y-%m-%d}: "
                "set this machine's clock."
            )
        return cls(key, certificate)

    @classmethod
    def load_or_create(cls, folder: Path, *, now: datetime.datetime | None = None) -> "Authority":
        """The authority in `folder`, made if there is none.

        Raises LimpetError as `load` and `create` do.
        """
        if any(files.exists(folder / name) for name in (CA_KEY, CA_CERTIFICATE)):
            return cls.load(folder, now=now)
        return cls.create(folder, now=now)

    def sign_node(
        self, node_id: str, key: ec.EllipticCurvePublicKey, *, now: datetime.datetime | None = None
    ) -> x509.Certificate:
        """A client certificate for the node that holds the private half of `key`.

        Its common name is the node id, and so is the end of its URI. Valid for at most 825 days from `now`.
        Raises LimpetError if the node id is not valid.
        """
        return profiles.node(self._signer, node_id, key, now or utc_now())

    def issue_node(self, node_id: str, *, now: datetime.datetime | None = None) -> Identity:
        """A node's whole identity with a new key, in memory alone.

        Raises LimpetError if the node id is not valid.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self.sign_node(node_id, key.public_key(), now=now)
        return Identity(
            node_id=node_id,
            key=key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
            chain=(certificate.public_bytes(Encoding.DER),),
            cas=(self.certificate.public_bytes(Encoding.DER),),
        )

    def revocation_list(self, revoked: Iterable[Revoked], number: int) -> x509.CertificateRevocationList:
        """The list of what is revoked; `number` counts its issues."""
        return crl.build(self._signer, revoked, number, utc_now())

    def issue_broker(self, names: Sequence[str], *, now: datetime.datetime | None = None) -> Credential:
        """A server certificate that bears `names`, host names and IP addresses alike, with a new key.

        Raises LimpetError if there is no name or one is not valid.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        return Credential(key, profiles.broker(self._signer, names, key.public_key(), now or utc_now()))

    def issue_console(self, name: str = "console", *, now: datetime.datetime | None = None) -> Credential:
        """A client certificate for a console that watches all nodes, with a new key.

        Its common name is `limpet.<name>`, which no node can bear. Raises LimpetError if `name` is not valid.
        """
        common_name = console_name(name)
        key = ec.generate_private_key(ec.SECP256R1())
        uri = console_uri(common_name)
        return Credential(
            key, profiles.client(self._signer, common_name, uri, key.public_key(), now or utc_now())
        )


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(files.read(path, "key"), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's own text is dropped: nothing of a key belongs in a message.
        raise LimpetError(
            f"{path} is not an unencrypted private key in PEM: restore it from a backup."
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise LimpetError(f"{path} is not an elliptic-curve key: make a new authority.")
    return key


def _load_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(files.read(path, "certificate"))
    except MALFORMED as error:
        raise LimpetError(f"{path} is not a certificate in PEM: restore it from a backup.") from error
