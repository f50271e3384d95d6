"""A certificate authority in a folder: `ca.key` and `ca.crt`, and the certificates it issues.

Keys are on the curve P-256, signatures are ECDSA with SHA-256, certificates are X.509 v3 (RFC 5280).
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from host_tools.errors import LimpetError
from host_tools.pki import files
from host_tools.pki.names import (
    check_broker_name,
    check_node_id,
    console_name,
    console_uri,
    device_uri,
    parse_ip,
)
from host_tools.pki.partition import Identity

CA_KEY = "ca.key"
CA_CERTIFICATE = "ca.crt"

_LIFETIME = datetime.timedelta(days=825)
# Clocks differ: what is issued now must be valid to a peer that is an hour behind.
_BACKDATED = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class Credential:
    """A private key with its certificate. The key never shows in the repr."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: x509.Certificate

    def save(self, folder: Path, stem: str) -> None:
        """Write `stem.key` and `stem.crt` into `folder` (PEM, mode 0600).

        Raises LimpetError if the folder cannot be written.
        """
        files.make_private_folder(folder)
        files.write_private(folder / f"{stem}.key", _key_pem(self.key))
        files.write_private(folder / f"{stem}.crt", self.certificate.public_bytes(Encoding.PEM))


class Authority:
    """A certificate authority: make one with `create` or read one with `load`."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
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
        certificate = _self_signed(key, now or _utc_now())
        files.write_private(folder / CA_KEY, _key_pem(key))
        files.write_private(folder / CA_CERTIFICATE, certificate.public_bytes(Encoding.PEM))
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
        now = now or _utc_now()
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
        check_node_id(node_id)
        uri = x509.UniformResourceIdentifier(device_uri(node_id))
        return self._sign(node_id, [uri], ExtendedKeyUsageOID.CLIENT_AUTH, key, now or _utc_now())

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

    def issue_broker(self, names: Sequence[str], *, now: datetime.datetime | None = None) -> Credential:
        """A server certificate that bears `names`, host names and IP addresses alike, with a new key.

        Raises LimpetError if there is no name or one is not valid.
        """
        if not names:
            raise LimpetError("A broker's certificate needs at least one host name or IP address.")
        alternatives: list[x509.GeneralName] = []
        for name in map(check_broker_name, names):
            address = parse_ip(name)
            alternatives.append(x509.IPAddress(address) if address else x509.DNSName(name))
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.SERVER_AUTH
        certificate = self._sign("limpet broker", alternatives, usage, key.public_key(), now or _utc_now())
        return Credential(key, certificate)

    def issue_console(self, name: str = "console", *, now: datetime.datetime | None = None) -> Credential:
        """A client certificate for a console that watches all nodes, with a new key.

        Its common name is `limpet.<name>`, which no node can bear. Raises LimpetError if `name` is not valid.
        """
        common_name = console_name(name)
        key = ec.generate_private_key(ec.SECP256R1())
        uri = x509.UniformResourceIdentifier(console_uri(common_name))
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        return Credential(key, self._sign(common_name, [uri], usage, key.public_key(), now or _utc_now()))

    def _sign(
        self,
        common_name: str,
        alternatives: list[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        key: ec.EllipticCurvePublicKey,
        now: datetime.datetime,
    ) -> x509.Certificate:
        expiry = min(now + _LIFETIME - _BACKDATED, self.certificate.not_valid_after_utc)
        return (
            _builder(key, _name(common_name), self.certificate.subject, now - _BACKDATED, expiry)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False)
            .sign(self._key, hashes.SHA256())
        )


def _self_signed(key: ec.EllipticCurvePrivateKey, now: datetime.datetime) -> x509.Certificate:
    public = key.public_key()
    # Two authorities never share a name: the digest of the key is part of it.
    name = _name(f"limpet CA {x509.SubjectKeyIdentifier.from_public_key(public).digest[:4].hex()}")
    return (
        _builder(public, name, name, now - _BACKDATED, now + _LIFETIME - _BACKDATED)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )


def _builder(
    key: ec.EllipticCurvePublicKey,
    subject: x509.Name,
    issuer: x509.Name,
    begin: datetime.datetime,
    end: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


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
    except ValueError as error:
        raise LimpetError(f"{path} is not a certificate in PEM: restore it from a backup.") from error


def _utc_now() -> datetime.datetime:
    # Certificates count whole seconds.
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)
