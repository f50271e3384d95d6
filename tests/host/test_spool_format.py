"""The spool partition as the host reads it: the vectors that the node reads too, and damage."""

import random
import re
import runpy
from typing import Any

import pytest

from host_tools import paths
from host_tools.spool.dating import Quality
from host_tools.spool.dump import REASONS
from host_tools.spool.format import SpoolFormatError, State
from host_tools.spool.ring import Gap, Spool, decode
from tests.host.spool_vectors import CASES, SECTOR, VECTORS, as_vector, named, partition

SLOT = 16
MIXED = "a boot that never learnt the time, between two that did"


def test_vectors_are_what_their_generator_makes() -> None:
    generator = runpy.run_path(str(VECTORS / "make_spool.py"))
    assert (VECTORS / "spool.json").read_text() == generator["document"]()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_decode_vector(case: dict[str, Any]) -> None:
    spool = decode(partition(case), case["node"])
    assert [as_vector(item) for item in spool.items] == case["items"]
    assert {
        "states": [str(sector.state) for sector in spool.sectors],
        "erases": [sector.erases for sector in spool.sectors],
        "epoch": None if spool.epoch is None else f"{spool.epoch:08x}",
        "boot": spool.boot,
        "cursor": spool.cursor,
        "first": spool.first,
        "next": spool.next,
        "proof": spool.proof,
        "damaged": spool.damaged,
    }.items() <= case.items()


def test_without_a_node_id_the_owner_of_most_sectors_counts() -> None:
    mixed = named("another node's sectors among ours")
    spool = decode(partition(mixed))
    assert spool.owner == decode(partition(mixed), "n02").owner
    assert [str(sector.state) for sector in spool.sectors] == ["free", "free", "live"]
    for case in CASES:
        if "free" not in case["states"]:
            assert [as_vector(item) for item in decode(partition(case)).items] == case["items"], case["name"]


@pytest.mark.parametrize(
    ("size", "sentence"),
    [
        (
            3 * SECTOR - 1,
            "A spool has whole sectors of 4096 bytes, and this one has 12287 bytes: read it again in full.",
        ),
        (2 * SECTOR, "A spool has 3 sectors or more, and this one has 2: read it again in full."),
        (0, "A spool has 3 sectors or more, and this one has 0: read it again in full."),
    ],
)
def test_sizes_that_no_spool_has(size: int, sentence: str) -> None:
    with pytest.raises(SpoolFormatError) as caught:
        decode(b"\xff" * size)
    assert str(caught.value) == sentence


def test_capacity_and_wear() -> None:
    few = named("a few readings")
    # Of 256 slots 7 are header, 4 channel table, and one closes the sector.
    assert decode(partition(few, 128)).capacity == 127 * 244
    assert decode(partition(few)).wear == (0, 1)
    assert decode(partition(named("full: the oldest are gone"))).wear == (1, 9)
    assert decode(bytes(3 * SECTOR)).wear is None


def check(spool: Spool, good: Spool) -> None:
    """Assert that nothing in a damaged spool is altered, misdated or told in another order."""
    truth = {reading.seq: reading for reading in good.readings}
    last = -1
    for item in spool.items:
        first = item.first if isinstance(item, Gap) else item.seq
        assert first > last
        last = item.last if isinstance(item, Gap) else item.seq
        if isinstance(item, Gap):
            continue
        true = truth[item.seq]
        assert (item.channel, item.reason, item.value) == (true.channel, true.reason, true.value)
        if item.quality is not Quality.UNKNOWN:
            assert item.unix_ms == true.unix_ms
        elif true.quality is not Quality.UNKNOWN:
            assert item.unix_ms <= true.unix_ms
            assert item.later_s is None or true.unix_ms <= item.unix_ms + item.later_s * 1000


def test_no_bit_flip_alters_a_reading() -> None:
    image = partition(named(MIXED))
    good = decode(image, "n01")
    used = len(image.rstrip(b"\xff"))
    noticed = 0
    for bit in range(8 * used):
        flipped = bytearray(image)
        flipped[bit // 8] ^= 1 << bit % 8
        spool = decode(bytes(flipped), "n01")
        check(spool, good)
        in_slot = bit // 8 >= good.sectors[0].table_end
        assert spool.damaged == (1 if in_slot else 0) or not in_slot
        noticed += spool.damaged > 0
    assert noticed >= 8 * SLOT * 10


def test_a_damaged_boot_record_dates_nothing_by_the_boot_before() -> None:
    case = named(MIXED)
    image = bytearray(partition(case))
    good = decode(bytes(image), "n01")
    table_end = good.sectors[0].table_end
    # BOOT, TIME, reading, BOOT: the second BOOT record.
    assert image[table_end + 3 * SLOT] == 0x80
    image[table_end + 3 * SLOT + 4] ^= 1
    spool = decode(bytes(image), "n01")
    check(spool, good)
    assert [reading.seq for reading in spool.readings] == [0, 1, 2, 3, 4]
    qualities = [str(reading.quality) for reading in spool.readings]
    assert qualities == ["synced", "unknown", "unknown", "recovered", "synced"]
    assert [reading.boot for reading in spool.readings] == [1, None, None, 3, 3]


@pytest.mark.parametrize("seed", range(4))
def test_rotten_swapped_erased_and_foreign_sectors(seed: int) -> None:
    chance = random.Random(seed)
    image = partition(named("wrap-around, the cursor in the second sector"), 6)
    good = decode(image, "n01")
    for _ in range(40):
        sectors = [bytearray(image[at : at + SECTOR]) for at in range(0, len(image), SECTOR)]
        chance.shuffle(sectors)
        for _ in range(chance.choice([1, 3, 30])):
            sector = chance.choice(sectors)
            at = chance.randrange(SECTOR)
            match chance.randrange(5):
                case 0:
                    sector[at] ^= 1 << chance.randrange(8)
                case 1:
                    sector[at : at + 40] = chance.randbytes(len(sector[at : at + 40]))
                case 2:
                    sector[at:] = b"\xff" * (SECTOR - at)
                case 3:
                    sector[:at] = bytes(at)
                case 4:
                    sector[at] = 0xFF
        check(decode(b"".join(sectors), "n01"), good)


def test_noise_is_no_spool_and_no_error() -> None:
    chance = random.Random(1)
    for _ in range(20):
        spool = decode(chance.randbytes(4 * SECTOR), "n01")
        assert (spool.epoch, spool.items, spool.count(State.DAMAGED)) == (None, (), 4)


def test_a_valid_header_over_noise() -> None:
    """Channel tables and records that a CRC does not vouch for."""
    chance = random.Random(2)
    image = bytearray(partition(named("a few readings")))
    for start in (112, 192, 300):
        image[start:SECTOR] = chance.randbytes(SECTOR - start)
        spool = decode(bytes(image), "n01")
        assert spool.damaged > 200
        assert len(spool.readings) <= 4


def test_reasons_are_the_firmwares() -> None:
    source = (paths.FIRMWARE / "limpet" / "reading.py").read_text()
    texts = "".join(re.findall(r'^    "([^"]+)"$', source, re.MULTILINE))
    assert tuple(texts.split(",")) == REASONS
