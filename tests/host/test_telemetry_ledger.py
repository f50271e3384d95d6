"""The ledger of readings, against plain sets on random arrivals, and at its edges."""

import random

import pytest

from host_tools.telemetry.ledger import Ledger, Verdict

NEW, LATE, DUPLICATE = Verdict.NEW, Verdict.LATE, Verdict.DUPLICATE


def verdicts(ledger: Ledger, *seqs: int, epoch: str = "a") -> list[Verdict]:
    return [ledger.add("n01", epoch, seq) for seq in seqs]


def counts(ledger: Ledger) -> tuple[int, int, int, int]:
    return ledger.readings, ledger.lost, ledger.duplicates, ledger.late


def test_in_order() -> None:
    ledger = Ledger(from_start=True)
    assert verdicts(ledger, 0, 1, 2) == [NEW, NEW, NEW]
    assert counts(ledger) == (3, 0, 0, 0)


def test_a_hole_is_a_loss_until_it_is_filled() -> None:
    ledger = Ledger(from_start=True)
    verdicts(ledger, 0, 1, 5)
    assert counts(ledger) == (3, 3, 0, 0)
    assert verdicts(ledger, 3, 2, 4) == [LATE, LATE, LATE]
    assert counts(ledger) == (6, 0, 0, 3)
    assert verdicts(ledger, 6) == [NEW]


def test_the_same_twice_is_a_duplicate_wherever_it_lies() -> None:
    ledger = Ledger(from_start=True)
    verdicts(ledger, 0, 1, 2, 7, 8)
    assert verdicts(ledger, 0, 1, 2, 7, 8, 8) == [DUPLICATE] * 6
    assert counts(ledger) == (5, 4, 6, 0)


def test_what_came_before_counts_only_for_one_who_was_there() -> None:
    joined_late, was_there = Ledger(), Ledger(from_start=True)
    for ledger in (joined_late, was_there):
        verdicts(ledger, 10, 11)
    assert (joined_late.lost, was_there.lost) == (0, 10)
    for ledger in (joined_late, was_there):
        verdicts(ledger, 8)
    assert (joined_late.lost, was_there.lost) == (1, 9)


def test_one_who_joined_late_is_there_from_the_second_epoch_on() -> None:
    ledger = Ledger()
    verdicts(ledger, 10)
    verdicts(ledger, 2, epoch="b")
    assert ledger.lost == 2


def test_nodes_and_epochs_are_apart() -> None:
    ledger = Ledger(from_start=True)
    for node in ("n01", "n02"):
        for epoch in ("a", "b"):
            assert ledger.add(node, epoch, 0) is NEW
    assert counts(ledger) == (4, 0, 0, 0)


@pytest.mark.parametrize("seed", range(20))
def test_random_arrivals_against_sets(seed: int) -> None:
    chance = random.Random(seed)
    ledger = Ledger(from_start=True)
    seen: dict[str, set[int]] = {"a": set(), "b": set()}
    duplicates = late = 0
    for _ in range(600):
        epoch = chance.choice("ab")
        seq = chance.randrange(200)
        known = seen[epoch]
        expected = DUPLICATE if seq in known else LATE if known and seq < max(known) else NEW
        duplicates += expected is DUPLICATE
        late += expected is LATE
        known.add(seq)
        assert ledger.add("n01", epoch, seq) is expected
        lost = sum(max(each) + 1 - len(each) for each in seen.values() if each)
        assert counts(ledger) == (sum(map(len, seen.values())), lost, duplicates, late)


def test_memory_is_bounded_and_the_loss_still_right() -> None:
    ledger = Ledger(from_start=True)
    verdicts(ledger, *range(1, 20_001, 2))
    assert counts(ledger) == (10_000, 10_000, 0, 0)
    assert verdicts(ledger, 0) == [LATE]  # before the first one, which is no hole between two
    assert verdicts(ledger, 2) == [DUPLICATE]  # the oldest holes are given up
    assert verdicts(ledger, 19_998) == [LATE]
    assert ledger.lost == 9_998
    for number in range(200):
        verdicts(ledger, 1, epoch=f"e{number}")
    assert ledger.lost == 9_998 + 200
    assert len(ledger._nodes["n01"].epochs) <= 64
    assert all(each._seen.pieces <= 4096 for each in ledger._nodes["n01"].epochs.values())


def test_a_loss_is_explained_by_what_the_node_has_announced() -> None:
    ledger = Ledger(from_start=True)
    verdicts(ledger, 0, 1, 10)
    assert (ledger.lost, ledger.announced, ledger.unexplained) == (8, 0, 8)
    assert ledger.explain("n01", "a", 2, 6) == 5
    assert (ledger.lost, ledger.announced, ledger.unexplained) == (8, 5, 3)
    assert ledger.explain("n01", "a", 4, 8) == 2
    assert ledger.explain("n01", "a", 2, 8) == 0
    assert (ledger.lost, ledger.announced, ledger.unexplained) == (8, 7, 1)
    assert verdicts(ledger, 3, 9) == [LATE, LATE]  # they came all the same
    assert (ledger.lost, ledger.announced, ledger.unexplained) == (6, 6, 0)
    assert ledger.explain("n02", "a", 0, 9) == ledger.explain("n01", "b", 0, 9) == 10
    assert (ledger.lost, ledger.announced) == (6, 6)


def test_an_announcement_may_come_before_the_readings_around_it() -> None:
    was_there, joined_late = Ledger(from_start=True), Ledger()
    for ledger in (was_there, joined_late):
        ledger.explain("n01", "a", 0, 249)
        ledger.explain("n01", "a", 260, 300)
        assert (ledger.lost, ledger.announced) == (0, 0)  # nothing has come that they could be missing from
        assert verdicts(ledger, 250) == [NEW]
    assert (was_there.lost, was_there.announced) == (250, 250)
    assert (joined_late.lost, joined_late.announced) == (0, 0)
    for ledger in (was_there, joined_late):
        verdicts(ledger, 302)
    assert (was_there.lost, was_there.unexplained) == (250 + 51, 10)
    assert (joined_late.lost, joined_late.unexplained) == (51, 10)


@pytest.mark.parametrize("seed", range(20))
def test_random_announcements_against_sets(seed: int) -> None:
    chance = random.Random(seed)
    ledger = Ledger(from_start=True)
    seen: set[int] = set()
    announced: set[int] = set()
    for _ in range(400):
        if chance.random() < 0.2:
            first = chance.randrange(300)
            numbers = set(range(first, first + chance.choice((1, 3, 40))))
            assert ledger.explain("n01", "a", min(numbers), max(numbers)) == len(numbers - announced)
            announced |= numbers
        else:
            seq = chance.randrange(300)
            ledger.add("n01", "a", seq)
            seen.add(seq)
        lost = set(range(max(seen, default=0))) - seen
        assert (ledger.lost, ledger.announced) == (len(lost), len(lost & announced))


def test_announcements_take_bounded_memory_and_stay_counted() -> None:
    ledger = Ledger(from_start=True)
    for first in range(0, 40_000, 4):  # holes of three, two of them announced
        ledger.explain("n01", "a", first, first + 1)
        verdicts(ledger, first + 3)
    assert (ledger.lost, ledger.announced) == (30_000, 20_000)
    assert verdicts(ledger, 2, 39_996) == [DUPLICATE, LATE]  # the oldest holes are given up
    assert (ledger.lost, ledger.announced) == (29_999, 19_999)
    (epoch,) = ledger._nodes["n01"].epochs.values()
    assert epoch._seen.pieces <= 4096 and epoch._announced.pieces <= 4096
    for number in range(64):
        verdicts(ledger, 0, epoch=f"e{number}")  # the first epoch is given up too
    assert epoch not in ledger._nodes["n01"].epochs.values()
    assert (ledger.lost, ledger.announced) == (29_999, 19_999)


@pytest.mark.parametrize("seen_before", [[], [0]])
def test_announcements_alone_take_bounded_memory(seen_before: list[int]) -> None:
    ledger = Ledger(from_start=True)
    verdicts(ledger, *seen_before)
    for number in range(10_000):
        ledger.explain("n01", "a", number * 2 + 1, number * 2 + 1)
    (epoch,) = ledger._nodes["n01"].epochs.values()
    assert epoch._announced.pieces <= 4096
    assert (ledger.lost, ledger.announced) == (0, 0)
    assert verdicts(ledger, 1, 20_000) == [NEW, NEW]
    assert (ledger.lost, ledger.announced) == (20_001 - ledger.readings, 4096)  # the oldest are forgotten
