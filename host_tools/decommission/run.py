"""Decommissioning, step by step. Wherever it is cut off, the same command does the rest.

The certificates go first: from then on the node is nobody, whatever happens to its board. The fleet record
has the node as retired last: until then it is found by its board.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from host_tools.ca import CertificateAuthority
from host_tools.decommission.guards import Target, target
from host_tools.decommission.wipe import Proof, check_dump, wipe
from host_tools.errors import LimpetError, RefusedError
from host_tools.esp.chip import connect
from host_tools.fleet import Fleet

_RETIRED = "cessation-of-operation"
_LOST = "key-compromise"  # who has the board may have its key


class Show(Protocol):
    """Where the user sees how far it is, and is asked."""

    def step(self, name: str) -> None: ...

    def progress(self, done: int, total: int) -> None: ...

    def confirm(self, target: Target, lost: bool) -> bool: ...


@dataclass(frozen=True, slots=True)
class Done:
    """What was done."""

    target: Target
    revoked: tuple[str, ...]
    """Serial numbers of the certificates that were revoked now."""
    proof: Proof | None
    """Of the erased flash; None for a board that is lost."""

    def values(self) -> dict[str, Any]:
        """As --json has it."""
        return {
            "node_id": self.target.node_id,
            "mac": self.target.mac,
            "revoked": list(self.revoked),
            "erased": self.proof.size if self.proof else None,
            "sha256": self.proof.sha256 if self.proof else None,
        }


def decommission(
    port: str,
    node_id: str | None,
    fleet: Fleet,
    authority: Callable[[], CertificateAuthority],
    bauds: Sequence[int],
    dump: Path | None,
    show: Show,
) -> Done:
    """Decommission the node that the board on `port` is; `authority` is called when all guards have passed.

    Raises RefusedError when a guard or the user refuses: the board keeps what it has, and runs on.
    """
    if dump is not None:
        check_dump(dump)
    show.step("asking the board who it is")
    with connect(port) as chip:
        try:
            mac = chip.mac
            found = target(port, mac, fleet.node_of(mac), fleet.journal(mac) if mac else [], node_id)
            if not show.confirm(found, False):
                raise RefusedError(f"{port}: not confirmed; '{found.node_id}' is as it was.")
            ca = authority()
        except LimpetError:
            chip.reset()
            raise
    fleet.note(found.mac, found.node_id, "decommission begun")
    revoked = _revoke(found, ca, _RETIRED, show) if found.is_current else ()
    proof = wipe(port, found.mac, bauds, dump, show.step, show.progress)
    ca.note("decommission", node=found.node_id, mac=found.mac, erased=proof.size, sha256=proof.sha256)
    fleet.note(found.mac, found.node_id, "erased", size=proof.size, sha256=proof.sha256)
    if found.is_current:
        fleet.retire(found.node_id, "decommissioned")
    return Done(found, revoked, proof)


def write_off(node_id: str, fleet: Fleet, authority: Callable[[], CertificateAuthority], show: Show) -> Done:
    """Decommission a node whose board is gone: its certificates are revoked, and nothing can be erased.

    Raises RefusedError when the user refuses or it is retired already.
    """
    node = fleet.known(node_id)
    if node.is_retired:
        raise RefusedError(f"The node '{node_id}' was retired on {node.retired_at[:10]}: {node.reason}.")
    found = Target(node_id, node.mac, is_current=True)
    if not show.confirm(found, True):
        raise RefusedError(f"Not confirmed; '{node_id}' is as it was.")
    ca = authority()
    revoked = _revoke(found, ca, _LOST, show)
    ca.note("decommission", node=node_id, mac=node.mac, lost=True)
    fleet.retire(node_id, "lost")
    return Done(found, revoked, None)


def _revoke(found: Target, ca: CertificateAuthority, reason: str, show: Show) -> tuple[str, ...]:
    live = ca.live(found.node_id)
    if not live:
        return ()
    show.step("revoking")
    return tuple(each.serial for each in ca.revoke(found.node_id, reason))
