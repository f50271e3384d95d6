"""24 h of 1 Hz readings under simulated time, with an outage in the middle that the spool cannot hold."""

import json
import subprocess
from decimal import Decimal
from pathlib import Path

from host_tools import micropython, paths
from tests.host.campaign.field import ZERO_MS, Field, Node
from tests.host.campaign.oracle import receive
from tests.host.stand import wait_until

DAY = paths.ROOT / "tests" / "firmware" / "campaign" / "day.py"
SECONDS = 24 * 3600
OUTAGE = range(11 * 3600, 13 * 3600)
SECTORS = 8
KEPT = (SECTORS - 2) * 235
"""Readings that it surely holds: all sectors but the one that is written and the one that is erased."""

CORRECTION_MS = 25
"""What the clock is corrected by every hour: a crystal that is 7 ppm off."""


def value_of(second: int) -> int:
    return second * 31 % 20011 - 9000


def time_of(second: int) -> int:
    hours = max(second - 6, 0) // 3600  # corrected after the sixth reading of each hour
    return ZERO_MS + hours * CORRECTION_MS + second * 1000 + second % 7


def test_a_day_loses_what_the_outage_must_cost_and_says_so(tmp_path: Path) -> None:
    with Field(tmp_path) as field:
        node = Node(field, "day", SECTORS)
        job = node.job(
            seconds=SECONDS,
            outage_from=OUTAGE.start,
            outage_to=OUTAGE.stop,
            booted_ms=ZERO_MS,
            correction_ms=CORRECTION_MS,
        )
        process = subprocess.Popen(
            [*micropython.command(), "-X", "heapsize=1m", str(DAY), str(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said: list[str] = []
        with process:
            assert process.stdin
            assert process.stdout
            for line in process.stdout:
                said.append(line)
                if line == "outage\n":
                    wait_until(lambda: field.newest("day") == OUTAGE.start - 1, "all of before the outage")
                    field.stop_broker()
                elif line == "back\n":
                    field.start_broker()
                else:
                    continue
                process.stdin.write("\n")
                process.stdin.flush()
        assert said, "no word"
        assert said[-1].startswith("e "), "".join(said[-30:])
        wait_until(lambda: field.newest("day") == SECONDS - 1, "the last reading")
        messages = field.messages("day")
    end = json.loads(said[-1][2:])
    state = next(json.loads(payload) for leaf, payload in messages if leaf == "state")
    received = receive("day", messages, state["epoch"])
    for second, reading in received.readings.items():
        assert reading.value == Decimal(value_of(second)) / 100, reading
        assert reading.unix_ms == time_of(second), reading
        assert reading.quality == ("recovered" if second < 6 else "synced"), reading
    missing = set(range(SECONDS)) - received.readings.keys()
    told = [number for gap in received.gaps for number in gap.numbers]
    assert sorted(told) == sorted(missing)
    assert {gap.why for gap in received.gaps} == {"full"}
    assert missing <= set(OUTAGE)
    assert min(missing) == OUTAGE.start  # the oldest go first
    assert len(missing) == end["lost"]
    assert len(missing) <= len(OUTAGE) - KEPT
    assert (end["pending"], end["damaged"], end["errors"]) == (0, 0, 0)
    assert end["connects"] == 2
    print(
        f"{SECONDS} readings, {len(missing)} lost and told in {len(received.gaps)} gaps, "
        f"{received.duplicates} duplicates dropped; {end}"
    )
