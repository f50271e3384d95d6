"""Readings out of a `data` payload: SenML JSON (RFC 8428) with the fields of docs/wire.md.

Decoding is strict: what the wire does not have is refused, never skipped, for a receiver that guesses
alters readings unnoticed. Numbers stay decimal, digit for digit.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, NoReturn, get_args

from host_tools.pki.names import is_node_id
from host_tools.telemetry.payload import WHOLE_BELOW, PayloadError, is_plain_text, parse, whole_number

Quality = Literal["synced", "holdover", "recovered", "unknown"]
"""How the time of a reading came about: docs/wire.md."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-:./_]*")  # RFC 8428 §4.5.1
_EPOCH = re.compile(r"[0-9a-f]{8}")

_PACK_FIELDS = {"bt": Decimal, "epoch": str}  # in the first record only
_GROUP_FIELDS = {"bn": str, "bu": str, "seq": Decimal}  # in the first record of a group only
_RECORD_FIELDS = {
    "step": Decimal,
    "t": Decimal,
    "tq": str,
    "tu": Decimal,
    "v": Decimal,
    "vs": str,
    "q": str,
}
_FIELDS = _PACK_FIELDS | _GROUP_FIELDS | _RECORD_FIELDS

_QUALITIES: dict[str, Quality] = {quality: quality for quality in get_args(Quality) if quality != "synced"}
_RELATIVE_BELOW = 2**28  # seconds: a smaller time is relative to the receiver's now (RFC 8428 §4.5.3)
_TIME_BELOW = 253402300800  # seconds: the year 10000, where Python's dates end
_DIGITS = 18
_DECIMALS = 9
_TEXT_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading as it left the node. (node, epoch, seq) names it for good.

    `value` has exactly the digits that were sent, in `unit` (SenML units, RFC 8428 §12.1), and is None in a
    bad reading; then `reason` says why. `unix_ms` is when it was taken, in milliseconds since 1970, UTC. With
    the quality "unknown" that is the earliest possible time, and the reading may have been taken up to
    `later_s` seconds later, None when nobody can tell; with any other it is the time, and `later_s` is 0.
    """

    node: str
    epoch: str
    seq: int
    channel: str
    unit: str
    value: Decimal | None
    reason: str
    unix_ms: int
    quality: Quality = "synced"
    later_s: int | None = 0


@dataclass(slots=True)
class _Group:
    """What holds for the records from one with a name to the next such."""

    sender: str
    channel: str
    unit: str
    seq: int  # of the record read last
    step: int = 1


def decode(payload: bytes, node: str | None = None) -> list[Reading]:
    """The readings of a pack, in the order of their sequence numbers.

    `node` is the one that the topic names: the broker vouches for topics, not for payloads, so a pack that
    bears another node's name is refused. Raises PayloadError, which names the record (from 1) and the fault.
    """
    records = _records(payload)
    first = records[0]
    epoch = first.get("epoch")
    if not isinstance(epoch, str) or not _EPOCH.fullmatch(epoch):
        _refuse(1, "'epoch' must be 8 hex digits in lower case")
    group: _Group | None = None
    readings: dict[int, Reading] = {}
    for number, record in enumerate(records, 1):
        _check_fields(number, record)
        group = _next(number, record, group, node)
        if group.seq in readings:
            _refuse(number, f"the sequence number {group.seq} is there twice")
        value, reason = _value(number, record)
        unix_ms = _time(number, record, first.get("bt"))
        quality, later_s = _quality(number, record)
        readings[group.seq] = Reading(
            group.sender,
            epoch,
            group.seq,
            group.channel,
            group.unit,
            value,
            reason,
            unix_ms,
            quality,
            later_s,
        )
    return [readings[seq] for seq in sorted(readings)]


def _records(payload: bytes) -> list[dict[str, object]]:
    pack = parse(payload)
    if not isinstance(pack, list) or not pack or not all(isinstance(record, dict) for record in pack):
        raise PayloadError("the payload is not a SenML pack: a list of at least one record")
    return pack


def _check_fields(number: int, record: Mapping[str, object]) -> None:
    for key, value in record.items():
        if key not in _FIELDS:
            _refuse(number, f"{key[:_TEXT_LENGTH]!r} is not a field of this wire")
        if key in _PACK_FIELDS and number > 1:
            _refuse(number, f"{key!r} may stand in the first record only")
        if key in _GROUP_FIELDS and "bn" not in record:
            _refuse(number, f"{key!r} may stand only where a group begins, with 'bn'")
        expected = _FIELDS[key]
        if not isinstance(value, expected):
            _refuse(number, f"{key!r} must be a {'text' if expected is str else 'number'}")


def _next(number: int, record: Mapping[str, object], group: _Group | None, node: str | None) -> _Group:
    """The group at this record, with the record's sequence number."""
    if "bn" in record or group is None:
        return _open(number, record, group, node)
    if "step" in record:
        group.step = _whole(number, record, "step", 1)
    group.seq += group.step
    if group.seq >= WHOLE_BELOW:
        _refuse(number, "'step' leads to a sequence number that is too large")
    return group


def _open(number: int, record: Mapping[str, object], before: _Group | None, node: str | None) -> _Group:
    name = str(record.get("bn", ""))
    sender, slash, channel = name.partition("/")
    if not is_node_id(sender) or not slash or not _NAME.fullmatch(channel):
        _refuse(number, f"{name[:_TEXT_LENGTH]!r} is not a name like node/sensor/quantity")
    if before and sender != before.sender:
        _refuse(number, f"it speaks for {sender!r} in a pack of {before.sender!r}")
    if node is not None and sender != node:
        _refuse(number, f"it speaks for {sender!r} on the topic of {node!r}")
    unit = record.get("bu", before.unit if before else None)
    if not isinstance(unit, str) or not is_plain_text(unit, _TEXT_LENGTH):
        _refuse(number, "it has no unit, or one that cannot be printed")
    if "step" in record:
        _refuse(number, "'step' may not stand where a group begins: there is no record to count from")
    return _Group(sender, channel, unit, _whole(number, record, "seq", 0))


def _whole(number: int, record: Mapping[str, object], key: str, least: int) -> int:
    value = whole_number(record.get(key), least)
    return _refuse(number, f"{key!r} must be a whole number from {least}") if value is None else value


def _value(number: int, record: Mapping[str, object]) -> tuple[Decimal | None, str]:
    value = record.get("v")
    reason = record.get("vs", "")
    if isinstance(value, Decimal) and "vs" not in record and "q" not in record:
        if not _is_plain_number(value):
            _refuse(number, f"'v' has more than {_DIGITS} digits or {_DECIMALS} decimals, or an exponent")
        return value, ""
    if (
        value is None
        and record.get("q") == "bad"
        and isinstance(reason, str)
        and is_plain_text(reason, _TEXT_LENGTH)
    ):
        return None, reason
    return _refuse(number, "it must have either 'v', or 'q':\"bad\" and a printable reason in 'vs'")


def _time(number: int, record: Mapping[str, object], base: object) -> int:
    seconds = Decimal(0)
    for part in (base, record.get("t")):
        if isinstance(part, Decimal):
            if not _is_plain_number(part):
                _refuse(number, "its time has too many digits")
            seconds += part
    if not _RELATIVE_BELOW <= seconds < _TIME_BELOW:
        _refuse(number, "its time is not a date: 'bt' and 't' must give seconds since 1970")
    milliseconds = seconds * 1000
    if milliseconds != int(milliseconds):
        _refuse(number, "its time has more than three decimals")
    return int(milliseconds)


def _quality(number: int, record: Mapping[str, object]) -> tuple[Quality, int | None]:
    """How the time came about, and by how many seconds it may be later."""
    word = record.get("tq")
    quality: Quality = "synced"
    if word is not None:
        if word not in _QUALITIES:
            _refuse(number, f"'tq' must be one of {', '.join(_QUALITIES)}")
        quality = _QUALITIES[str(word)]
    if quality != "unknown":
        if "tu" in record:
            _refuse(number, "'tu' may stand only beside 'tq':\"unknown\"")
        return quality, 0
    return quality, _whole(number, record, "tu", 0) if "tu" in record else None


def _is_plain_number(value: Decimal) -> bool:
    """Whether the number is one that a node prints; a sum of two such is exact, and its text is short."""
    _, digits, exponent = value.as_tuple()
    return len(digits) <= _DIGITS and isinstance(exponent, int) and -_DECIMALS <= exponent <= 0


def _refuse(number: int, fault: str) -> NoReturn:
    raise PayloadError(f"record {number}: {fault}")
