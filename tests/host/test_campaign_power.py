"""Power cuts at flash operations: nothing that was confirmed is lost, and nothing arrives that never was.

With the network: the firmware's spool and uplink on a small flash, a real broker, and an oracle that stands
outside of the node. Without it: every operation of a scenario, cut in three ways, and cut again at every
operation of the recovery (tests/firmware/campaign/every_cut.py). And whole boards with the whole firmware.
"""

import json
import os
import random
import re
import subprocess
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from host_tools import image, micropython, partitions, parts, paths
from host_tools.boards import load_board
from host_tools.virtual.board import How, PowerCut
from tests.host.campaign.field import Cut, Field, Node
from tests.host.campaign.oracle import Verdict, receive
from tests.host.stand import BME280_SPEC, LOOP_SPEC, Stand, wait_until
from tests.host.stand import Node as StandNode

SEED = int(os.environ.get("CAMPAIGN_SEED", "1"))
HOW: tuple[How, ...] = ("before", "torn", "after")
SECTORS = 4
KEPT = (SECTORS - 2) * 230
"""Readings that are surely in the spool: all but the sector that is written, the one that is erased, headers,
marks and acknowledgements."""

# Sampling before the time is known, sampling and acknowledging, an outage that the spool holds, one that it
# does not, and the backlog. The ring goes round one and a half times.
SCENARIO = (
    ("off", 20),
    ("sync", 0),
    ("on", 100),
    ("off", 60),
    ("on", 40),
    ("off", 1000),
    ("on", 60),
    ("drain", 0),
    ("on", 20),
    ("drain", 0),
)
AFTERWARDS = (("off", 3), ("sync", 0), ("on", 10), ("drain", 0))
NEVER_DATED = (("off", 5),)


@dataclass(frozen=True)
class Point:
    """One node's fate: a cut in the scenario, and perhaps one in the recovery."""

    number: int
    first: Cut
    second: Cut | None
    undated: bool
    """Between the cut and the end there is a boot that never learns the time."""


def suffer(field: Field, point: Point) -> tuple[int, Verdict]:
    """Live it; how often the power was cut, and the verdict."""
    node = Node(field, f"n{point.number:04d}", SECTORS)
    cuts = 0
    try:
        slack_ms = 1000 if point.number % 2 else 0
        cuts += node.live(SCENARIO, point.first, slack_ms) is None
        if point.undated:
            node.live(NEVER_DATED)
        if point.second:
            cuts += node.live(AFTERWARDS, point.second) is None
        node.live(AFTERWARDS)
        verdict = node.verdict(KEPT)
    except Exception as e:
        raise AssertionError(f"{point}: {e}\n{node.output[-2000:]}") from e
    finally:
        field.forget(node.id)
        node.flash.unlink()
    return cuts, verdict


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    with Field(tmp_path) as field:
        yield field


def run_through(field: Field) -> int:
    """The scenario without a cut: the loss is what was stated. The number of its flash operations."""
    node = Node(field, "whole", SECTORS)
    end = node.live(SCENARIO)
    assert end is not None
    verdict = node.verdict(KEPT)
    taken = sum(number for name, number in SCENARIO if name in ("on", "off"))
    assert (verdict.confirmed, verdict.appeared, verdict.undated) == (taken, 0, 0)
    assert verdict.dropped == end["lost"] > 0
    assert (end["errors"], end["damaged"], end["fault"], end["pending"]) == (0, 0, None, 0)
    return int(end["operations"])


def campaign(field: Field, points: Iterable[Point]) -> int:
    """All points, two at a time; prints what was seen. How often the power was cut."""
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda point: suffer(field, point), points))
    cuts = sum(cuts for cuts, _ in outcomes)
    verdicts = [verdict for _, verdict in outcomes]
    print(
        f"seed {SEED}: {cuts} power cuts in {len(outcomes)} nodes; "
        f"{sum(v.confirmed for v in verdicts)} readings confirmed, "
        f"{sum(v.dropped for v in verdicts)} of them dropped by a full spool and told, 0 lost, 0 invented; "
        f"{sum(v.appeared for v in verdicts)} cut off and arrived, "
        f"{sum(v.undated for v in verdicts)} undated, "
        f"{sum(v.duplicates for v in verdicts)} duplicates dropped by number"
    )
    return cuts


def fates(operations: Iterable[int], dice: random.Random) -> Iterator[Point]:
    for number, operation in enumerate(operations):
        first = Cut(operation, HOW[number % 3], dice.getrandbits(24))
        second = Cut(dice.randint(1, 12), dice.choice(HOW), dice.getrandbits(24))
        undated = dice.random() < 0.3
        yield Point(number, first, second if dice.random() < 0.7 else None, undated)


def test_a_hundred_power_cuts(field: Field) -> None:
    dice = random.Random(SEED)
    last = run_through(field)
    # Spread over the whole scenario, a random place in each part.
    places = [dice.randint(last * i // 70 + 1, last * (i + 1) // 70) for i in range(70)]
    assert campaign(field, fates(places, dice)) >= 100


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_a_power_cut_at_every_operation(field: Field) -> None:
    dice = random.Random(SEED)
    last = run_through(field)
    assert campaign(field, fates(range(1, last + 1), dice)) >= 2000


def every_cut(sectors: int, batch: int, ways: int, share: int, shares: int) -> dict[str, int]:
    """Run every_cut.py; what it counted."""
    script = paths.ROOT / "tests" / "firmware" / "campaign" / "every_cut.py"
    numbers = [str(number) for number in (sectors, batch, SEED, share, shares, ways)]
    search = [str(p) for p in (paths.FIRMWARE, paths.VIRTUAL_BOARD, parts.umqtt_simple())]
    done = subprocess.run(
        [*micropython.command(), "-X", "heapsize=8m", str(script), *numbers, *search],
        capture_output=True,
        text=True,
        check=False,
    )
    head, mark, last = done.stdout.partition("\x1e")
    assert mark and not head, f"exit code {done.returncode}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    counted: dict[str, int] = json.loads(last)
    return counted


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize(("sectors", "batch", "ways"), [(3, 1, 3), (3, 8, 1)])
def test_every_operation_cut_and_the_recovery_cut_again(sectors: int, batch: int, ways: int) -> None:
    with ThreadPoolExecutor(2) as pool:
        shares = list(pool.map(lambda share: every_cut(sectors, batch, ways, share, 2), range(2)))
    first = sum(share["first"] for share in shares)
    second = sum(share["second"] for share in shares)
    print(
        f"{sectors} sectors, batch of {batch}: {shares[0]['operations']} operations of the scenario cut in "
        f"three ways ({first} cuts), and {second} cuts at the up to {shares[0]['recovery']} operations of "
        f"the recoveries; {shares[0]['appends']} readings, {shares[0]['lost']} of them dropped and told"
    )
    assert first == 3 * shares[0]["operations"]


def test_some_operations_cut_and_the_recovery_cut_again() -> None:
    counted = every_cut(3, 1, 1, share=SEED % 97, shares=97)
    assert counted["second"] > counted["first"] > 10


# Whole boards, with the whole firmware and a witness in main.py.

WITNESS = b"""
from limpet import node, spool
append = spool.Spool.append
def witnessed(self, s, ms, channel, reason, value):
    seq = self.next
    print("\\x1ea")
    append(self, s, ms, channel, reason, value)
    print("\\x1ec %d %s %d" % (seq, self.channels[channel][0], value))
spool.Spool.append = witnessed
node.run()
"""
QUICK = ({**BME280_SPEC, "period_ms": 60}, {**LOOP_SPEC, "period_ms": 60})


def cut_a_board(folder: Path, cuts: int, dice: random.Random) -> None:
    """A board whose power fails again and again at some operation of its spool; nothing may be lost."""
    spool = partitions.find(load_board("virtual").partition_table(), "spool")
    with Stand(folder) as stand:
        files = dict(image.firmware_files())
        files["main.py"] = WITNESS
        files[image.SETTINGS_NAME] = json.dumps(stand.settings(*QUICK)).encode()
        node = stand.node(files=files, spool_sectors=SECTORS).start()
        began = time.time()
        stand.wait_for_readings(node, 20)
        for number in range(cuts):
            node.power_off()
            # Short lives, some of which end before the broker is found, and longer ones.
            operation = dice.randint(1, dice.choice((6, 60, 300)))
            cut = PowerCut(operation, HOW[number % 3], dice.getrandbits(24), spool.offset, spool.end)
            since = len(node.log)
            stand.bench.run(node.board.power_on(cut))
            wait_until(lambda: not node.board.is_on, f"{cut}; the board said:\n{node.log[since:][-3000:]}")
        node.power_on()
        stand.wait_for_readings(node, len(stand.readings(node)) + 20)
        due = max(confirmations(node))
        wait_until(lambda: stand.readings(node)[-1].seq >= due, f"reading {due}")
        node.power_off()
        judge_board(stand, node, due, began)
        print(f"seed {SEED}: {cuts} power cuts of a board, {due + 1} readings")


def confirmations(node: StandNode) -> dict[int, tuple[str, int]]:
    """By number what append() has confirmed: channel, and value as the sensor gave it."""
    found = re.findall(r"\x1ec (\d+) (\S+) (-?\d+)\n", node.log)
    numbers = [int(seq) for seq, _, _ in found]
    assert numbers == sorted(set(numbers)), "a number came again, or went back"
    return {int(seq): (channel, int(value)) for seq, channel, value in found}


def judge_board(stand: Stand, node: StandNode, due: int, began: float) -> None:
    """What was confirmed up to the number `due` has come, or was told as dropped by a full spool."""
    confirmed = confirmations(node)
    epoch = stand.readings(node)[0].epoch
    messages = [(leaf, payload) for leaf in ("data", "event") for payload in stand.payloads(node, leaf)]
    received = receive(node.id, messages, epoch)
    cut_off = len(re.findall(r"\x1ea\n(?!\x1ec)", node.log))
    appeared = received.readings.keys() - confirmed.keys()
    assert len(appeared) <= cut_off
    for seq in received.readings.keys() & confirmed.keys():
        reading = received.readings[seq]
        assert reading.value is not None
        exponent = reading.value.as_tuple().exponent
        assert isinstance(exponent, int)
        assert (reading.channel, int(reading.value.scaleb(-exponent))) == confirmed[seq]
    for reading in received.readings.values():
        assert began - 60 < reading.unix_ms / 1000 < time.time() + 2, reading
    dropped = {seq for gap in received.gaps if gap.why == "full" for seq in gap.numbers}
    assert all(seq <= due - KEPT for seq in dropped)
    missing = {seq for seq in confirmed if seq <= due} - received.readings.keys() - dropped
    assert not missing, f"lost without a word: {sorted(missing)[:20]}"
    silent = set(range(due + 1)) - received.covered()
    assert not silent, f"numbers that nobody has explained: {sorted(silent)[:20]}"


def test_the_power_of_a_board_fails_five_times(tmp_path: Path) -> None:
    cut_a_board(tmp_path, 5, random.Random(SEED))


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_the_power_of_a_board_fails_sixty_times(tmp_path: Path) -> None:
    cut_a_board(tmp_path, 60, random.Random(SEED + 1))
