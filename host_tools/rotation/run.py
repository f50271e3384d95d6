"""Rotating many nodes: some side by side, and none stops the others."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from host_tools import errors
from host_tools.ca import CertificateAuthority
from host_tools.fleet import Fleet, Node
from host_tools.fleet.record import utc
from host_tools.rotation.node import AsleepError, Rotation
from host_tools.telemetry.operator import Operator


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended for a node."""

    node_id: str
    before: str
    """Fingerprint of the certificate that the record had."""
    fingerprint: str = ""
    """That of the one which it has now; empty when it failed."""
    expires: str = ""
    error: str | None = None
    exit_code: int = errors.DONE
    skipped: bool = False
    """It was not connected, and nothing was done."""

    def values(self) -> dict[str, Any]:
        """As --json has it."""
        return {
            "node_id": self.node_id,
            "before": self.before,
            "fingerprint": self.fingerprint or None,
            "expires": self.expires or None,
            "skipped": self.skipped,
            "error": self.error,
            "exit_code": self.exit_code,
        }


class Show(Protocol):
    """Where the user sees how far it is."""

    def step(self, node_id: str, name: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Order:
    """What shall be done: new keys and certificates, or new trusted CAs alone; how many nodes at a time."""

    trust: bool = False
    patience: float = 180.0
    """Seconds that a node may take to come back."""
    side_by_side: int = 8


def rotate(
    nodes: Sequence[Node],
    order: Order,
    operator: Operator,
    ca: CertificateAuthority,
    fleet: Fleet,
    show: Show,
) -> list[Outcome]:
    """Rotate the nodes, and tell how it ended, in the same order."""

    def one(node: Node) -> Outcome:
        def tell(step: str) -> None:
            show.step(node.node_id, step)

        return _outcome(node, Rotation(node, operator, ca, fleet, order.patience, tell), order.trust)

    with ThreadPoolExecutor(order.side_by_side) as pool:
        try:
            return list(pool.map(one, nodes))
        except BaseException:  # Ctrl-C: those that have begun come to an end that a rotation can go on from
            operator.call_off()
            pool.shutdown(cancel_futures=True)
            raise


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """That of the command: the code that all failures have, else 1; 0 when there are none."""
    codes = {outcome.exit_code for outcome in outcomes} - {errors.DONE}
    if len(codes) > 1:
        return errors.FAILED
    return codes.pop() if codes else errors.DONE


def _outcome(node: Node, rotation: Rotation, trust: bool) -> Outcome:
    try:
        issued = rotation.retrust() if trust else rotation.renew()
    except errors.LimpetError as error:
        skipped = isinstance(error, AsleepError)
        return Outcome(
            node.node_id, node.fingerprint, error=str(error), exit_code=error.exit_code, skipped=skipped
        )
    return Outcome(node.node_id, node.fingerprint, issued.fingerprint, utc(issued.expires))
