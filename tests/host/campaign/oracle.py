"""What must be true of a node's readings: what was confirmed, against what a subscriber received.

Both are seen from outside of the node; nothing that the node thinks of itself counts.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from host_tools.telemetry.senml import Reading, decode

CHANNELS = {"bme280/temperature": ("Cel", 2), "probe/temperature": ("Cel", 4)}


@dataclass(slots=True)
class Life:
    """From power-on to a power cut. `marking`: the time was about to be told; `marked`: it was."""

    marking: bool = False
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """A reading that the node has taken; `dated` says that the node knew the time by then."""

    value: int
    unix_ms: int
    life: Life
    dated: bool


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers of readings that the node says are lost, and its reason."""

    epoch: str
    first: int
    last: int
    why: str

    @property
    def numbers(self) -> range:
        return range(self.first, self.last + 1)


@dataclass
class Witness:
    """Writes down what a node's lives print (tests/firmware/campaign/life.py)."""

    confirmed: dict[int, Taken] = field(default_factory=dict)
    cut_off: list[Taken] = field(default_factory=list)
    """Readings whose append() never came back: each may arrive or not."""
    epoch: str | None = None
    end: dict[str, Any] | None = None
    """What the last life said at its end; None when it was cut off."""

    def write_down(self, output: str) -> None:
        """One life's output."""
        life = Life()
        attempt: Taken | None = None
        self.end = None
        for line in output.split("\n"):
            match line.split(" "):
                case ["a", value, unix_ms]:
                    attempt = Taken(int(value), int(unix_ms), life, life.marked)
                case ["c", seq, epoch]:
                    assert attempt is not None
                    self._confirm(int(seq), epoch, attempt)
                    attempt = None
                case ["m"]:
                    life.marking = True
                case ["M"]:
                    life.marked = True
                case ["e", *words]:
                    self.end = json.loads(" ".join(words))
        if attempt:
            self.cut_off.append(attempt)

    def _confirm(self, seq: int, epoch: str, reading: Taken) -> None:
        assert self.epoch in (None, epoch), f"the epoch changed from {self.epoch} to {epoch}"
        assert seq > max(self.confirmed, default=-1), f"number {seq} came again, or went back"
        self.epoch = epoch
        self.confirmed[seq] = reading


@dataclass
class Received:
    """What a subscriber received of one node."""

    readings: dict[int, Reading] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)
    duplicates: int = 0

    def covered(self) -> set[int]:
        return set(self.readings).union(*(gap.numbers for gap in self.gaps))


def receive(node: str, messages: Iterable[tuple[str, bytes]], epoch: str) -> Received:
    """Sort what came (leaf, payload), as a receiver does that drops duplicates by (node, epoch, seq)."""
    received = Received()
    for leaf, payload in messages:
        if leaf == "data":
            for reading in decode(payload, node):
                assert reading.epoch == epoch, f"{reading} is of another epoch than {epoch}"
                known = received.readings.setdefault(reading.seq, reading)
                received.duplicates += known is not reading
                _same(known, reading)
        elif leaf == "event":
            event = json.loads(payload)
            if event.pop("event") == "gap":
                gap = Gap(**event)
                assert gap.epoch == epoch
                assert gap.first <= gap.last
                received.gaps.append(gap)
    return received


def _same(one: Reading, other: Reading) -> None:
    """Two with one number are one reading; what is known of its time may have grown in between."""
    same = (one.channel, one.unit, one.value, one.reason) == (
        other.channel,
        other.unit,
        other.value,
        other.reason,
    )
    assert same, f"two contents of one number: {one} and {other}"
    if one.quality == other.quality != "unknown":
        assert one.unix_ms == other.unix_ms, f"two times of one reading: {one} and {other}"


@dataclass(frozen=True)
class Verdict:
    """What was counted on the way: confirmed readings, those dropped because full, and the harmless."""

    confirmed: int
    dropped: int
    appeared: int
    """Readings whose append was cut off, and which arrived."""
    undated: int
    duplicates: int


def judge(witness: Witness, received: Received, kept: int) -> Verdict:
    """Raises AssertionError at what must not be. `kept`: as many of the newest readings are never dropped."""
    newest = max(witness.confirmed, default=-1)
    appeared: set[int] = set()
    for seq, reading in received.readings.items():
        taken = witness.confirmed.get(seq)
        if taken is None:
            taken = _cut_off(witness, reading)
            assert taken.value not in appeared, f"came twice, with two numbers: {reading}"
            appeared.add(taken.value)
        _judge_content(taken, reading)
        _judge_time(taken, reading)
    dropped = set()
    for gap in received.gaps:
        assert gap.why in ("full", "damaged"), gap
        for seq in _lost_in(gap, witness, received):
            assert seq <= newest - kept, f"{gap}, but the spool was not full: the newest is {newest}"
            dropped.add(seq)
    missing = witness.confirmed.keys() - received.readings.keys() - dropped
    assert not missing, f"lost without a word: {sorted(missing)[:20]}"
    silent = set(range(newest + 1)) - received.covered()
    assert not silent, f"numbers that nobody has explained: {sorted(silent)[:20]}"
    undated = sum(reading.quality == "unknown" for reading in received.readings.values())
    return Verdict(len(witness.confirmed), len(dropped), len(appeared), undated, received.duplicates)


def _lost_in(gap: Gap, witness: Witness, received: Received) -> Iterator[int]:
    for seq in gap.numbers:
        if seq in witness.confirmed and seq not in received.readings:
            yield seq


def _cut_off(witness: Witness, reading: Reading) -> Taken:
    for taken in witness.cut_off:
        if taken.value == _raw(reading):
            return taken
    raise AssertionError(f"invented: {reading}")


def _raw(reading: Reading) -> int | None:
    """The value as the sensor gave it: an integer."""
    if reading.value is None:
        return None
    return int(reading.value.scaleb(CHANNELS[reading.channel][1]))


def _judge_content(taken: Taken, reading: Reading) -> None:
    assert _raw(reading) == taken.value, f"altered: {reading} was {taken}"
    assert reading.unit == CHANNELS[reading.channel][0], f"altered: {reading}"


def _judge_time(taken: Taken, reading: Reading) -> None:
    said = f"misdated: {reading} was {taken}"
    life = taken.life
    if life.marked:
        assert reading.quality == ("synced" if taken.dated else "recovered"), said
    else:
        assert reading.quality == "unknown" or (life.marking and reading.quality == "recovered"), said
    if reading.quality == "unknown":
        assert reading.unix_ms <= taken.unix_ms, said
        if reading.later_s is not None:
            assert taken.unix_ms <= reading.unix_ms + reading.later_s * 1000, said
    else:
        assert reading.unix_ms == taken.unix_ms, said
