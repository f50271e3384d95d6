"""The rotation of one node. Whatever happens, the node has an identity that its broker takes.

The old certificate is revoked when the node has proved itself with the new one and has dropped the old one;
the new one is revoked when the node does not have it, or has gone back. In between both are valid, for a node
that went silent there may be on either. Run again, a rotation looks where the node is, and goes on from that.
"""

import base64
import binascii
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from host_tools.ca import CertificateAuthority, Issued
from host_tools.errors import LimpetError, NoDeviceError, RefusedError, UnverifiedError
from host_tools.fleet import Fleet, Node
from host_tools.fleet.record import Fact, utc
from host_tools.pki.partition import certificate_fields
from host_tools.pki.request import check_request
from host_tools.rotation import journal, pieces
from host_tools.rotation.verdict import End, Sight, judge
from host_tools.telemetry.operator import ANSWER_S, NoAnswerError, NodeRefusedError, Operator
from host_tools.telemetry.payload import whole_number

_KEY_S = 180.0  # a node computes its key between its readings
_GLANCE_S = 6.0
_PAUSE_S = 1.0
_EVENT_S = 3.0  # its event may come after its answer


class AsleepError(NoDeviceError):
    """The node is not connected at the moment: it was left alone."""


class WentBackError(UnverifiedError):
    """The node has the identity that it had before, and no other."""


class UndecidedError(LimpetError):
    """The node was given a new identity, and has not said since which one it keeps."""


@dataclass(frozen=True, slots=True)
class _Where:
    """What a node says of its identity."""

    fingerprint: str
    on_trial: bool


class Rotation:
    """The rotation of `node`, which is in service.

    `patience` is how long the node may take to come back with what it was given, and for any answer, in
    seconds. `tell` hears of each step before it begins.
    """

    def __init__(
        self,
        node: Node,
        operator: Operator,
        ca: CertificateAuthority,
        fleet: Fleet,
        patience: float,
        tell: Callable[[str], None],
    ) -> None:
        self._id = node.node_id
        self._node = node
        self._operator = operator
        self._ca = ca
        self._fleet = fleet
        self._patience = patience
        self._tell = tell

    def renew(self) -> Issued:
        """Give the node a new key and a certificate for it; the certificate. Raises LimpetError."""
        now = self._now()
        unfinished = journal.is_unfinished(self._fleet.journal_of(self._id))
        if unfinished and now.fingerprint != self._node.fingerprint:
            return self._finish(now)  # it was interrupted after the node had changed
        self._note(journal.BEGUN, fingerprint=now.fingerprint)
        return self._finish(self._change(now, lambda: self._certify(now)))

    def retrust(self) -> Issued:
        """Give the node the trusted CAs of the authority, and leave it its key. Raises LimpetError.

        It gets another certificate too, if the authority issues under another one by now.
        """
        now = self._now()
        self._ca.keep_only(self._id, now.fingerprint)
        issued = self._change(now, self._recertify)
        self._note(journal.TRUSTED, cas=len(self._ca.trusted))
        return issued if issued == now else self._finish(issued)

    def _now(self) -> Issued:
        """The certificate that the node has, when it is settled on one."""
        if not self._operator.of(self._id).is_up:
            raise AsleepError(f"{self._id} is not connected: rotate it when it is awake.")
        self._tell("identity")
        end = time.monotonic() + self._patience
        where = self._look()
        while where.on_trial:
            if time.monotonic() > end:
                raise UndecidedError(f"{self._id} is still trying a new identity: rotate it later.")
            self._operator.pause(_PAUSE_S)
            where = self._look()
        for each in self._ca.live(self._id):
            if each.fingerprint == where.fingerprint:
                return each
        raise RefusedError(
            f"{self._id} has a certificate that this authority has not issued, or has revoked "
            f"({where.fingerprint[:16]}…): provision it anew."
        )

    def _change(self, now: Issued, certify: Callable[[], Issued]) -> Issued:
        """Have the node use another certificate, or the same one beside other trusted CAs."""
        try:
            issued = certify()
            self._hand_over(now, (issued.der, *self._ca.chain))
        except LimpetError as error:
            self._give_up(now, error)
            raise
        # From here on the new certificate may be all that it has. Only its own word that it went back counts.
        try:
            self._prove(now.fingerprint, issued.fingerprint)
        except WentBackError as error:
            self._give_up(now, error)
            raise
        return issued

    def _certify(self, now: Issued) -> Issued:
        self._tell("key")
        answer = self._ask(b"key", _KEY_S)
        csr = _csr(self._id, answer)
        public = check_request(csr, self._id)
        self._sequence = _sequence(self._id, answer)
        self._tell("certificate")
        if any(each != now and each.certificate.public_key() != public for each in self._ca.live(self._id)):
            self._ca.keep_only(self._id, now.fingerprint)  # an attempt whose key the node has lost
        issued = self._ca.issue_node(csr, self._id, overlap=True)
        self._note(journal.CERTIFICATE, serial=issued.serial, fingerprint=issued.fingerprint)
        return issued

    def _recertify(self) -> Issued:
        self._tell("key")
        self._sequence = _sequence(self._id, self._ask(b"key same", _KEY_S))
        self._tell("certificate")
        return self._ca.renew_node(self._id)

    def _hand_over(self, now: Issued, chain: tuple[bytes, ...]) -> None:
        self._tell("install")
        fields = certificate_fields(chain, self._ca.trusted)
        self._data = self._ca.endorse(now, self._sequence, fields)
        for command, at in pieces.put(self._data, self._operator.room(self._id)):
            if self._ask(command).get("at") != at:
                raise UnverifiedError(f"{self._id} did not keep what it was given: try again.")

    def _prove(self, old: str, new: str) -> None:
        """See that the node comes with the certificate `new`, and keeps it.

        Raises WentBackError if it does not, UndecidedError if that cannot be told.
        """
        self._tell("proof")
        self._note(journal.USE, fingerprint=new)
        before = self._operator.of(self._id)
        end = time.monotonic() + self._patience
        taken, refusal = self._say_use()
        while time.monotonic() < end:
            where = self._glance()
            if where:
                heard = self._operator.of(self._id)
                sight = Sight(
                    where.fingerprint,
                    where.on_trial,
                    heard.certificate,
                    heard.abouts > before.abouts,
                    heard.verdict if heard.verdicts > before.verdicts else "",
                    taken,
                    refusal,
                )
                match judge(old, new, sight):
                    case End.KEPT:
                        return
                    case End.BACK:
                        raise WentBackError(refusal or self._why_back(before.verdicts))
            self._operator.pause(_PAUSE_S)
        raise UndecidedError(
            f"{self._id} was given its new certificate and has not settled on it within "
            f"{self._patience:.0f} s: that and the old one stay valid until you rotate it again."
        )

    def _say_use(self) -> tuple[bool, str]:
        """Whether the node says that it takes it, or why it cannot. What counts is what it has then."""
        try:
            self._ask(pieces.use(self._data))
        except NodeRefusedError as error:
            return False, str(error)
        except NoAnswerError:
            return False, ""  # it may have changed already: the answer was lost with the session
        return True, ""

    def _why_back(self, verdicts: int) -> str:
        def told() -> str | None:
            heard = self._operator.of(self._id)
            return heard.verdict if heard.verdicts > verdicts else None

        why = self._operator.wait(told, _EVENT_S) or "it does not say why"
        return f"{self._id} went back to what it had: {why}."

    def _finish(self, issued: Issued) -> Issued:
        self._tell("revoke")
        self._ca.keep_only(self._id, issued.fingerprint)
        self._ca.note("rotated", node=self._id, serial=issued.serial, fingerprint=issued.fingerprint)
        self._fleet.seen(self._id, datetime.now(UTC))
        self._fleet.rotated(self._id, issued.serial, issued.fingerprint, utc(issued.expires))
        return issued

    def _give_up(self, now: Issued, error: LimpetError) -> None:
        revoked = self._ca.keep_only(self._id, now.fingerprint)
        self._note(journal.FAILED, why=str(error), revoked=" ".join(each.serial for each in revoked))

    def _look(self, seconds: float = ANSWER_S) -> _Where:
        answer = self._ask(b"identity", seconds)
        fingerprint = answer.get("fingerprint")
        if not isinstance(fingerprint, str) or not fingerprint.isalnum():
            raise UnverifiedError(f"{self._id} does not say which certificate it has: try again.")
        return _Where(fingerprint, answer.get("trial") is not False)

    def _glance(self) -> _Where | None:
        try:
            return self._look(_GLANCE_S)
        except (NoAnswerError, NodeRefusedError, UnverifiedError):
            return None

    def _ask(self, command: bytes, seconds: float = ANSWER_S) -> dict[str, Any]:
        return self._operator.ask(self._id, command, min(seconds, self._patience))

    def _note(self, step: str, **facts: Fact) -> None:
        self._fleet.note(self._node.mac, self._id, step, **facts)


def _sequence(node_id: str, answer: dict[str, Any]) -> int:
    sequence = whole_number(answer.get("sequence"))
    if sequence is None or sequence >= 2**32:
        raise UnverifiedError(f"{node_id} does not say which identity its key is for: try again.")
    return sequence


def _csr(node_id: str, answer: dict[str, Any]) -> bytes:
    try:
        return base64.b64decode(str(answer.get("csr")), validate=True)
    except binascii.Error:
        raise UnverifiedError(f"{node_id} has sent no certificate request: try again.") from None
