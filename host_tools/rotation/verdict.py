"""What came of an identity that a node was given, from what the node says. Nothing here does I/O."""

from dataclasses import dataclass
from enum import Enum

from host_tools.rotation import journal


class End(Enum):
    """How a trial ended."""

    KEPT = "kept"
    BACK = "back"
    OPEN = "open"
    """It has not ended, or that cannot be told yet."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen of a node since it was told to use what it was given."""

    fingerprint: str
    """Of the certificate that counts, by the node's own word."""
    on_trial: bool
    """It has an older identity too."""
    certificate: str
    """Of its last `about`."""
    came_anew: bool
    """It has said `about` since."""
    event: str
    """Its last event about its identity; empty when there was none."""
    taken: bool
    """It answered that it would use it."""
    refusal: str
    """What it answered instead."""


def judge(old: str, new: str, sight: Sight) -> End:
    """How it ended for a node that had the certificate `old` and was given `new`; the same one where it was
    given other trusted CAs alone."""
    if sight.on_trial:
        return End.OPEN
    has_come = sight.came_anew and sight.certificate == new
    if new != old:
        if sight.fingerprint == old:
            return End.BACK
        return End.KEPT if sight.fingerprint == new and has_come else End.OPEN
    if sight.fingerprint != old:
        return End.OPEN
    if sight.refusal or journal.is_given_up(sight.event):
        return End.BACK
    # The same certificate beside the same CAs is no change, and needs no session to prove itself.
    unchanged = sight.taken and not sight.came_anew and not sight.event
    return End.KEPT if unchanged or (has_come and journal.is_kept(sight.event)) else End.OPEN
