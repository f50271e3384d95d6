"""Payloads of the event topic: what they say, and what is refused."""

import pytest

from host_tools.telemetry.event import Gap, Remark, decode
from host_tools.telemetry.payload import PayloadError

GAP = '{"event":"gap","epoch":"1a2b3c4d","first":3,"last":250,"why":"full"}'
REMARK = '{"event":"clock","text":"no server has answered"}'


def test_a_gap() -> None:
    gap = decode(GAP.encode())
    assert gap == Gap("1a2b3c4d", 3, 250, "full")
    assert isinstance(gap, Gap) and gap.count == 248
    assert decode(GAP.replace("250", "3").replace("full", "damaged").encode()) == Gap(
        "1a2b3c4d", 3, 3, "damaged"
    )


@pytest.mark.parametrize("source", ["spool", "clock", "uplink"])
def test_a_remark(source: str) -> None:
    assert decode(REMARK.replace("clock", source).encode()) == Remark(source, "no server has answered")


REFUSED = {
    "no JSON": ("{", "not JSON"),
    "no object": ("[]", "the event is not a JSON object"),
    "a field twice": (REMARK.replace("}", ',"text":"x"}'), "the same field twice"),
    "no kind": ('{"text":"x"}', "'event' must be one of gap, spool, clock, uplink, identity"),
    "unknown kind": (REMARK.replace("clock", "fire"), "'event' must be one of"),
    "kind is a list": (REMARK.replace('"clock"', "[]"), "'event' must be one of"),
    "text missing": ('{"event":"clock"}', "'text' is missing"),
    "text is a number": (REMARK.replace('"no server has answered"', "7"), "'text' must be a printable text"),
    "text empty": (REMARK.replace("no server has answered", ""), "'text' must be a printable text"),
    "text too long": (REMARK.replace("no", "n" * 250), "'text' must be a printable text of at most 250"),
    "text steers": (REMARK.replace("no", r"\u001b[2J"), "'text' must be a printable text"),
    "field of a gap": (REMARK.replace("}", ',"first":1}'), "'first' is not a field of this event"),
    "epoch": (GAP.replace("1a2b3c4d", "1A2B3C4D"), "'epoch' must be 8 hex digits"),
    "last missing": (GAP.replace('"last":250,', ""), "'last' is missing"),
    "backwards": (GAP.replace("250", "2"), "'first' and 'last' must be whole numbers"),
    "negative": (GAP.replace("3,", "-3,"), "'first' and 'last' must be whole numbers"),
    "not whole": (GAP.replace("250", "250.5"), "'first' and 'last' must be whole numbers"),
    "true": (GAP.replace("250", "true"), "'first' and 'last' must be whole numbers"),
    "too large": (GAP.replace("250", "9007199254740992"), "'first' and 'last' must be whole numbers"),
    "another why": (GAP.replace("full", "stolen"), "'why' must be one of full, damaged"),
    "why is a list": (GAP.replace('"full"', "[]"), "'why' must be one of full, damaged"),
    "unknown field": (GAP.replace("}", ',"x_":1}'), "'x_' is not a field of this event"),
}


@pytest.mark.parametrize(("payload", "says"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_event_is_refused(payload: str, says: str) -> None:
    with pytest.raises(PayloadError, match=says):
        decode(payload.encode())
