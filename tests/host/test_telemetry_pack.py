"""The node's packs, written by MicroPython and read by the host: the same readings, in few bytes."""

import json
import random
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, get_args

import pytest

from host_tools import micropython, paths
from host_tools.telemetry.senml import Quality, Reading, decode

NODE = "n01"
EPOCH = "1a2b3c4d"
T0 = 1763820000250
REASONS = json.loads((paths.ROOT / "tests" / "vectors" / "senml.json").read_text())["reasons"]
QUALITIES = get_args(Quality)

# Reads cases line by line, writes the packs of each as a list of texts.
ENCODER = """
import json, sys
sys.path.insert(0, sys.argv[1])
from limpet.senml import Pack
while True:
    line = sys.stdin.readline()
    if not line:
        break
    case = json.loads(line)
    pack = Pack(case["limit"])
    buf = bytearray(case["at"] + case["limit"] + 3)
    packs = []
    todo = case["readings"]
    while todo:
        pack.begin(buf, case["at"], case["node"], case["epoch"])
        while pack.count < len(todo) and pack.add(*todo[pack.count]):
            pass
        if not pack.count:
            raise ValueError("a reading that no pack can hold")
        todo = todo[pack.count:]
        packs.append(bytes(buf[case["at"]:pack.close()]).decode())
    print(json.dumps(packs))
"""

# As Pack.add takes it: seq, unix_ms, name, unit, decimals, reason, value, quality, later_s
Row = tuple[int, int, str, str, int, int, int, int, int | None]


def encode(cases: list[dict[str, Any]]) -> list[list[bytes]]:
    """The packs of each case."""
    done = subprocess.run(
        [*micropython.command(), "-X", "heapsize=4m", "-c", ENCODER, str(paths.FIRMWARE)],
        input="".join(json.dumps(case) + "\n" for case in cases),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr
    return [[text.encode() for text in json.loads(line)] for line in done.stdout.splitlines()]


def reading(row: Row) -> Reading:
    seq, unix_ms, name, unit, decimals, reason, value, quality, later_s = row
    return Reading(
        NODE,
        EPOCH,
        seq,
        name,
        unit,
        None if reason else Decimal(value).scaleb(-decimals),
        REASONS[reason] if reason else "",
        unix_ms,
        QUALITIES[quality],
        later_s if QUALITIES[quality] == "unknown" else 0,
    )


def random_rows(chance: random.Random) -> Iterator[Row]:
    """Sensors of one to three channels, each with its own period; losses, faults, times of every kind."""
    channels = []
    for number in range(chance.choice((1, 2, 5, 12, 20))):
        period = chance.choice((10, 500, 1000, 1000, 2000, 60_000))
        for quantity in ("temperature", "pressure", "humidity")[: chance.choice((1, 1, 3))]:
            unit = {"temperature": "Cel", "pressure": "Pa", "humidity": "%RH"}[quantity]
            decimals = chance.choice((0, 1, 2, 2, 4, 6))
            channels.append((period, f"s{number}/{quantity}", chance.choice((unit, "K")), decimals))
    jitter = chance.choice((0, 0, 3, 400))
    due = sorted((period * turn, index) for turn in range(40) for index, (period, *_) in enumerate(channels))
    seq = chance.choice((0, 7, 4294966000))
    offset, quality = T0, 0
    later_s: int | None = 0
    for uptime, index in due[: chance.choice((1, 10, 300))]:
        _, name, unit, decimals = channels[index]
        if chance.random() < 0.03:
            offset = T0 + chance.choice((0, 1, -999, 86_400_000, -31_536_000_123))
            quality = chance.randrange(4)
            later_s = chance.choice((0, 1, 3600, 100_000_000, None)) if quality == 3 else 0
        seq += chance.choice((1, 1, 1, 1, 1, 1, 2, 300)) if chance.random() < 0.3 else 1
        reason = chance.randrange(1, len(REASONS)) if chance.random() < 0.1 else 0
        value = chance.choice((0, 1, -1, 5, -5, 2**31 - 1, -(2**31), chance.randrange(-(10**6), 10**6)))
        unix_ms = offset + uptime + chance.randint(-jitter, jitter)
        yield seq, unix_ms, name, unit, decimals, reason, value, quality, later_s


def test_what_the_node_packs_the_host_unpacks() -> None:
    cases: list[dict[str, Any]] = []
    for seed in range(150):
        chance = random.Random(seed)
        limit = chance.choice((220, 400, 1024, 1024, 6000))
        rows = list(random_rows(chance))
        head = {"node": NODE, "epoch": EPOCH, "limit": limit, "at": chance.randrange(40)}
        cases.append({**head, "readings": rows})
    packs_of = encode(cases)
    assert len(packs_of) == len(cases)
    most_groups = 0
    for case, packs in zip(cases, packs_of, strict=True):
        found = [each for pack in packs for each in decode(pack, NODE)]
        expected = [reading(row) for row in case["readings"]]
        assert found == expected
        assert [str(each.value) for each in found] == [str(each.value) for each in expected]
        assert max(map(len, packs)) <= case["limit"]
        most_groups = max(most_groups, *(pack.count(b'"bn"') for pack in packs))
    assert sum(len(case["readings"]) for case in cases) > 10_000
    assert most_groups == 32


TLS_RECORD = (
    5 + 8 + 16
)  # header, explicit nonce and tag of AES-GCM (RFC 5288 §3): the most of all suites in use
PUBACK = 4
TOPIC = f"limpet/{NODE}/data"


def on_the_wire(packs: list[bytes]) -> int:
    """Bytes both ways for packs as QoS 1 messages over TLS, each and each PUBACK in a record of its own."""
    total = 0
    for pack in packs:
        rest = 2 + len(TOPIC) + 2 + len(pack)
        publish = 1 + (1 if rest < 128 else 2) + rest
        total += publish + TLS_RECORD + PUBACK + TLS_RECORD
    return total


def bme280(count: int, period_ms: int, first_seq: int, jitter_ms: int) -> list[Row]:
    chance = random.Random(1)
    rows: list[Row] = []
    taken = T0
    for number in range(count):
        sample, channel = divmod(number, 3)
        if not channel:
            taken = T0 + sample * period_ms + chance.randint(0, jitter_ms)
        name, unit, value = (
            ("bme280/temperature", "Cel", chance.randrange(-1999, 3999)),
            ("bme280/pressure", "Pa", chance.randrange(9_500_000, 10_500_000)),
            ("bme280/humidity", "%RH", chance.randrange(3000, 10_000)),
        )[channel]
        rows.append((first_seq + number, taken, name, unit, 2, 0, value, 0, 0))
    return rows


@pytest.mark.parametrize("jitter_ms", [0, 19])
def test_a_backlog_takes_at_most_40_bytes_a_reading(jitter_ms: int) -> None:
    rows = bme280(1000, 1000, 123_456, jitter_ms)
    [packs] = encode([{"node": NODE, "epoch": EPOCH, "limit": 1024, "at": 30, "readings": rows}])
    assert [each.seq for pack in packs for each in decode(pack)] == list(range(123_456, 124_456))
    each = on_the_wire(packs) / 1000
    print(f"{each:.2f} bytes a reading, {len(packs)} packs")
    assert each <= 40


@pytest.mark.parametrize("seq", [17, 123_456])
def test_a_reading_alone_takes_at_most_190_bytes(seq: int) -> None:
    row: Row = (seq, T0 + 7, "bme280/temperature", "Cel", 2, 0, -1234, 0, 0)
    [packs] = encode([{"node": NODE, "epoch": EPOCH, "limit": 1024, "at": 30, "readings": [row]}])
    print(f"{on_the_wire(packs)} bytes")
    assert len(packs) == 1 and on_the_wire(packs) <= 190
