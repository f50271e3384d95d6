"""Certificate revocation lists, version 2 (RFC 5280 §5): what a broker reads to refuse what was revoked."""

import datetime
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from host_tools.errors import UsageError
from host_tools.pki.malformed import MALFORMED
from host_tools.pki.profiles import BACKDATED, Signer

REASONS = {
    "unspecified": x509.ReasonFlags.unspecified,
    "key-compromise": x509.ReasonFlags.key_compromise,
    "ca-compromise": x509.ReasonFlags.ca_compromise,
    "affiliation-changed": x509.ReasonFlags.affiliation_changed,
    "superseded": x509.ReasonFlags.superseded,
    "cessation-of-operation": x509.ReasonFlags.cessation_of_operation,
    "privilege-withdrawn": x509.ReasonFlags.privilege_withdrawn,
}
"""Why a certificate is revoked (RFC 5280 §5.3.1), by the words that commands take."""

_END = b"-----END X509 CRL-----"


@dataclass(frozen=True)
class Revoked:
    """A certificate that counts no more: its serial number, since when, and the reason, a key of REASONS."""

    serial: int
    since: datetime.datetime
    reason: str


def check_reason(text: str) -> str:
    """Return `text` if it is a key of REASONS.

    Raises UsageError otherwise.
    """
    if text not in REASONS:
        raise UsageError(f"The reason {text!r} is not one of those there are: {', '.join(REASONS)}.")
    return text


def build(
    signer: Signer,
    revoked: Iterable[Revoked],
    number: int,
    now: datetime.datetime,
    before: x509.CertificateRevocationList | None = None,
) -> x509.CertificateRevocationList:
    """The list of what `signer` has issued and is revoked. `number` must be greater than that of `before`.

    It holds until the signer's own certificate ends. A broker that finds its list out of date refuses every
    client, revoked or not; and since no certificate outlives its issuer, a list cannot end too late.
    """
    begin = now - BACKDATED
    if before is not None:
        # A broker that reads its files again keeps the old list too, and OpenSSL goes by this time, not by
        # the number: of two lists of the same second it takes the one that it knew first.
        begin = max(begin, before.last_update_utc + datetime.timedelta(seconds=1))
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(signer.certificate.subject)
        .last_update(begin)
        .next_update(signer.certificate.not_valid_after_utc)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), False)
    )
    for each in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(each.serial).revocation_date(each.since)
        if each.reason != "unspecified":  # RFC 5280 §5.3.1: said by leaving it out
            entry = entry.add_extension(x509.CRLReason(REASONS[each.reason]), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(signer.key, hashes.SHA256())


def entries(crl: x509.CertificateRevocationList) -> frozenset[Revoked]:
    """What a list says is revoked. An unknown reason counts as unspecified."""
    found = set()
    for entry in crl:
        try:
            flag = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
        except x509.ExtensionNotFound:
            flag = x509.ReasonFlags.unspecified
        reason = next((word for word, each in REASONS.items() if each is flag), "unspecified")
        found.add(Revoked(entry.serial_number, entry.revocation_date_utc, reason))
    return frozenset(found)


def to_pem(crls: Iterable[x509.CertificateRevocationList]) -> bytes:
    """The lists in PEM, one after the other, as Mosquitto's `crlfile` takes them."""
    return b"".join(crl.public_bytes(Encoding.PEM) for crl in crls)


def from_pem(data: bytes) -> tuple[x509.CertificateRevocationList, ...]:
    """The lists of a PEM file.

    Raises ValueError if it is none.
    """
    *blocks, rest = data.split(_END)
    if rest.strip():
        raise ValueError("there is something behind the last list")
    try:
        return tuple(x509.load_pem_x509_crl(block + _END) for block in blocks)
    except MALFORMED as error:
        raise ValueError("one of the lists is malformed") from error
