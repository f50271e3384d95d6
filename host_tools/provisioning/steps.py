"""The steps of provisioning a board, and what the journal says was done of them. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from host_tools.fleet import Entry

DETECT, GUARD, FLASH, BOOT = "detect", "guard", "flash", "boot"
KEY, CERTIFICATE, INSTALL, SETTINGS = "key", "certificate", "install", "settings"
START, PROOF, IN_SERVICE = "start", "proof", "in service"
STEPS = (DETECT, GUARD, FLASH, BOOT, KEY, CERTIFICATE, INSTALL, SETTINGS, START, PROOF, IN_SERVICE)
"""In their order; the journal knows them by these names."""

NO_PROOF = "no proof"
"""What the journal says of a node that did not come although the broker was there: begin again."""
_KEEP = (DETECT, FLASH, START, PROOF, IN_SERVICE)  # of all else a board's settings do not survive


@dataclass(frozen=True)
class Ready:
    """What a board that lacks nothing but its proof has on it."""

    image: str
    settings: str
    fingerprint: str


def ready(journal: Iterable[Entry], node_id: str) -> Ready | None:
    """What is on the board as this node; None when its provisioning did not come so far."""
    found: Ready | None = None
    for entry in journal:
        if entry.step == SETTINGS and entry.node_id == node_id:
            facts = entry.facts
            found = Ready(str(facts["image"]), str(facts["settings"]), str(facts["fingerprint"]))
        elif entry.step == GUARD and entry.facts.get("ready"):
            continue
        elif entry.step not in _KEEP:
            found = None
    return found
