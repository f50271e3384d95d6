"""Readings out of a `data` payload: SenML JSON (RFC 8428) with the fields of docs/wire.md.

Decoding is strict: what the wire does not have is refused, never skipped, for a receiver that guesses
alters readings unnoticed. Numbers stay decimal, digit for digit.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import NoReturn

from host_tools.errors import LimpetError
from host_tools.pki.names import is_node_id

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-:./_]*")  # RFC 8428 §4.5.1
_EPOCH = re.compile(r"[0-9a-f]{8}")

_BASE_FIELDS = {"bn": str, "bt": Decimal, "bu": str}
_FIRST_ONLY = ("epoch", "seq")
_RECORD_FIELDS = {"n": str, "t": Decimal, "u": str, "v": Decimal, "vs": str, "q": str}
_KNOWN = {*_BASE_FIELDS, *_FIRST_ONLY, *_RECORD_FIELDS, "bver"}

_RELATIVE_BELOW = 2**28  # seconds: a smaller time is relative to the receiver's now (RFC 8428 §4.5.3)
_TIME_BELOW = 253402300800  # seconds: the year 10000, where Python's dates end
_SEQ_BELOW = 2**53  # what every JSON reader keeps exactly (RFC 8259 §6)
_DIGITS = 18
_DECIMALS = 9
_TEXT_LENGTH = 64
_SENML_VERSION = 10


class PayloadError(LimpetError):
    """A payload is not what docs/wire.md describes."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading as it left the node. (node, epoch, seq) names it for good.

    `value` has exactly the digits that were sent, in `unit` (SenML units, RFC 8428 §12.1), and is None in a
    bad reading; then `reason` says why. `unix_ms` is when it was taken, in milliseconds since 1970, UTC.
    """

    node: str
    epoch: str
    seq: int
    channel: str
    unit: str
    value: Decimal | None
    reason: str
    unix_ms: int


def decode(payload: bytes, node: str | None = None) -> list[Reading]:
    """The readings of a pack, in its order.

    `node` is the one that the topic names: the broker vouches for topics, not for payloads, so a pack that
    bears another node's name is refused. Raises PayloadError, which names the record (from 1) and the fault.
    """
    records = _parse(payload)
    first = records[0]
    epoch = first.get("epoch")
    seq = first.get("seq")
    if not isinstance(epoch, str) or not _EPOCH.fullmatch(epoch):
        _refuse(1, "'epoch' must be 8 hex digits in lower case")
    if not isinstance(seq, Decimal) or seq.as_tuple().exponent != 0 or not 0 <= seq < _SEQ_BELOW:
        _refuse(1, "'seq' must be a whole number from 0")
    base: dict[str, object] = {}
    readings = []
    for index, record in enumerate(records):
        _check_fields(index + 1, record)
        base.update((key, record[key]) for key in _BASE_FIELDS if key in record)
        readings.append(_resolve(index + 1, record, base, epoch, int(seq) + index, node))
    return readings


def _parse(payload: bytes) -> list[Mapping[str, object]]:
    try:
        # Whole numbers become Decimal as well, so that a value is of one type and `true` is never a number.
        pack = json.loads(
            payload.decode(),
            parse_float=Decimal,
            parse_int=Decimal,
            parse_constant=_no_constant,
            object_pairs_hook=_no_repeats,
        )
    except UnicodeDecodeError as error:
        raise PayloadError(f"the payload is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise PayloadError(f"the payload is not JSON at character {error.pos}: {error.msg}") from None
    except RecursionError:
        raise PayloadError("the payload is nested too deep") from None
    if not isinstance(pack, list) or not pack or not all(isinstance(record, dict) for record in pack):
        raise PayloadError("the payload is not a SenML pack: a list of at least one record")
    return pack


def _no_constant(name: str) -> NoReturn:
    raise PayloadError(f"the payload has {name}, which JSON does not have")


def _no_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise PayloadError("a record has the same field twice")
    return record


def _check_fields(number: int, record: Mapping[str, object]) -> None:
    for key, value in record.items():
        if key not in _KNOWN:
            _refuse(number, f"{key[:_TEXT_LENGTH]!r} is not a field of this wire")
        if key in _FIRST_ONLY and number > 1:
            _refuse(number, f"{key!r} may stand in the first record only")
        expected = _BASE_FIELDS.get(key) or _RECORD_FIELDS.get(key)
        if expected and not isinstance(value, expected):
            _refuse(number, f"{key!r} must be a {'text' if expected is str else 'number'}")
    version = record.get("bver", Decimal(_SENML_VERSION))
    if not isinstance(version, Decimal) or version > _SENML_VERSION:
        _refuse(number, f"SenML version {_SENML_VERSION} is the newest that is understood")


def _resolve(
    number: int,
    record: Mapping[str, object],
    base: Mapping[str, object],
    epoch: str,
    seq: int,
    node: str | None,
) -> Reading:
    """Join a record with the base fields that hold for it (RFC 8428 §4.6)."""
    name = f"{base.get('bn', '')}{record.get('n', '')}"
    sender, slash, channel = name.partition("/")
    if not is_node_id(sender) or not slash or not _NAME.fullmatch(channel):
        _refuse(number, f"{name[:_TEXT_LENGTH]!r} is not a name like node/sensor/quantity")
    if node is not None and sender != node:
        _refuse(number, f"it speaks for {sender!r} on the topic of {node!r}")
    unit = record.get("u", base.get("bu"))
    if not isinstance(unit, str) or not _is_plain_text(unit):
        _refuse(number, "it has no unit, or one that cannot be printed")
    value, reason = _value(number, record)
    return Reading(sender, epoch, seq, channel, unit, value, reason, _time(number, record, base))


def _value(number: int, record: Mapping[str, object]) -> tuple[Decimal | None, str]:
    value = record.get("v")
    reason = record.get("vs", "")
    if isinstance(value, Decimal) and "vs" not in record and "q" not in record:
        if not _is_plain_number(value):
            _refuse(number, f"'v' has more than {_DIGITS} digits or {_DECIMALS} decimals, or an exponent")
        return value, ""
    if value is None and record.get("q") == "bad" and isinstance(reason, str) and _is_plain_text(reason):
        return None, reason
    return _refuse(number, "it must have either 'v', or 'q':\"bad\" and a printable reason in 'vs'")


def _time(number: int, record: Mapping[str, object], base: Mapping[str, object]) -> int:
    seconds = Decimal(0)
    for part in (base.get("bt"), record.get("t")):
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


def _is_plain_number(value: Decimal) -> bool:
    """Whether the number is one that a node prints; a sum of two such is exact, and its text is short."""
    _, digits, exponent = value.as_tuple()
    return len(digits) <= _DIGITS and isinstance(exponent, int) and -_DECIMALS <= exponent <= 0


def _is_plain_text(text: str) -> bool:
    """Whether the text may go to a terminal and into a table: short, and no control characters."""
    return 0 < len(text) <= _TEXT_LENGTH and text.isprintable()


def _refuse(number: int, fault: str) -> NoReturn:
    raise PayloadError(f"record {number}: {fault}")
