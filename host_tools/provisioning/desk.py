"""What boards side by side have in common: the authority, the fleet record, and which board is which node."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from host_tools.ca import CertificateAuthority, Issued
from host_tools.ca.inspection import public
from host_tools.errors import RefusedError
from host_tools.flashing.guards import Found
from host_tools.fleet import Fleet, Node, Record
from host_tools.pki import partition
from host_tools.provisioning.factory import is_without_board
from host_tools.provisioning.naming import is_done, refusal
from host_tools.provisioning.order import Order
from host_tools.provisioning.steps import DETECT, GUARD, Ready, ready

_SERVES = "in-service"


@dataclass
class Admission:
    """A board that may become a node."""

    node_id: str
    mac: str
    done: bool = False
    """It is this node already, and in service."""
    ready: Ready | None = None
    """It lacks nothing but its proof."""
    issued: Issued | None = None
    """The certificate that it has, or that is made for it here."""
    identity: bytes | None = field(default=None, repr=False)
    """The content of its identity partition, when its key was made here."""
    revoked: tuple[Issued, ...] = ()
    """Certificates that were revoked for it."""


class Desk:
    """Threads share it. Everything raises LimpetError when the authority or the record cannot do it."""

    def __init__(self, order: Order, ca: CertificateAuthority, fleet: Fleet) -> None:
        self._order = order
        self.ca = ca
        self.fleet = fleet
        self._lock = threading.Lock()
        self._ports: dict[str, str] = {}

    def admit(self, port: str, location: str, found: Found) -> Admission:
        """Decide whether a board may be provisioned, and as which node; the id is taken for it then.

        Raises RefusedError.
        """
        naming, mac = self._order.naming, found.mac
        with self._lock:
            other = self._ports.setdefault(mac, port)
            if other != port:
                raise RefusedError(
                    f"{port}: it is the board on {other} as well ({mac}): name each board once."
                )
            holder = self.fleet.node_of(mac)
            if reason := refusal(holder, naming):
                raise RefusedError(f"{port}: {reason}")
            if is_done(holder, naming):
                assert holder is not None
                if not self._live(holder.node_id):
                    raise RefusedError(
                        f"{port}: it is '{holder.node_id}', whose certificate is revoked or has expired: "
                        f"give it another one by --replace {holder.node_id}, or decommission it."
                    )
                return Admission(holder.node_id, mac, done=True)
            if holder is None and (serves := self._in_ledger(mac)) and serves != naming.replace:
                raise RefusedError(
                    f"{port}: by the authority's ledger it is '{serves}' ({mac}), in service, and this fleet "
                    f"record does not know it: name the right --fleet, or provision it by --replace {serves}."
                )
            self.fleet.note(mac, holder.node_id if holder else "", DETECT, chip=found.chip, location=location)
            return self._taken(port, mac, holder)

    def leave(self, port: str) -> None:
        """The board on this port is done with, and may come again on another."""
        with self._lock:
            self._ports = {mac: each for mac, each in self._ports.items() if each != port}

    def issue(self, admission: Admission, request: bytes) -> Issued:
        """The certificate for a board's own key. One of another key for this node is revoked."""
        with self._lock:
            before = self.ca.live(admission.node_id)
            issued = self.ca.issue_node(request, admission.node_id, replace=True)
            admission.revoked = _gone(before, issued)
        return issued

    def issue_key(self, admission: Admission) -> None:
        """Make the key, the certificate, and the content of the identity partition; in memory alone."""
        with self._lock:
            before = self.ca.live(admission.node_id)
            identity = self.ca.issue_node_key(admission.node_id, replace=True)
            [issued] = self.ca.live(admission.node_id)
            admission.revoked = _gone(before, issued)
        admission.issued = issued
        admission.identity = partition.encode(identity)

    def has(self, node_id: str, fingerprint: str | None) -> Issued | None:
        """The live certificate of this node that has this fingerprint."""
        return next((each for each in self._live(node_id) if each.fingerprint == fingerprint), None)

    def serve(self, record: Record, moment: Callable[[str], None], *, again: bool) -> None:
        """The node has proved itself: in the ledger first, then in the fleet record.

        `again`: an earlier run may have come so far.
        """
        with self._lock:
            if not (again and self._is_in_ledger(record)):
                self.ca.note(
                    _SERVES,
                    node=record.node_id,
                    mac=record.mac,
                    serial=record.serial,
                    fingerprint=record.fingerprint,
                    image=record.image,
                    first_publish=record.first_publish,
                )
        moment("in service: in the ledger")
        self.fleet.in_service(record)

    def _services(self) -> list[Mapping[str, Any]]:
        """What the ledger says of the nodes that came into service, the oldest first."""
        return [line.facts for line in public(self.ca.folder.path).lines if line.event == _SERVES]

    def _is_in_ledger(self, record: Record) -> bool:
        return any(facts.get("fingerprint") == record.fingerprint for facts in self._services())

    def _in_ledger(self, mac: str) -> str | None:
        """The node that a board is by the ledger: it came into service here last, and still counts."""
        boards = {str(facts.get("node")): facts.get("mac") for facts in self._services()}
        return next((node for node, board in boards.items() if board == mac and self._live(node)), None)

    def _live(self, node_id: str) -> tuple[Issued, ...]:
        """The certificates of a node that count, whoever has issued or revoked them."""
        with self.ca.acting():
            return self.ca.live(node_id)

    def _taken(self, port: str, mac: str, holder: Node | None) -> Admission:
        naming = self._order.naming
        if holder is not None:
            node_id = holder.node_id
        else:
            node_id = naming.node_id or naming.replace or self.fleet.next_id(naming.pattern or "")
            adopted = self._is_image(node_id)
            if not adopted:
                self._check_free(port, node_id)
            if naming.pattern is None:
                self.fleet.claim(mac, node_id, replace=adopted or naming.replace is not None)
            else:
                node_id = self.fleet.claim_next(mac, naming.pattern)
        found = None if naming.replace == node_id else self._ready(mac, node_id)
        issued = self.has(node_id, found.fingerprint) if found else None
        self.fleet.note(mac, node_id, GUARD, ready=issued is not None)
        return Admission(node_id, mac, ready=found if issued else None, issued=issued)

    def _is_image(self, node_id: str) -> bool:
        """Whether this node is a factory image, for which no board is known yet."""
        known = self.fleet.node(node_id)
        return known is not None and not known.is_retired and is_without_board(known.mac)

    def _check_free(self, port: str, node_id: str) -> None:
        naming = self._order.naming
        live, known = self._live(node_id), self.fleet.node(node_id)
        if naming.replace is None and live and known is None:
            raise RefusedError(
                f"{port}: the authority has issued a certificate for '{node_id}' that is valid until "
                f"{live[-1].expires:%Y-%m-%d}, and the fleet record has no such node: take another id, or "
                f"--replace {node_id}, which revokes it."
            )
        if naming.replace is not None and not live and known is None:
            raise RefusedError(
                f"{port}: there is no node '{node_id}' that could be replaced: `limpet fleet list` shows "
                "those that there are; a new one is named by --id."
            )

    def _ready(self, mac: str, node_id: str) -> Ready | None:
        """What the board has, if image and settings are what it should have."""
        found = ready(self.fleet.journal(mac), node_id)
        if found is None:
            return None
        is_current = (found.image, found.settings) == (self._order.image.sha256, self._order.settings_digest)
        return found if is_current else None


def _gone(before: Sequence[Issued], issued: Issued) -> tuple[Issued, ...]:
    return tuple(each for each in before if each.serial != issued.serial)
