"""What each kind of certificate says (RFC 5280): pure functions that a signer's key and certificate go into.

Keys are on the curve P-256, signatures are ECDSA with SHA-256, certificates are X.509 v3.
"""

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from host_tools.errors import LimpetError
from host_tools.pki.names import check_broker_name, check_node_id, device_uri, parse_ip

LIFETIME = datetime.timedelta(days=825)
"""How long the certificate of a node, a broker or a console lasts, unless its issuer ends before."""
ROOT_LIFETIME = datetime.timedelta(days=20 * 365 + 5)
ISSUING_LIFETIME = datetime.timedelta(days=5 * 365 + 1)
# Clocks differ: what is issued now must be valid to a peer that is an hour behind.
BACKDATED = datetime.timedelta(hours=1)

_BROKER = "limpet broker"


@dataclass(frozen=True)
class Signer:
    """An authority's key with its certificate. The key never shows in the repr."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: x509.Certificate


Clock = Callable[[], datetime.datetime]
"""What tells the time, in UTC and whole seconds."""


def utc_now() -> datetime.datetime:
    """The time as certificates count it, in whole seconds."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def root(
    key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    *,
    organisation: str | None = None,
    title: str = "root CA",
    path_length: int = 1,
    lifetime: datetime.timedelta = ROOT_LIFETIME,
) -> x509.Certificate:
    """A self-signed certificate of an authority that may have `path_length` authorities below it."""
    public = key.public_key()
    name = _authority_name(public, title, organisation)
    builder = _builder(public, name, name, now - BACKDATED, now + lifetime - BACKDATED)
    return _authority(builder, public, path_length, key_usage(key_cert_sign=True, crl_sign=True)).sign(
        key, hashes.SHA256()
    )


def issuing(
    signer: Signer,
    public: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    *,
    organisation: str | None = None,
) -> x509.Certificate:
    """The certificate of an authority below `signer`, which signs nodes, brokers and consoles alone.

    Its key seals the ledger too, which is neither a certificate nor a CRL: hence the usage digitalSignature
    (RFC 5280 §4.2.1.3).
    """
    name = _authority_name(public, "issuing CA", organisation)
    end = min(now + ISSUING_LIFETIME - BACKDATED, signer.certificate.not_valid_after_utc)
    builder = _builder(public, name, signer.certificate.subject, now - BACKDATED, end)
    usage = key_usage(digital_signature=True, key_cert_sign=True, crl_sign=True)
    return _authority(builder, signer.key.public_key(), 0, usage).sign(signer.key, hashes.SHA256())


def node(
    signer: Signer,
    node_id: str,
    public: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    lifetime: datetime.timedelta = LIFETIME,
) -> x509.Certificate:
    """A client certificate for the node that holds the private half of `public`.

    Its common name is the node id, and so is the end of its URI. Raises LimpetError if the id is not valid.
    """
    check_node_id(node_id)
    alternatives = [x509.UniformResourceIdentifier(device_uri(node_id))]
    return _leaf(signer, node_id, alternatives, ExtendedKeyUsageOID.CLIENT_AUTH, public, now, lifetime)


def broker(
    signer: Signer,
    names: Sequence[str],
    public: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    lifetime: datetime.timedelta = LIFETIME,
) -> x509.Certificate:
    """A server certificate that bears `names`, host names and IP addresses alike.

    Raises LimpetError if there is no name or one is not valid.
    """
    if not names:
        raise LimpetError("A broker's certificate needs at least one host name or IP address.")
    alternatives: list[x509.GeneralName] = []
    for name in map(check_broker_name, names):
        address = parse_ip(name)
        alternatives.append(x509.IPAddress(address) if address else x509.DNSName(name))
    return _leaf(signer, _BROKER, alternatives, ExtendedKeyUsageOID.SERVER_AUTH, public, now, lifetime)


def client(
    signer: Signer,
    common_name: str,
    uri: str,
    public: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    lifetime: datetime.timedelta = LIFETIME,
) -> x509.Certificate:
    """A client certificate for somebody who is no node: a console, an operator."""
    alternatives = [x509.UniformResourceIdentifier(uri)]
    return _leaf(signer, common_name, alternatives, ExtendedKeyUsageOID.CLIENT_AUTH, public, now, lifetime)


def key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    """The extension with these bits alone."""
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


def bearer(certificate: x509.Certificate) -> str:
    """Whose certificate it is: a server's names and addresses, separated by spaces, else the common name.

    Nothing for one that bears neither.
    """
    extensions = certificate.extensions
    try:
        hosts = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        hosts = x509.SubjectAlternativeName([])
    found = [str(each.value) for each in hosts if isinstance(each, (x509.DNSName, x509.IPAddress))]
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return " ".join(found) or "".join(str(each.value) for each in names[:1])


def check_organisation(text: str) -> str:
    """Return `text` if it may stand as organisation in a certificate (RFC 5280 appendix A: at most 64).

    Raises LimpetError otherwise.
    """
    if not 0 < len(text) <= 64 or text != text.strip() or not text.isprintable():
        raise LimpetError(
            f"The organisation {text!r} is not valid: use 1 to 64 printable characters, no space at the ends."
        )
    return text


def _leaf(
    signer: Signer,
    common_name: str,
    alternatives: Sequence[x509.GeneralName],
    usage: x509.ObjectIdentifier,
    public: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    lifetime: datetime.timedelta,
) -> x509.Certificate:
    end = min(now + lifetime - BACKDATED, signer.certificate.not_valid_after_utc)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    return (
        _builder(public, name, signer.certificate.subject, now - BACKDATED, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), False)
        .sign(signer.key, hashes.SHA256())
    )


def _authority(
    builder: x509.CertificateBuilder,
    issuer: ec.EllipticCurvePublicKey,
    path_length: int,
    usage: x509.KeyUsage,
) -> x509.CertificateBuilder:
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
    )


def _builder(
    public: ec.EllipticCurvePublicKey,
    subject: x509.Name,
    issuer: x509.Name,
    begin: datetime.datetime,
    end: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _authority_name(public: ec.EllipticCurvePublicKey, title: str, organisation: str | None) -> x509.Name:
    # Two authorities never share a name: the digest of the key is part of it.
    digest = x509.SubjectKeyIdentifier.from_public_key(public).digest[:4].hex()
    names = [x509.NameAttribute(NameOID.COMMON_NAME, f"limpet {title} {digest}")]
    if organisation is not None:
        names.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, check_organisation(organisation)))
    return x509.Name(names)
