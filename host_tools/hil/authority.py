"""A run's own throw-away authority: it issues what is right, and on purpose what is wrong."""

import datetime
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from host_tools.errors import UsageError
from host_tools.pki import crl
from host_tools.pki.authority import CA_CERTIFICATE, CA_KEY, Authority
from host_tools.pki.credential import Credential
from host_tools.pki.crl import Revoked
from host_tools.pki.partition import Identity
from host_tools.pki.profiles import LIFETIME, utc_now
from host_tools.telemetry.subscriber import TlsFiles

ServerKind = Literal["good", "expired", "not-yet-valid", "wrong-name", "wrong-usage", "unknown-ca"]
"""How a broker's certificate can be. `wrong-usage` is right but for being a client's."""

NodeKind = Literal[
    "good", "expired", "not-yet-valid", "wrong-name", "wrong-usage", "wrong-key", "unknown-ca", "wrong-trust"
]
"""How a node's identity can be. `wrong-usage` is right but for being a server's, `wrong-key` has a key of
which the certificate does not speak, `wrong-trust` one that trusts another authority than the broker's."""

_NOT_YET = datetime.timedelta(days=30)
_OVER = LIFETIME + datetime.timedelta(days=75)
_WRONG_NAME = "another.example"
_WRONG_NODE = "another-node"


class RunAuthority:
    """A new authority in `folder`, of mode 0700. Its key is never anywhere else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._authority = Authority.create(folder)
        self._issued: dict[str, list[int]] = defaultdict(list)
        self.ca = folder / CA_CERTIFICATE
        """Its certificate (PEM)."""

    @cached_property
    def _stranger(self) -> Authority:
        return Authority.create(self.folder / "stranger")

    def server(self, names: Sequence[str], kind: ServerKind = "good") -> Credential:
        """A broker's credential. Raises UsageError for a kind that there is not."""
        _check_kind(kind, get_args(ServerKind))
        if kind == "unknown-ca":
            return self._stranger.issue_broker(names)
        if kind == "wrong-name":
            names = [_WRONG_NAME]
        good = self._authority.issue_broker(names, now=_issued_at(kind))
        if kind == "wrong-usage":
            return Credential(good.key, self._with_usage(good.certificate, ExtendedKeyUsageOID.CLIENT_AUTH))
        return good

    def identity(self, node_id: str, kind: NodeKind = "good") -> Identity:
        """A node's identity, with a key of its own. Raises UsageError for a kind that there is not."""
        _check_kind(kind, get_args(NodeKind))
        good = self._authority.issue_node(node_id, now=_issued_at(kind))
        if kind == "unknown-ca":
            made = replace(self._stranger.issue_node(node_id), cas=good.cas)
        elif kind == "wrong-trust":
            made = replace(good, cas=self._stranger.issue_node(node_id).cas)
        elif kind == "wrong-key":
            made = replace(good, key=self._authority.issue_node(node_id).key)
        elif kind == "wrong-name":
            made = replace(self._authority.issue_node(_WRONG_NODE), node_id=node_id)
        elif kind == "wrong-usage":
            own = x509.load_der_x509_certificate(good.chain[0])
            server = self._with_usage(own, ExtendedKeyUsageOID.SERVER_AUTH)
            made = replace(good, chain=(server.public_bytes(Encoding.DER),))
        else:
            made = good
        self._issued[node_id].append(x509.load_der_x509_certificate(made.chain[0]).serial_number)
        return made

    def console(self, name: str) -> TlsFiles:
        """The files of one who watches all nodes, as `limpet.<name>`."""
        stem = f"console-{name}"
        certificate = self.folder / f"{stem}.crt"
        if not certificate.exists():
            self._authority.issue_console(name).save(self.folder, stem)
        return TlsFiles(self.ca, certificate, self.folder / f"{stem}.key")

    def issued(self, node_id: str) -> list[int]:
        """The serial numbers of all certificates that were issued for this node."""
        return self._issued[node_id][:]

    def revocation_list(self, serials: Collection[int]) -> bytes:
        """A CRL with these serial numbers (PEM). Nothing is remembered: a list is for one broker."""
        revoked = [Revoked(serial, utc_now(), "key-compromise") for serial in serials]
        return crl.to_pem([self._authority.revocation_list(revoked, len(revoked) + 1)])

    def _with_usage(self, certificate: x509.Certificate, usage: x509.ObjectIdentifier) -> x509.Certificate:
        """The same certificate, but for this extended key usage alone."""
        key = load_pem_private_key((self.folder / CA_KEY).read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        builder = x509.CertificateBuilder(
            certificate.issuer,
            certificate.subject,
            certificate.public_key(),
            certificate.serial_number,
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
        )
        for each in certificate.extensions:
            changed = isinstance(each.value, x509.ExtendedKeyUsage)
            value = x509.ExtendedKeyUsage([usage]) if changed else each.value
            builder = builder.add_extension(value, each.critical)
        return builder.sign(key, hashes.SHA256())


def _issued_at(kind: str) -> datetime.datetime:
    return utc_now() + {"expired": -_OVER, "not-yet-valid": _NOT_YET}.get(kind, datetime.timedelta())


def _check_kind(kind: str, kinds: Sequence[str]) -> None:
    if kind not in kinds:
        raise UsageError(f"There is no certificate of the kind {kind!r}: use one of {', '.join(kinds)}.")
