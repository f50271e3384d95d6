"""Certificates good and bad: a hierarchy as limpet makes it, and copies with one thing changed."""

import datetime
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from host_tools.pki import profiles
from host_tools.pki.credential import Credential
from host_tools.pki.profiles import Signer

YEARS = datetime.timedelta(days=900)
MONTH = datetime.timedelta(days=30)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True)
class Hierarchy:
    """A root and an issuing authority."""

    root: Signer
    issuing: Signer

    @classmethod
    def create(cls) -> "Hierarchy":
        now = profiles.utc_now()
        root_key, key = new_key(), new_key()
        root = Signer(root_key, profiles.root(root_key, now))
        return cls(root, Signer(key, profiles.issuing(root, key.public_key(), now)))

    def broker(self, *names: str, later: datetime.timedelta = datetime.timedelta()) -> Credential:
        """A broker's credential, as if it were issued so much `later` than now."""
        key = new_key()
        made = profiles.broker(self.issuing, names, key.public_key(), profiles.utc_now() + later)
        return Credential(key, made, (self.issuing.certificate,))

    def node(self, node_id: str, later: datetime.timedelta = datetime.timedelta()) -> Credential:
        """A node's credential, as if it were issued so much `later` than now."""
        key = new_key()
        made = profiles.node(self.issuing, node_id, key.public_key(), profiles.utc_now() + later)
        return Credential(key, made, (self.issuing.certificate,))

    def issuing_below(self) -> Credential:
        """An authority that the issuing one signed, though it may have none below it."""
        key = new_key()
        made = profiles.issuing(self.issuing, key.public_key(), profiles.utc_now())
        return Credential(key, made, (self.issuing.certificate,))


def below(parent: Credential, child: Credential) -> Credential:
    """`child` as signed by `parent`, whether that may sign or not."""
    made = changed(child, signer=Signer(parent.key, parent.certificate)).certificate
    return Credential(child.key, made, (parent.certificate, *parent.chain))


def self_signed(credential: Credential) -> Credential:
    """It as its own issuer."""
    made = changed(credential, signer=Signer(credential.key, credential.certificate)).certificate
    return Credential(credential.key, made)


def changed(
    credential: Credential,
    signer: Signer,
    usage: x509.ObjectIdentifier | None = None,
    common_name: str | None = None,
) -> Credential:
    """A copy, signed by `signer`, with another extended key usage or common name if one is given."""
    old = credential.certificate
    subject = old.subject
    if common_name is not None:
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    builder: Any = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer.certificate.subject)
        .public_key(credential.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(old.not_valid_before_utc)
        .not_valid_after(old.not_valid_after_utc)
    )
    for each in old.extensions:
        value: Any = each.value
        if isinstance(value, x509.ExtendedKeyUsage) and usage is not None:
            value = x509.ExtendedKeyUsage([usage])
        elif isinstance(value, x509.AuthorityKeyIdentifier):
            value = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key())
        builder = builder.add_extension(value, each.critical)
    return Credential(credential.key, builder.sign(signer.key, hashes.SHA256()), credential.chain)
