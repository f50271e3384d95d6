"""A fleet that has lost its broker: how many come back in the same second."""

import re

from host_tools import paths
from tests.bench.ground import Ground
from tests.bench.table import Row

FLEET = 500
OUTAGES_S = (0, 2, 10, 60)
_RUNS = 20  # fleets for each outage; the worst of them counts
_NOTE = (
    f"{FLEET} × limpet.backoff.Backoff as limpet.uplink makes it, stepped in simulated time: all lose the "
    "broker in the same millisecond, and an attempt while it is away is refused at once. The most connects "
    f"that the broker sees in any window of one second; the worst of {_RUNS} fleets."
)


def rows(ground: Ground) -> list[Row]:
    """One row for each length of the outage."""
    found = []
    for outage in OUTAGES_S:
        told = ground.run("storm.py", FLEET, outage * 1000, first_wait_ms(), _RUNS, heap="8m")
        share, tried = told["peak"] / FLEET, told["tried"] / FLEET
        found.append(
            Row(
                f"reconnect storm: peak connects a second of {FLEET} nodes, broker away for {outage} s",
                share * 100,
                "%",
                f"with those refused: {100 * tried:.3g} %; all back in {told['last_ms'] / 1000:.0f} s",
                None,
                "at most 15 %",
                share <= 0.15,
                _NOTE,
            )
        )
    return found


def first_wait_ms() -> int:
    """limpet.uplink's constant: compiled, it has no name any more."""
    source = (paths.FIRMWARE / "limpet" / "uplink.py").read_text()
    found = re.search(r"^_RETRY_MS = const\((\d+)\)", source, re.MULTILINE)
    if found is None:
        raise SystemExit("limpet/uplink.py has no _RETRY_MS any more: mend tests/bench/storm.py.")
    return int(found[1])
