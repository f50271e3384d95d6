"""Readings judged: what is lost, altered, misdated, out of order."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal

import pytest

from host_tools.hil.readings import Readings
from host_tools.telemetry.event import Gap
from host_tools.telemetry.senml import Reading

START = 1_763_820_000_000
EPOCH, LATER = "1a2b3c4d", "00000001"


def reading(
    seq: int, ms: int | None = None, channel: str = "bme280/temperature", epoch: str = EPOCH
) -> Reading:
    at = START + (1000 * seq if ms is None else ms)
    return Reading("n01", epoch, seq, channel, "Cel", Decimal("21.50"), "", at)


def some(*seqs: int) -> list[Reading]:
    return [reading(seq) for seq in seqs]


def bad(seq: int) -> Reading:
    return replace(reading(seq), value=None, reason="CRC error")


@pytest.mark.parametrize("period", [None, 1])
def test_all_is_well(period: float | None) -> None:
    readings = Readings(some(0, 1, 2, 3))
    verdict = readings.without_gaps(period)
    assert verdict and readings.in_order()
    assert (verdict.why, repr(verdict)) == ("", "<all well>")
    assert (readings.lost, readings.duplicates, len(readings.bad), readings.holes) == (0, 0, 0, [])


SPOILT: list[tuple[str, Callable[[list[Reading]], list[Reading]], str]] = [
    ("none", lambda good: [], "there are no readings"),
    ("one in the middle", lambda good: good[:3] + good[4:], "3 of epoch 1a2b3c4d lost"),
    ("the first", lambda good: good[2:], "0 to 1 of epoch 1a2b3c4d lost"),
    ("bad", lambda good: [*good[:3], bad(3), *good[4:]], "bme280/temperature is bad in 3: CRC error"),
    (
        "altered when it came again",
        lambda good: [*good, replace(good[2], value=Decimal("21.51"))],
        "2 of epoch 1a2b3c4d came again as something else",
    ),
    (
        "bad for another reason",
        lambda good: [*good[:4], bad(4), replace(bad(4), reason="wire break")],
        "4 of epoch 1a2b3c4d came again as something else",
    ),
    (
        "good, then bad",
        lambda good: [*good, replace(good[2], value=None, reason="CRC error")],
        "2 of epoch 1a2b3c4d came again as something else",
    ),
]


@pytest.mark.parametrize("period", [None, 1])
@pytest.mark.parametrize(("spoil", "why"), [each[1:] for each in SPOILT], ids=[each[0] for each in SPOILT])
def test_what_is_wrong_without_looking_at_times(
    spoil: Callable[[list[Reading]], list[Reading]], why: str, period: float | None
) -> None:
    verdict = Readings(spoil(some(0, 1, 2, 3, 4))).without_gaps(period)
    assert not verdict
    assert verdict.faults[0] == why


def test_a_duplicate_is_no_gap_but_is_counted() -> None:
    again = replace(reading(1), unix_ms=START + 1001, quality="recovered")  # its time is better known now
    readings = Readings([*some(0, 1, 2), again, *some(1, 3)])
    assert readings.without_gaps(1) and readings.in_order()
    assert (len(readings), readings.duplicates, readings[1:3].duplicates) == (4, 2, 2)


def test_who_comes_late_is_no_gap_but_out_of_order() -> None:
    readings = Readings(some(0, 2, 3, 1))
    assert readings.without_gaps(1)
    assert readings.in_order().why == "1 of epoch 1a2b3c4d came after 3"
    assert len(Readings(some(0, 3, 1, 2)).in_order().faults) == 2
    assert not Readings([]).in_order()


@pytest.mark.parametrize(
    ("times", "reboots", "faults"),
    [
        ([0, 1499, 2000, 2501], 0, 0),  # half a period of jitter
        ([0, 1501, 2000, 3000], 0, 2),  # late, and so the next one is early
        ([0, 1000, 3000, 4000], 0, 1),  # one was not taken
        ([0, 1000, 3_601_000, 3_602_000], 0, 1),  # misdated from there on
        ([0, 1000, 500, 2000], 0, 1),  # back in time
        ([0, 1000, 1000, 2000], 0, 1),  # two at once
        ([0, 1000, 9000, 10000], 1, 0),  # a reboot of 8 s
        ([0, 1000, 9000, 17000], 1, 1),  # and another that nobody told of
        ([0, 1000, 9000, 17000], 2, 0),
        ([0, 1000, 62000, 63000], 1, 1),  # longer than a reboot takes
        ([0, 1000, 900, 1900], 1, 1),  # a reboot does not lead back
        ([0, 1000, 1100, 2100], 1, 1),  # nor is it shorter than a period
    ],
)
def test_times(times: Sequence[int], reboots: int, faults: int) -> None:
    readings = Readings(reading(seq, ms) for seq, ms in enumerate(times))
    assert readings.without_gaps(), "only who names a period has the times looked at"
    assert len(readings.without_gaps(1, reboots=reboots).faults) == faults


def test_a_narrower_tolerance_and_a_longer_pause() -> None:
    assert not Readings(reading(seq, ms) for seq, ms in enumerate([0, 1200, 2000])).without_gaps(1, 0.1)
    late = Readings(reading(seq, ms) for seq, ms in enumerate([0, 1000, 99000]))
    assert late.without_gaps(1, reboots=1, pause=100)
    assert late.without_gaps(1).why == "bme280/temperature: 98.000 s from 1 to 2 of epoch 1a2b3c4d"


def test_each_channel_has_its_own_period() -> None:
    arrived = [reading(2 * i, 1000 * i) for i in range(4)]
    arrived += [reading(2 * i + 1, 1000 * i + 500, "probe/temperature") for i in range(4)]
    arrived.sort(key=lambda each: each.seq)
    assert Readings(arrived).without_gaps(1)
    # The hole may be of either channel.
    for channel in ("bme280/temperature", "probe/temperature"):
        part = Readings(arrived[:3] + arrived[4:]).of(channel)
        assert part.channels == [channel] and part.lost == 1 and not part.without_gaps()
    assert Readings(arrived).of("wind/speed").without_gaps().why == "there are no readings"


def test_each_epoch_begins_at_0_and_time_goes_on() -> None:
    arrived = [*some(0, 1, 2), *(reading(seq, 3000 + 1000 * seq, epoch=LATER) for seq in range(3))]
    assert Readings(arrived).epochs == [EPOCH, LATER]
    assert Readings(arrived).without_gaps(1) and Readings(arrived).in_order()
    assert Readings(arrived[:3] + arrived[4:]).without_gaps().why == "0 of epoch 00000001 lost"
    assert not Readings([*some(0, 1), reading(0, 5000, epoch=LATER)]).without_gaps(1), "3 s were not measured"


def test_a_loss_that_the_node_told_is_a_loss() -> None:
    told = [Gap(EPOCH, 1, 2, "full"), Gap(EPOCH, 2, 2, "full"), Gap(LATER, 1, 3, "full")]
    readings = Readings(some(0, 4), told)
    [hole] = readings.holes
    assert (hole.first, hole.last, hole.count, hole.told, readings.lost) == (1, 3, 3, 2, 3)
    assert readings.without_gaps().why == "1 to 3 of epoch 1a2b3c4d lost (2 told by the node)"


def test_parts() -> None:
    readings = Readings([*some(0, 1), bad(2), *some(4, 5)])
    assert [each.seq for each in readings.between(START / 1000 + 1, START / 1000 + 4)] == [1, 2, 4]
    assert [each.seq for each in readings.bad] == [2] and len(readings.good) == 4
    assert readings.between(START / 1000, START / 1000 + 2).lost == 0, "holes outside do not count"
    assert readings[1:].holes == readings.bad.holes == readings.holes
    assert readings[-1] == reading(5)
    assert math.isnan(readings.values[2]) and readings.values[:2] == [21.5, 21.5]
    assert readings.times[:2] == [START / 1000, START / 1000 + 1]
    assert repr(readings) == "<5 readings of bme280/temperature>"


def test_what_two_brokers_got_of_a_node_is_one() -> None:
    first, second = Readings(some(0, 1, 2, 1), [Gap(EPOCH, 5, 5, "full")]), Readings(some(2, 3, 4, 6))
    both = first + second
    assert (both.lost, both.duplicates, both.holes[0].told) == (1, 2, 1)
    assert both[:5].without_gaps(1)


def test_cadence() -> None:
    readings = Readings(reading(seq, ms) for seq, ms in enumerate([0, 1000, 1900, 3000]))
    found = readings.cadence()
    assert (found.mean, found.jitter, found.worst) == pytest.approx((1.0, math.sqrt(0.02 / 3), 0.1))
    with pytest.raises(ValueError, match="of 2: use of"):
        Readings([reading(0), reading(1, channel="wind/speed")]).cadence()
    with pytest.raises(ValueError, match="two readings at least"):
        readings[:1].cadence()


def test_pytest_shows_what_is_wrong() -> None:
    readings = Readings(some(0, 2, 4, 6, 8, 10, 12))
    with pytest.raises(AssertionError) as caught:
        assert readings.without_gaps(period=1)
    shown = str(caught.value)
    assert "1 of epoch 1a2b3c4d lost; 3 of epoch 1a2b3c4d lost; 5 of epoch" in shown
    assert "and 9 more" in shown
    assert "..." not in shown.splitlines()[0], "pytest cuts what is long"
