"""What is told of rotations: the journal's names for their steps, and a node's words for their end."""

from collections.abc import Sequence

from host_tools.fleet import Entry

BEGUN, CERTIFICATE, USE, FAILED, TRUSTED = (
    "rotation begun",
    "rotation: certificate",
    "rotation: use",
    "rotation failed",
    "trusted CAs rotated",
)
DONE = "rotated"
"""Fleet.rotated writes it."""
_ENDS = (FAILED, DONE, "in service", "replaced", "retired")


def is_unfinished(entries: Sequence[Entry]) -> bool:
    """Whether a rotation of the node was begun and never came to an end, from its journal."""
    steps = [entry.step for entry in entries if entry.step == BEGUN or entry.step in _ENDS]
    return bool(steps) and steps[-1] == BEGUN


def is_kept(verdict: str) -> bool:
    """Whether a node tells by this event that what it was given has proved itself (docs/wire.md)."""
    return verdict.startswith("the new certificate works")


def is_given_up(verdict: str) -> bool:
    """Whether it tells that it has gone back."""
    return verdict.startswith("the new certificate is given up")
