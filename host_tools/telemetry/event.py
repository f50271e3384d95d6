"""What a node tells on its `event` topic: readings that it has lost for good, and remarks on itself."""

import re
from dataclasses import dataclass

from host_tools.telemetry.payload import PayloadError, is_plain_text, parse, whole_number

_EPOCH = re.compile(r"[0-9a-f]{8}")
_WHYS = ("full", "damaged")
_SOURCES = ("spool", "clock", "uplink", "identity")
_TEXT_LENGTH = 250


@dataclass(frozen=True, slots=True)
class Gap:
    """The node's readings of `epoch` from `first` to `last` are lost; `why` is "full" or "damaged"."""

    epoch: str
    first: int
    last: int
    why: str

    @property
    def count(self) -> int:
        """How many readings that are."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Remark:
    """Something a person should know; `source` is the part that says so, such as "spool" or "identity"."""

    source: str
    text: str


def decode(payload: bytes) -> Gap | Remark:
    """The event in a payload. Strict as `senml.decode` is; raises PayloadError, which names the fault."""
    event = parse(payload)
    if not isinstance(event, dict):
        raise PayloadError("the event is not a JSON object")
    if event.get("event") == "gap":
        return _gap(event)
    if event.get("event") in _SOURCES:
        return _remark(event)
    raise PayloadError(f"'event' must be one of gap, {', '.join(_SOURCES)}")


def _gap(event: dict[str, object]) -> Gap:
    _check_keys(event, {"event", "epoch", "first", "last", "why"})
    epoch, why = event["epoch"], event["why"]
    first, last = whole_number(event["first"]), whole_number(event["last"])
    if not isinstance(epoch, str) or not _EPOCH.fullmatch(epoch):
        raise PayloadError("'epoch' must be 8 hex digits in lower case")
    if first is None or last is None or last < first:
        raise PayloadError("'first' and 'last' must be whole numbers, 'last' not the smaller one")
    if why not in _WHYS:
        raise PayloadError(f"'why' must be one of {', '.join(_WHYS)}")
    return Gap(epoch, first, last, str(why))


def _remark(event: dict[str, object]) -> Remark:
    _check_keys(event, {"event", "text"})
    text = event["text"]
    if not isinstance(text, str) or not is_plain_text(text, _TEXT_LENGTH):
        raise PayloadError(f"'text' must be a printable text of at most {_TEXT_LENGTH} characters")
    return Remark(str(event["event"]), text)


def _check_keys(event: dict[str, object], wanted: set[str]) -> None:
    if missing := wanted - event.keys():
        raise PayloadError(f"{min(missing)!r} is missing")
    if strange := event.keys() - wanted:
        raise PayloadError(f"{min(strange)[:32]!r} is not a field of this event")
