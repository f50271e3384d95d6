"""Whether an identity will be accepted: what a broker would find wrong with it, said in one sentence."""

import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from host_tools.errors import LimpetError
from host_tools.pki.malformed import MALFORMED
from host_tools.pki.partition import Identity


def check_identity(identity: Identity, *, now: datetime.datetime | None = None) -> None:
    """Return if a broker that trusts one of the identity's CAs would let the node in at `now`.

    Raises LimpetError with what is wrong: unreadable parts, a key or a name that does not belong to the
    certificate, a certificate that is expired, not yet valid, not for clients, or from an unknown authority.
    """
    try:
        _check(identity, now or datetime.datetime.now(datetime.UTC))
    except MALFORMED as error:
        raise LimpetError(
            f"A certificate of node {identity.node_id} is malformed inside: give it a new identity."
        ) from error


def _check(identity: Identity, now: datetime.datetime) -> None:
    node = identity.node_id
    chain = [_certificate(der, f"a certificate of node {node}") for der in identity.chain]
    authorities = [_certificate(der, f"a trusted CA of node {node}") for der in identity.cas]
    certificate = chain[0]
    if _public_key(identity) != certificate.public_key():
        raise LimpetError(
            f"The private key of node {node} does not belong to its certificate: give it a new identity."
        )
    names = [name.value for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [node]:
        raise LimpetError(
            f"The certificate of node {node} bears the name {', '.join(map(str, names)) or '(none)'}: "
            "give the node its own certificate."
        )
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now >= end:
        raise LimpetError(f"The certificate of node {node} expired on {end:%Y-%m-%d}: issue a new one.")
    if now < begin:
        raise LimpetError(
            f"The certificate of node {node} is not valid before {begin:%Y-%m-%d}: set this machine's clock."
        )
    if ExtendedKeyUsageOID.CLIENT_AUTH not in _usages(certificate):
        raise LimpetError(f"The certificate of node {node} is not for TLS clients: issue a new one.")
    verifier = PolicyBuilder().store(Store(authorities)).time(now).build_client_verifier()
    try:
        verifier.verify(certificate, chain[1:])
    except VerificationError as error:
        raise LimpetError(
            f"The certificate of node {node} does not lead to a CA that the node trusts: "
            "give it a new identity."
        ) from error


def _certificate(der: bytes, what: str) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(der)
    except MALFORMED as error:
        raise LimpetError(
            f"The bytes stored as {what} are no certificate: give it a new identity."
        ) from error


def _public_key(identity: Identity) -> ec.EllipticCurvePublicKey:
    try:
        key = load_der_private_key(identity.key, password=None)
    except MALFORMED:
        # The library's own text is dropped: nothing of a key belongs in a message.
        raise LimpetError(
            f"The bytes stored as the private key of node {identity.node_id} are no key: "
            "give it a new identity."
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise LimpetError(f"The private key of node {identity.node_id} is not an elliptic-curve key.")
    return key.public_key()


def _usages(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return []
