"""A spool for people to look at, and for programs."""

import datetime
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from host_tools.spool.dating import Quality, Reading
from host_tools.spool.format import State
from host_tools.spool.ring import Gap, decode
from host_tools.spool.source import Source

REASONS = (
    "good",
    "no acknowledge",
    "bus timeout",
    "CRC error",
    "wrong chip",
    "out of range",
    "wire break",
    "power-on value",
    "probe vanished",
    "not ready",
    "over-current",
    "sensor fault",
)
"""Why a reading has no value, by its number (docs/wire.md)."""

_ENDURANCE = 100_000  # erases of a sector that makers of NOR flash promise
_GAPS_SHOWN = 8
_EPOCH_BEGIN = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_LOST = {"full": "lost, the spool was full", "damaged": "lost, the flash is damaged"}


class Dump:
    """A source, decoded. `text` and `as_json` show it; with `everything` they list its readings."""

    def __init__(self, source: Source) -> None:
        self._name = source.name
        self._node_id = source.node_id
        self._spool = decode(source.partition, source.node_id)

    def text(self, everything: bool = False) -> Iterator[str]:
        """The lines for people."""
        spool = self._spool
        whose = f"the spool of {self._node_id}" if self._node_id else "a spool"
        yield f"{self._name}: {whose}, {len(spool.sectors)} sectors of 4096 bytes"
        if spool.epoch is None:
            yield _row("readings", "none: this node has written nothing yet")
        else:
            waiting = self._waiting()
            yield _row("epoch", f"{spool.epoch:08x}, boot {spool.boot}")
            yield _row("cursor", f"{spool.cursor}: a broker has all readings below this number")
            yield _row("waiting", _number(len(waiting), "reading") + _numbers(spool.cursor, spool.next))
            yield _row("held", f"{_number(len(spool.readings), 'reading')}, about {spool.capacity} fit")
            if spool.readings:
                yield _row("oldest", _line(spool.readings[0]))
                yield _row("newest", _line(spool.readings[-1]))
            for gap in spool.gaps[:_GAPS_SHOWN]:
                yield _row("gap", _gap(gap))
            if len(spool.gaps) > _GAPS_SHOWN:
                yield _row("", f"and {len(spool.gaps) - _GAPS_SHOWN} more gaps; --all shows them")
        yield _row("wear", self._wear())
        yield _row("damage", self._damage())
        foreign = sum(
            each.opening is not None and each.opening.owner != spool.owner for each in spool.sectors
        )
        if foreign:
            yield _row("foreign", f"{_number(foreign, 'sector')} of another node, which this one will erase")
        if everything:
            yield from self._items()

    def as_json(self, everything: bool = False) -> dict[str, Any]:
        """The same for programs; docs/commands.md names the keys."""
        spool = self._spool
        wear = spool.wear
        shown: dict[str, Any] = {
            "source": self._name,
            "node": self._node_id,
            "sectors": {str(state): spool.count(state) for state in State},
            "epoch": None if spool.epoch is None else f"{spool.epoch:08x}",
            "boot": spool.boot,
            "cursor": spool.cursor,
            "first": spool.first,
            "next": spool.next,
            "waiting": len(self._waiting()),
            "held": len(spool.readings),
            "capacity": spool.capacity,
            "proof": spool.proof,
            "wear": None if wear is None else {"min": wear[0], "max": wear[1]},
            "damaged": spool.damaged,
            "gaps": [{"first": gap.first, "last": gap.last, "why": gap.why} for gap in spool.gaps],
            "oldest": _object(spool.readings[0]) if spool.readings else None,
            "newest": _object(spool.readings[-1]) if spool.readings else None,
        }
        return shown | ({"readings": [_object(each) for each in spool.readings]} if everything else {})

    def _waiting(self) -> list[Reading]:
        return [reading for reading in self._spool.readings if reading.seq >= self._spool.cursor]

    def _wear(self) -> str:
        wear = self._spool.wear
        if wear is None:
            return "unknown: no sector says how often it was erased"
        least, most = wear
        span = _number(most, "erase") if least == most else f"{least} to {most} erases"
        return f"{span} a sector; flash is made for {_ENDURANCE:,}"

    def _damage(self) -> str:
        slots, sectors = self._spool.damaged, self._spool.count(State.DAMAGED)
        found = [
            text
            for count, text in (
                (slots, f"{_number(slots, 'record')} skipped"),
                (sectors, f"{_number(sectors, 'sector')} without a readable header"),
            )
            if count
        ]
        return ", ".join(found) or "none"

    def _items(self) -> Iterator[str]:
        yield ""
        cursor = self._spool.cursor
        is_behind = False
        for item in self._spool.items:
            first = item.first if isinstance(item, Gap) else item.seq
            if first >= cursor and not is_behind:
                is_behind = True
                yield f"--- cursor {cursor}"
            yield _gap(item) if isinstance(item, Gap) else f"{item.seq} {_line(item)}"


def _row(name: str, text: str) -> str:
    return f"  {name:<9}{text}"


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _numbers(first: int, end: int) -> str:
    if end <= first:
        return ""
    return f", number {first}" if end == first + 1 else f", numbers {first} to {end - 1}"


def _gap(gap: Gap) -> str:
    numbers = f"{gap.first}" if gap.first == gap.last else f"{gap.first} to {gap.last}"
    return f"{numbers} {_LOST[gap.why]}"


def _line(reading: Reading) -> str:
    channel = reading.channel
    value = f"{_value(reading):f} {channel.unit}" if not reading.reason else f"bad: {_reason(reading.reason)}"
    return f"{_time(reading)} {channel.name} {value}"


def _time(reading: Reading) -> str:
    at = _date(reading.unix_ms) or f"{reading.unix_ms} ms after 1970"
    if reading.quality is not Quality.UNKNOWN:
        return at if reading.quality is Quality.SYNCED else f"{at} ({reading.quality})"
    later = "or later" if reading.later_s is None else f"or up to {reading.later_s} s later"
    return f"{at} ({later})"


def _date(unix_ms: int) -> str | None:
    """ISO 8601 in UTC; None for a damaged clock's time beyond the calendar."""
    try:
        at = _EPOCH_BEGIN + datetime.timedelta(milliseconds=unix_ms)
    except OverflowError:
        return None
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _value(reading: Reading) -> Decimal:
    return Decimal(reading.value).scaleb(-reading.channel.decimals)


def _reason(number: int) -> str:
    return REASONS[number] if number < len(REASONS) else f"reason {number}"


def _object(reading: Reading) -> dict[str, Any]:
    return {
        "seq": reading.seq,
        "name": reading.channel.name,
        "unit": reading.channel.unit,
        "value": None if reading.reason else float(_value(reading)),
        "reason": _reason(reading.reason),
        "unix_ms": reading.unix_ms,
        "time": _date(reading.unix_ms),
        "quality": str(reading.quality),
        "later_s": reading.later_s,
        "boot": reading.boot,
        "uptime_ms": reading.uptime_ms,
    }
