"""When the readings of a spool were taken: uptimes made into times by what each boot knew of the clock.

The rules are those of docs/formats.md, "Dating".
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum


class Quality(StrEnum):
    """How a reading's time came about; the words are the wire's."""

    SYNCED = "synced"
    HOLDOVER = "holdover"
    RECOVERED = "recovered"
    UNKNOWN = "unknown"


RTC, SYNCED, COASTING = 1, 2, 3
"""`trust` of a TIME record: the RTC's word, a time server's, a time server's of long ago."""


@dataclass(frozen=True, slots=True)
class Channel:
    """What a reading is of: `name` is sensor/quantity, and its value counts steps of 10^-decimals `unit`."""

    name: str
    unit: str
    decimals: int


UNTOLD = Channel("", "", 0)
"""Damage hides which channel it was: such a reading serves to date others, and is not given out."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading. `boot` is None where damage hides which boot it is of.

    With quality `unknown`, `unix_ms` is the earliest that it can have been, and `later_s` how much later it
    was at most (s), None where nothing bounds it.
    """

    seq: int
    boot: int | None
    uptime_ms: int
    channel: Channel
    reason: int
    value: int
    unix_ms: int = 0
    quality: Quality = Quality.UNKNOWN
    later_s: int | None = 0


@dataclass(frozen=True, slots=True)
class TimeKnown:
    """A sector's opening, or a TIME record: the unix ms of the boot's start, with `trust` 0 for not known."""

    offset_ms: int
    trust: int
    proof: int = 0
    """A time (unix s) that had passed by then, 0 for none."""

    @property
    def is_sure(self) -> bool:
        return self.trust in (SYNCED, COASTING)


@dataclass(slots=True)
class Stretch:
    """Records of one boot in their order.

    `boot` is None where damage hides which one it is: `known`, the last that was told, or a later one.
    """

    boot: int | None
    known: int
    entries: list[Reading | TimeKnown] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Sure:
    """The first time behind a reading that a time server has told, and the boot that begins at it."""

    boot: int | None
    offset_ms: int
    is_near: bool
    """No other boot, nor one that is not known, lies between."""


def date(stretches: Sequence[Stretch]) -> tuple[list[Reading], int]:
    """All readings with their times, and the newest time that the spool proves (unix s, 0 for none)."""
    dated: list[Reading] = []
    proof = floor = last_boot = 0
    now: TimeKnown | None = None
    for index, stretch in enumerate(stretches):
        if stretch.boot is None:
            if now and now.is_sure:  # perhaps the boot goes on, and it began before the newest proof
                floor = now.offset_ms // 1000
        elif stretch.boot != last_boot:
            floor = proof
        now, last_boot = None, stretch.known
        for at, entry in enumerate(stretch.entries):
            if isinstance(entry, TimeKnown):
                now = entry if entry.trust else now
                proof = max(proof, entry.proof, entry.offset_ms // 1000 if entry.is_sure else 0)
                if stretch.boot is not None:
                    floor = max(floor, entry.proof)
                continue
            is_sure = now is not None and now.is_sure
            reading = _dated(
                entry, stretch, now, None if is_sure else _sure_behind(stretches, index, at, proof), floor
            )
            if is_sure or reading.quality is Quality.RECOVERED:
                proof = max(proof, reading.unix_ms // 1000)
            if reading.channel is not UNTOLD:
                dated.append(reading)
    return dated, proof


def _dated(
    reading: Reading, stretch: Stretch, now: TimeKnown | None, sure: _Sure | None, floor: int
) -> Reading:
    """`now`: what the boot knew of the time. `floor`: the boot did not begin before (unix s)."""
    if now and now.is_sure:
        quality = Quality.SYNCED if now.trust == SYNCED else Quality.HOLDOVER
        return _at(reading, now.offset_ms, quality)
    if sure and (sure.is_near or sure.boot == stretch.known):
        return _at(reading, sure.offset_ms, Quality.RECOVERED)
    if now:
        return _at(reading, now.offset_ms, Quality.HOLDOVER)
    if sure is None:
        return _at(reading, floor * 1000, Quality.UNKNOWN, None)
    latest = sure.offset_ms
    if stretch.boot is None or sure.boot is None:  # which may be the same
        latest += reading.uptime_ms
    later = -((floor * 1000 + reading.uptime_ms - latest) // 1000)
    return _at(reading, floor * 1000, Quality.UNKNOWN, max(0, later))


def _at(reading: Reading, offset_ms: int, quality: Quality, later_s: int | None = 0) -> Reading:
    return replace(reading, unix_ms=offset_ms + reading.uptime_ms, quality=quality, later_s=later_s)


def _sure_behind(stretches: Sequence[Stretch], index: int, at: int, proof: int) -> _Sure | None:
    """Look behind an entry of a stretch, where the newest time that is proved is `proof`."""
    for place, stretch in enumerate(stretches[index:]):
        for entry in stretch.entries[at:] if not place else stretch.entries:
            if not isinstance(entry, TimeKnown):
                continue
            if entry.is_sure:
                return _Sure(stretch.boot, entry.offset_ms, not place)
            if entry.proof > proof:  # somebody knew, in a record that is gone
                return _Sure(None, entry.proof * 1000 + 999, False)
    return None
