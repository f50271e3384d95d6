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
    assert max(len(each._starts) for each in ledger._nodes["n01"].epochs.values()) <= 4096
