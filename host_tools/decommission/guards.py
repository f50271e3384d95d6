"""Which node a board is, and whether it may be decommissioned. Nothing here does I/O."""

from collections.abc import Sequence
from dataclasses import dataclass

from host_tools.errors import RefusedError
from host_tools.fleet import Entry, Node


@dataclass(frozen=True, slots=True)
class Target:
    """What is to go."""

    node_id: str
    mac: str
    is_current: bool
    """The board is this node now. Otherwise it was: the node has another board, or is retired already."""


def target(
    port: str, mac: str, current: Node | None, journal: Sequence[Entry], node_id: str | None
) -> Target:
    """What decommissioning the board with this MAC address means.

    `current` is the node that it is, `journal` all that was done with it, `node_id` what the user named.
    Raises RefusedError when the record does not know the board, or has it as another node.
    """
    if not mac:
        raise RefusedError(
            f"{port}: the board does not tell its MAC address (secure download mode), so nobody can say "
            "which node it is, or prove that it is erased: use --lost, and destroy the board."
        )
    former = [entry.node_id for entry in journal if entry.node_id]
    if current is None and not former:
        raise RefusedError(
            f"{port}: the fleet record does not have the board {mac}: it is no node of yours, or another "
            "record has it; name that by --fleet."
        )
    found = current.node_id if current else former[-1]
    if node_id not in (None, found):
        raise RefusedError(
            f"{port}: the board {mac} is '{found}' by the fleet record, not '{node_id}': see that it is the "
            "right board."
        )
    return Target(found, mac, is_current=current is not None)
