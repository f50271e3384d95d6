"""What the ledger's lines come to: who has which certificate, what is revoked, who issues and is trusted."""

import base64
import datetime
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from host_tools.ca.ledger import TIME, BrokenLineError, Line
from host_tools.pki.crl import Revoked
from host_tools.pki.malformed import MALFORMED
from host_tools.pki.profiles import bearer

INIT, ISSUE, REVOKE, ROTATE, RETIRE, BACKUP, RESTORE, MENDED = (
    "init", "issue", "revoke", "rotate", "retire-root", "backup", "restore", "mended",
)  # fmt: skip
EVENTS = (INIT, ISSUE, REVOKE, ROTATE, RETIRE, BACKUP, RESTORE, MENDED)
"""The events that the authority writes itself."""

ROOT, ISSUING, NODE, BROKER, CONSOLE, OPERATOR = "root", "issuing", "node", "broker", "console", "operator"
"""The kinds of certificates."""


@dataclass(frozen=True)
class Issued:
    """A certificate that the authority has issued."""

    kind: str
    """`node`, `broker`, `console` or `operator`; `root` and `issuing` are the authority's own."""
    name: str
    """The node id; a broker's names, separated by spaces; else the common name."""
    serial: str
    """Lower-case hex, without leading zeros."""
    fingerprint: str
    """SHA-256 of the DER, in hex."""
    issued: datetime.datetime
    expires: datetime.datetime
    issuer: str
    """The serial of the authority's certificate that signed it; its own for a root."""
    key: str = field(repr=False)
    """SHA-256 of the public key (SubjectPublicKeyInfo), in hex."""
    line: int
    """The number of its line in the ledger."""
    encoded: str = field(repr=False)
    """The certificate, DER in base64."""

    @property
    def der(self) -> bytes:
        """The certificate, DER."""
        return base64.b64decode(self.encoded)

    @property
    def node_id(self) -> str:
        """The name, of a node its id."""
        return self.name

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate, decoded."""
        return x509.load_der_x509_certificate(self.der)


def facts_of(kind: str, certificate: x509.Certificate, issuer: str | None = None) -> dict[str, str]:
    """What a line of the ledger says of a certificate that was just made. A root is its own issuer."""
    der = certificate.public_bytes(Encoding.DER)
    serial = f"{certificate.serial_number:x}"
    return {
        "kind": kind,
        "name": bearer(certificate),
        "serial": serial,
        "fingerprint": hashlib.sha256(der).hexdigest(),
        "expires": certificate.not_valid_after_utc.strftime(TIME),
        "issuer": issuer or serial,
        "key": key_digest(certificate.public_key()),
        "certificate": base64.b64encode(der).decode(),
    }


def key_digest(public: CertificatePublicKeyTypes) -> str:
    """SHA-256 of a public key as SubjectPublicKeyInfo, in hex."""
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


class State:
    """The sum of the lines that were given to `take`, in their order."""

    def __init__(self, lines: Iterable[Line] = ()) -> None:
        self.n = 0
        self.issued: dict[str, Issued] = {}
        """All certificates there ever were, by serial."""
        self.revoked: dict[str, Revoked] = {}
        self.revocations: dict[str, int] = {}
        """The lines of the revocations, by serial."""
        self.roots: list[str] = []
        """Serials of the roots that are trusted, the newest last."""
        self.issuing = ""
        """Serial of the authority that issues now."""
        self.sealer: ec.EllipticCurvePublicKey | None = None
        """Whose key seals the next line."""
        self.saved = 0
        """The line of the last backup; 0 if the keys that are used now are in none."""
        self._nodes: dict[str, list[str]] = {}
        self._keys: dict[str, list[str]] = {}
        for line in lines:
            self.take(line)

    def take(self, line: Line) -> None:
        """Add a line.

        Raises BrokenLineError if it says what cannot be.
        """
        facts = line.facts
        try:
            if line.event == ISSUE:
                self._add(facts, line)
            elif line.event == REVOKE:
                serial = facts["serial"]
                known = self.issued[serial]
                self.revoked[known.serial] = Revoked(int(serial, 16), line.time, facts["reason"])
                self.revocations[known.serial] = line.n
            elif line.event in (INIT, ROTATE):
                if facts.get(ROOT):
                    self.roots.append(self._add(facts[ROOT], line).serial)
                self._set_issuing(self._add(facts[ISSUING], line))
                self.saved = 0
            elif line.event in (BACKUP, RESTORE):
                self.saved = line.n
            elif line.event == RETIRE:
                self.roots.remove(facts["serial"])
        except (*MALFORMED, KeyError, AttributeError):
            raise BrokenLineError("it says what cannot be") from None
        self.n = line.n

    def live(self, node_id: str, now: datetime.datetime) -> tuple[Issued, ...]:
        """The certificates of a node that count, the oldest first."""
        mine = (self.issued[serial] for serial in self._nodes.get(node_id, ()))
        return tuple(each for each in mine if self.counts(each, now))

    def counts(self, certificate: Issued, now: datetime.datetime) -> bool:
        """Whether it is neither revoked nor expired."""
        return certificate.serial not in self.revoked and now < certificate.expires

    def of_key(self, key: str) -> tuple[Issued, ...]:
        """All certificates that were ever issued for a public key, by its digest."""
        return tuple(self.issued[serial] for serial in self._keys.get(key, ()))

    def predecessor(self, serial: str) -> str | None:
        """The serial of the authority of the same kind that came before."""
        kind = self.issued[serial].kind
        same = [each.serial for each in self.issued.values() if each.kind == kind]
        at = same.index(serial)
        return same[at - 1] if at else None

    def root_of(self, certificate: Issued) -> str:
        """The serial of the root that a certificate leads to."""
        while certificate.kind != ROOT:
            certificate = self.issued[certificate.issuer]
        return certificate.serial

    def _set_issuing(self, issuing: Issued) -> None:
        certificate = issuing.certificate
        certificate.verify_directly_issued_by(self.issued[issuing.issuer].certificate)
        public = certificate.public_key()
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise TypeError
        self.issuing, self.sealer = issuing.serial, public

    def _add(self, facts: Mapping[str, Any], line: Line) -> Issued:
        new = Issued(
            kind=facts["kind"],
            name=facts["name"],
            encoded=facts["certificate"],
            serial=facts["serial"],
            fingerprint=facts["fingerprint"],
            issued=line.time,
            expires=datetime.datetime.strptime(facts["expires"], TIME).replace(tzinfo=datetime.UTC),
            issuer=facts["issuer"],
            key=facts["key"],
            line=line.n,
        )
        if new.serial in self.issued:
            raise ValueError
        self.issued[new.serial] = new
        self._keys.setdefault(new.key, []).append(new.serial)
        if new.kind == NODE:
            self._nodes.setdefault(new.name, []).append(new.serial)
        return new
