"""A broker that restarts under a fleet: how many nodes come back at one moment, decided by limpet.backoff.

Time is simulated, decisions are not: every wait is one that the firmware's code has drawn, in MicroPython,
from os.urandom. All nodes lose the broker in the same millisecond, which is the worst there is.
"""

import json
import subprocess
from pathlib import Path
from statistics import mean

import pytest

from host_tools import micropython, paths
from tests.bench.storm import first_wait_ms

FLEET = 500
FLEETS = 20
SHARE = 0.15  # of the fleet, at most, in any second
CONNECT_MS = 30  # what a refused attempt takes
SILENCE_MS = 15000  # what an attempt takes that nobody answers (limpet.mqtt)

SCRIPT = """
import json, sys
from limpet.backoff import Backoff

nodes, down_ms, cost_ms, first_ms, fleets = [int(word) for word in sys.argv[1:]]

def attempts():
    backoff = Backoff(first_ms)
    backoff.proved()
    at = 0
    while True:
        at += backoff.wait()
        yield at
        if at >= down_ms:
            return
        at += cost_ms

for _ in range(fleets):
    print(json.dumps([list(attempts()) for _ in range(nodes)]))
"""


def simulate(folder: Path, down_ms: int, cost_ms: int, first_ms: int, fleets: int) -> list[list[list[int]]]:
    """For each fleet and each node the times of its attempts, in ms after the loss; the last one succeeds."""
    script = folder / "fleets.py"
    script.write_text(SCRIPT)
    words = [str(n) for n in (FLEET, down_ms, cost_ms, first_ms, fleets)]
    done = subprocess.run(
        [*micropython.command(), "-X", "heapsize=16m", str(script), *words],
        env={"MICROPYPATH": f".frozen:{paths.FIRMWARE}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == fleets, done.stdout[-2000:] + done.stderr[-2000:]
    return [json.loads(line) for line in lines]


def peak(times: list[int]) -> int:
    """The most of these times that lie within one second, wherever it begins."""
    times = sorted(times)
    most = first = 0
    for i, at in enumerate(times):
        while at - times[first] >= 1000:
            first += 1
        most = max(most, i - first + 1)
    return most


def test_peak() -> None:
    assert peak([]) == 0
    assert peak([0, 999, 1000, 1998, 1999, 5000]) == 3
    assert peak([5000, 5000, 4001, 4000]) == 3


@pytest.mark.parametrize(
    ("down_s", "cost_ms"),
    [(0, CONNECT_MS), (2, CONNECT_MS), (10, CONNECT_MS), (60, CONNECT_MS), (10, SILENCE_MS)],
)
def test_a_fleet_does_not_come_back_at_one_moment(tmp_path: Path, down_s: int, cost_ms: int) -> None:
    fleets = simulate(tmp_path, down_s * 1000, cost_ms, first_wait_ms(), FLEETS)
    ends = [[node[-1] for node in fleet] for fleet in fleets]
    assert [len(fleet) for fleet in ends] == [FLEET] * FLEETS
    assert min(min(fleet) for fleet in ends) >= down_s * 1000
    attempted = [peak([at for node in fleet for at in node]) / FLEET for fleet in fleets]
    connected = [peak(fleet) / FLEET for fleet in ends]
    print(
        f"\nbroker down {down_s} s, an attempt takes {cost_ms / 1000:g} s: in the worst second "
        f"{mean(attempted):.1%} of {FLEET} nodes attempt and {mean(connected):.1%} connect (mean of {FLEETS} "
        f"fleets; the worst: {max(attempted):.1%}, {max(connected):.1%}); the last is back after "
        f"{max(max(fleet) for fleet in ends) / 1000:.0f} s"
    )
    # The dice are real, so one fleet in some thousands has bad luck; the mean has none.
    assert mean(attempted) <= SHARE
    assert mean(connected) <= SHARE


def test_a_short_first_wait_is_a_storm(tmp_path: Path) -> None:
    """The measure itself: with a tenth of the wait it must be far too much."""
    [fleet] = simulate(tmp_path, 0, CONNECT_MS, first_wait_ms() // 10, 1)
    assert peak([at for node in fleet for at in node]) > 0.5 * FLEET
