"""The certificate authority of a project: what it issues and revokes, and what it lets others write down."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from host_tools.ca import birth, rotation
from host_tools.ca import state as kinds
from host_tools.ca.backup import Backup, restore_backup, write_backup
from host_tools.ca.ledger import Line
from host_tools.ca.opened import Opened
from host_tools.ca.passphrase import Unlock
from host_tools.ca.state import Issued
from host_tools.errors import LimpetError, RefusedError, UsageError
from host_tools.pki import crl, endorsement, names, profiles
from host_tools.pki.credential import Credential
from host_tools.pki.partition import Identity
from host_tools.pki.profiles import Clock, Signer, utc_now
from host_tools.pki.request import check_request

_OPERATOR_LIFETIME = profiles.BACKDATED + datetime.timedelta(hours=1)
_MOST_DAYS = 1826
_MOST_LIVE = 2  # certificates of a node, while it rotates


class CertificateAuthority(Opened):
    """An authority that is open: `with CertificateAuthority.open(folder, unlock) as ca`."""

    @classmethod
    def init(
        cls,
        path: Path,
        unlock: Unlock,
        backup: Path,
        *,
        organisation: str | None = None,
        root_uri: str | None = None,
        issuing_uri: str | None = None,
        now: Clock = utc_now,
    ) -> Backup:
        """Make an authority in the folder `path`, and its first backup; see `birth.create`."""
        return birth.create(
            path,
            unlock,
            backup,
            organisation=organisation,
            root_uri=root_uri,
            issuing_uri=issuing_uri,
            now=now,
        )

    @classmethod
    def restore(cls, file: Path, path: Path, unlock: Unlock, *, now: Clock = utc_now) -> Backup:
        """Put the authority in the backup `file` into the folder `path`, and write that down.

        What was issued after the backup is not in it. Raises LimpetError and RefusedError as `open` does, and
        if `file` is no backup or `path` is not empty.
        """
        restored = restore_backup(file, path, unlock)
        with cls.open(path, unlock, now=now) as ca, ca.acting():
            ca.write(kinds.RESTORE, birth.backup_facts(file))
        return restored

    @property
    def trusted(self) -> tuple[bytes, ...]:
        """The roots that nodes and brokers are to trust, DER, the newest last."""
        return tuple(self.state.issued[serial].der for serial in self.state.roots)

    @property
    def chain(self) -> tuple[bytes, ...]:
        """What stands between a certificate that is issued now and its root, DER."""
        return (self.state.issued[self.state.issuing].der,)

    # -- issue ---------------------------------------------------------------------------------------------

    def issue_node(
        self,
        csr: bytes,
        node_id: str,
        *,
        days: int | None = None,
        replace: bool = False,
        overlap: bool = False,
    ) -> Issued:
        """The certificate for the node `node_id` by its request, DER or PEM.

        The same key gets the same certificate again, as long as that is live and its authority the one that
        issues now. A node has one live certificate: where another key has one, `replace` revokes it as
        superseded, and `overlap` lets it live on beside the new one, for a rotation; `keep_only` ends that.
        Raises RefusedError if there is another and neither was said, or the key was used before by another
        node or revoked as compromised; LimpetError if the request is not as it must be.
        """
        public = check_request(csr, node_id)
        with self.acting():
            return self._node(public, node_id, days, replace=replace, overlap=overlap)

    def issue_node_key(self, node_id: str, *, days: int | None = None, replace: bool = False) -> Identity:
        """A whole identity with a new key, in memory alone, for a board that does not make its key itself.

        Raises RefusedError if the node has a live certificate and `replace` was not said, LimpetError if the
        id is not valid.
        """
        names.check_node_id(node_id)
        key = ec.generate_private_key(ec.SECP256R1())
        with self.acting():
            issued = self._node(key.public_key(), node_id, days, replace=replace, overlap=False)
            return Identity(
                node_id=node_id,
                key=key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
                chain=(issued.der, *self.chain),
                cas=self.trusted,
            )

    def renew_node(self, node_id: str, *, days: int | None = None) -> Issued:
        """A certificate for the key that the node's newest live certificate has, beside that.

        That one again, if the authority that issues now has issued it and half of its time is to come.
        Raises RefusedError if the node has no live certificate.
        """
        with self.acting():
            live = self.live(node_id)
            if not live:
                raise RefusedError(f"The node {node_id} has no live certificate: provision it first.")
            newest = live[-1]
            left = newest.expires - self.now()
            if newest.issuer == self.state.issuing and 2 * left >= newest.expires - newest.issued:
                return newest
            public = newest.certificate.public_key()
            if not isinstance(public, ec.EllipticCurvePublicKey):
                raise LimpetError(f"The node {node_id} has no key on the curve P-256: provision it anew.")
            self._check_room(node_id, live, replace=False, overlap=True)
            signer = self._signer()
            made = profiles.node(signer, node_id, public, self.now(), _lifetime(days))
            return self._record(kinds.NODE, made, signer)

    def issue_broker(self, hosts: Sequence[str], *, days: int | None = None) -> Credential:
        """A new key and a certificate for a broker that is reached by `hosts`, host names or IP addresses.

        As long as an older root is trusted beside the newest, the certificate leads to the oldest: there may
        be nodes that trust no other.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        with self.acting():
            signer = self._signer_for_brokers()
            made = profiles.broker(signer, hosts, key.public_key(), self.now(), _lifetime(days))
            self._record(kinds.BROKER, made, signer)
            return Credential(key, made, (signer.certificate,))

    def issue_client(
        self, kind: Literal["console", "operator"], name: str = "console", *, days: int | None = None
    ) -> Credential:
        """A new key and a certificate for a console called `name`, or for the operator, which lasts an hour.

        Raises LimpetError if the name is not valid.
        """
        if kind == "operator":
            common_name, uri, lifetime = names.OPERATOR, names.OPERATOR_URI, _OPERATOR_LIFETIME
        else:
            common_name, lifetime = names.console_name(name), _lifetime(days)
            uri = names.console_uri(common_name)
        key = ec.generate_private_key(ec.SECP256R1())
        with self.acting():
            signer = self._signer()
            made = profiles.client(signer, common_name, uri, key.public_key(), self.now(), lifetime)
            self._record(kind, made, signer)
            return Credential(key, made, (signer.certificate,))

    def endorse(self, present: Issued, sequence: int, fields: bytes) -> bytes:
        """The fields of an identity (`partition.certificate_fields`) with the endorsement behind them.

        It lets the node that has the certificate `present` take them over the network, as its identity with
        that sequence. It is signed with the key that signed `present`, be its authority a former one by now.
        Raises RefusedError if `present` is not live, LimpetError if that key is not there.
        """
        with self.acting():
            if present not in self.live(present.name):
                raise RefusedError(
                    f"The certificate that the node {present.name} has is not live: provision it anew."
                )
            key = self.signer(present.issuer).key
            return endorsement.endorse(
                key, bytes.fromhex(present.fingerprint), sequence, present.name, fields
            )

    # -- revoke and tell -----------------------------------------------------------------------------------

    def revoke(self, what: str, reason: str) -> tuple[Issued, ...]:
        """Revoke all live certificates of a node, or the one with this serial number; the CRL has them then.

        The serial of an issuing authority that was rotated out revokes all that it has issued, and itself.
        `reason` is a key of `pki.crl.REASONS`. What is revoked already stays as it is: the result has what
        was revoked now. Raises LimpetError if there is no such node, serial or reason.
        """
        crl.check_reason(reason)
        with self.acting():
            now = self.now()
            live = [each for each in self._named(what) if self.state.counts(each, now)]
            return self._revoke(live, reason)

    def keep_only(self, node_id: str, fingerprint: str) -> tuple[Issued, ...]:
        """End a rotation: of the node's live certificates only the one with this fingerprint stays.

        Raises LimpetError if it has no live certificate with that.
        """
        with self.acting():
            live = self.live(node_id)
            if all(each.fingerprint != fingerprint for each in live):
                raise LimpetError(
                    f"The node {node_id} has no live certificate with the fingerprint {fingerprint}: "
                    "see 'limpet ca list'."
                )
            return self._revoke([each for each in live if each.fingerprint != fingerprint], "superseded")

    def live(self, node_id: str) -> tuple[Issued, ...]:
        """The certificates of a node that are neither revoked nor expired, the oldest first."""
        return self.state.live(node_id, self.now())

    def note(self, event: str, **facts: Any) -> Line:
        """Write a line about something that was done elsewhere: `in-service`, `decommission`, …

        Raises ValueError for the authority's own events and fields, TypeError for facts that are no JSON.
        """
        if event in kinds.EVENTS:
            raise ValueError(f"'{event}' is the authority's own")
        with self.acting():
            return self.write(event, facts)

    # -- the authority itself --------------------------------------------------------------------------------

    def backup(self, file: Path) -> Backup:
        """Write all of the authority to `file`, encrypted, and read it back.

        Raises RefusedError if `file` is there or inside the folder, LimpetError if it cannot be written.
        """
        with self.acting():
            return self._backup(file)

    def rotate(
        self,
        backup: Path,
        *,
        root: bool = False,
        root_uri: str | None = None,
        issuing_uri: str | None = None,
    ) -> Backup:
        """Make the next issuing authority, with `root` under a new root, and a backup that has its keys.

        What the old one has issued stays valid. Raises LimpetError if the root's key is not there or the root
        is out of date, RefusedError for a backup that is in the way.
        """
        birth.check_backup(self.folder.path, backup)
        with self.acting():
            rotation.rotate(self, root=root, root_uri=root_uri, issuing_uri=issuing_uri)
            return self._backup(backup)

    def retire_root(self) -> tuple[Issued, ...]:
        """Trust the oldest root no more, when no node has its live certificate under it.

        The result is what else is live under it: brokers and consoles, which need new certificates. Raises
        RefusedError if there is one root alone, or nodes are left.
        """
        with self.acting():
            return rotation.retire(self)

    # -- how -----------------------------------------------------------------------------------------------

    def _node(
        self,
        public: ec.EllipticCurvePublicKey,
        node_id: str,
        days: int | None,
        *,
        replace: bool,
        overlap: bool,
    ) -> Issued:
        lifetime = _lifetime(days)
        same = self.state.of_key(kinds.key_digest(public))
        now = self.now()
        for each in same:
            if (each.kind, each.name) != (kinds.NODE, node_id):
                raise RefusedError(
                    f"The key in the request of node {node_id} is that of {each.kind} {each.name}: "
                    "let the node make a key of its own."
                )
            if (
                each.serial in self.state.revoked
                and self.state.revoked[each.serial].reason == "key-compromise"
            ):
                raise RefusedError(
                    f"The key of node {node_id} was revoked as compromised: let the node make a new one."
                )
        live = self.live(node_id)
        mine = [each for each in live if each in same]
        issued = next((each for each in mine if each.issuer == self.state.issuing), None)
        if issued is None:
            others = [each for each in live if each not in mine]
            self._check_room(node_id, live if overlap else others, replace=replace, overlap=overlap)
            signer = self._signer()
            made = profiles.node(signer, node_id, public, now, lifetime)
            issued = self._record(kinds.NODE, made, signer)
        gone = live if replace else [] if overlap else mine
        self._revoke([each for each in gone if each != issued], "superseded")
        return issued

    def _check_room(self, node_id: str, live: Sequence[Issued], *, replace: bool, overlap: bool) -> None:
        if not live or replace:
            return
        if not overlap:
            raise RefusedError(
                f"The node {node_id} has a live certificate ({live[-1].serial}, until "
                f"{live[-1].expires:%Y-%m-%d}): rotate it, replace the node, or revoke that first."
            )
        if len(live) >= _MOST_LIVE:
            raise RefusedError(
                f"The node {node_id} has {len(live)} live certificates already: "
                f"revoke the one that it does not use ({', '.join(each.serial for each in live)})."
            )

    def _signer(self) -> Signer:
        """The authority that issues now.

        Raises LimpetError if it is out of date, RefusedError if its key is in no backup.
        """
        now = self.now()
        issuing = self.state.issued[self.state.issuing]
        if now >= issuing.expires:
            raise LimpetError(
                f"The issuing authority in {self.folder.path} expired on {issuing.expires:%Y-%m-%d}: "
                "make the next one with 'limpet ca rotate'."
            )
        if not self.state.saved:
            raise RefusedError(
                f"The keys of the authority in {self.folder.path} are in no backup: "
                "make one with 'limpet ca backup' before it issues anything."
            )
        return self.signer(self.state.issuing)

    def _signer_for_brokers(self) -> Signer:
        newest, now = self._signer(), self.now()
        oldest = [
            each.serial
            for each in self.state.issued.values()
            if each.kind == kinds.ISSUING
            and each.issuer == self.state.roots[0]
            and self.state.counts(each, now)
        ]
        return self.signer(oldest[-1]) if oldest else newest

    def _backup(self, file: Path) -> Backup:
        written = write_backup(self.folder.path, file, self.unlock)
        self.write(kinds.BACKUP, birth.backup_facts(file))
        return written

    def _record(self, kind: str, made: x509.Certificate, signer: Signer) -> Issued:
        facts = kinds.facts_of(kind, made, f"{signer.certificate.serial_number:x}")
        self.write(kinds.ISSUE, facts)
        return self.state.issued[facts["serial"]]

    def _revoke(self, which: Sequence[Issued], reason: str) -> tuple[Issued, ...]:
        for each in which:
            facts = {"kind": each.kind, "name": each.name, "serial": each.serial, "reason": reason}
            self.write(kinds.REVOKE, facts)
        return tuple(which)

    def _named(self, what: str) -> list[Issued]:
        everything = self.state.issued.values()
        found = [each for each in everything if (each.kind, each.name) == (kinds.NODE, what)]
        if found:
            return found
        one = self.state.issued.get(what.replace(":", "").lower().lstrip("0"))  # as OpenSSL writes it, too
        if one is None:
            raise LimpetError(f"There is no node and no certificate {what!r}: see 'limpet ca list --all'.")
        if one.kind == kinds.ROOT or one.serial == self.state.issuing:
            raise RefusedError(
                f"{one.name} is the authority itself: rotate it first, see 'limpet ca rotate --help'."
            )
        if one.kind == kinds.ISSUING:  # brokers look at the list of a client's own issuer alone
            return [*(each for each in everything if each.issuer == one.serial), one]
        return [one]


def _lifetime(days: int | None) -> datetime.timedelta:
    if days is None:
        return profiles.LIFETIME
    if not 1 <= days <= _MOST_DAYS:
        raise UsageError(f"A certificate cannot last {days} days: use 1 to {_MOST_DAYS}.")
    return datetime.timedelta(days=days) + profiles.BACKDATED
