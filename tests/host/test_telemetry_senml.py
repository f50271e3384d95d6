"""Payloads of the data topic: the vectors that the firmware's encoder is tested with, and what is refused."""

import json
import re
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest

from host_tools.telemetry.payload import PayloadError
from host_tools.telemetry.senml import Quality, Reading, decode

FILE = json.loads((Path(__file__).parents[1] / "vectors" / "senml.json").read_text())
VECTORS = [pytest.param(vector, id=vector["name"]) for vector in FILE["vectors"]]

FIRST = '"bn":"n01/wind/speed","bt":1763820000.25,"epoch":"1a2b3c4d","bu":"m/s","seq":17'
VALUE = '"v":1.25'
OTHER = '"bn":"n01/probe/temperature","bu":"Cel","seq":18,"v":2'


def expected(vector: dict[str, Any]) -> list[Reading]:
    return [
        Reading(
            vector["node"],
            vector["epoch"],
            reading["seq"],
            reading["channel"],
            reading["unit"],
            None if reading["reason"] else Decimal(reading["value"]).scaleb(-reading["decimals"]),
            FILE["reasons"][reading["reason"]] if reading["reason"] else "",
            reading["unix_ms"],
            reading.get("quality", "synced"),
            reading.get("later_s", 0),
        )
        for reading in vector["readings"]
    ]


def seconds(ms: int) -> str:
    return f"{Decimal(ms).scaleb(-3):f}".rstrip("0").rstrip(".")


def printed(vector: dict[str, Any]) -> str:
    """The text by the wire's rules, from Python's own decimals: it guards the file against slips."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for reading in vector["readings"]:
        groups.setdefault((reading["channel"], reading["unit"]), []).append(reading)
    base = vector["readings"][0]["unix_ms"]
    records: list[str] = []
    unit_before = None
    for (channel, unit), readings in groups.items():
        fields = [f'"bn":"{vector["node"]}/{channel}"']
        if not records:
            fields += [f'"bt":{seconds(base)}', f'"epoch":"{vector["epoch"]}"']
        if unit != unit_before:
            fields.append(f'"bu":"{unit}"')
        fields.append(f'"seq":{readings[0]["seq"]}')
        records.append("{" + ",".join(fields + tail(readings[0], base)) + "}")
        step = 1
        for before, reading in pairwise(readings):
            distance = reading["seq"] - before["seq"]
            fields = [] if distance == step else [f'"step":{distance}']
            records.append("{" + ",".join(fields + tail(reading, base)) + "}")
            step = distance
        unit_before = unit
    return "[" + ",".join(records) + "]"


def tail(reading: dict[str, Any], base: int) -> list[str]:
    """The fields that are a record's own."""
    fields = []
    if offset := reading["unix_ms"] - base:
        fields.append(f'"t":{seconds(offset)}')
    if "quality" in reading:
        fields.append(f'"tq":"{reading["quality"]}"')
    if reading.get("later_s") is not None:
        fields.append(f'"tu":{reading["later_s"]}')
    if reading["reason"]:
        return [*fields, f'"vs":"{FILE["reasons"][reading["reason"]]}"', '"q":"bad"']
    return [*fields, f'"v":{Decimal(reading["value"]).scaleb(-reading["decimals"]):f}']


@pytest.mark.parametrize("vector", VECTORS)
def test_vector_decodes_digit_for_digit(vector: dict[str, Any]) -> None:
    readings = decode(vector["text"].encode(), vector["node"])
    assert readings == expected(vector)
    assert [str(reading.value) for reading in readings] == [str(each.value) for each in expected(vector)]


@pytest.mark.parametrize("vector", VECTORS)
def test_vector_is_printed_by_the_rules(vector: dict[str, Any]) -> None:
    assert vector["text"] == printed(vector)


def test_vectors_have_every_reason_and_quality() -> None:
    readings = [reading for vector in FILE["vectors"] for reading in vector["readings"]]
    assert {reading["reason"] for reading in readings} == set(range(len(FILE["reasons"])))
    assert {reading.get("quality", "synced") for reading in readings} == set(get_args(Quality))


def test_the_wire_documents_example_is_a_vector() -> None:
    text = (Path(__file__).parents[2] / "docs" / "wire.md").read_text()
    example = text[text.index("[{") : text.index("}]") + 2]
    assert json.loads(example) in [json.loads(vector["text"]) for vector in FILE["vectors"]]


def test_groups_may_come_in_any_order() -> None:
    pack = f'[{{{FIRST},{VALUE}}},{{"step":5,"v":3}},{{"bn":"n01/probe/temperature","seq":3,"v":2.50}}]'
    readings = decode(pack.encode())
    assert [(each.seq, each.channel, each.unit, str(each.value)) for each in readings] == [
        (3, "probe/temperature", "m/s", "2.50"),
        (17, "wind/speed", "m/s", "1.25"),
        (22, "wind/speed", "m/s", "3"),
    ]


REFUSED = {
    "empty": (b"", "not JSON at character 0"),
    "not UTF-8": (b'[{"bn":"\xff"}]', "not UTF-8 at byte 8"),
    "cut short": (f"[{{{FIRST},{VALUE}}}".encode(), "not JSON at character"),
    "too deep": (b"[" * 100_000, "nested too deep"),
    "no list": (f"{{{FIRST},{VALUE}}}".encode(), "not a SenML pack"),
    "no record": (b"[]", "not a SenML pack"),
    "record is a number": (f"[{{{FIRST},{VALUE}}},7]".encode(), "not a SenML pack"),
    "NaN": (f'[{{{FIRST},"v":NaN}}]'.encode(), "has NaN"),
    "field twice": (f"[{{{FIRST},{VALUE},{VALUE}}}]".encode(), "same field twice"),
}


@pytest.mark.parametrize(("payload", "says"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_pack_is_refused(payload: bytes, says: str) -> None:
    with pytest.raises(PayloadError, match=says):
        decode(payload)


BAD_RECORDS = {
    "no epoch": (FIRST.replace(',"epoch":"1a2b3c4d"', ""), VALUE, "record 1: 'epoch' must be"),
    "epoch upper case": (FIRST.replace("1a2b3c4d", "1A2B3C4D"), VALUE, "record 1: 'epoch' must be"),
    "epoch too long": (FIRST.replace("1a2b3c4d", "1a2b3c4d5"), VALUE, "record 1: 'epoch' must be"),
    "epoch is a number": (FIRST.replace('"1a2b3c4d"', "12345678"), VALUE, "record 1: 'epoch' must be"),
    "no seq": (FIRST.replace(',"seq":17', ""), VALUE, "record 1: 'seq' must be"),
    "negative seq": (FIRST.replace("17", "-1"), VALUE, "record 1: 'seq' must be"),
    "seq not whole": (FIRST.replace('seq":17', 'seq":17.0'), VALUE, "record 1: 'seq' must be"),
    "seq too large": (FIRST.replace('seq":17', 'seq":9007199254740992'), VALUE, "record 1: 'seq' must be"),
    "seq true": (FIRST.replace('seq":17', 'seq":true'), VALUE, "record 1: 'seq' must be"),
    "no name": (FIRST.replace('"bn":"n01/wind/speed",', ""), VALUE, "may stand only where a group begins"),
    "empty name": (FIRST.replace("n01/wind/speed", ""), VALUE, "record 1: '' is not a name"),
    "no node": (FIRST.replace("n01/wind/", ""), VALUE, "'speed' is not a name"),
    "no channel": (FIRST.replace("wind/speed", ""), VALUE, "'n01/' is not a name"),
    "strange node": (FIRST.replace("n01", "n 1"), VALUE, "'n 1/wind/speed' is not a name"),
    "strange channel": (FIRST.replace("wind", r"wi\u001b"), VALUE, r"'n01/wi\\x1b/speed' is not a name"),
    "name is a number": (FIRST.replace('"n01/wind/speed"', "7"), VALUE, "'bn' must be a text"),
    "no unit": (FIRST.replace(',"bu":"m/s"', ""), VALUE, "record 1: it has no unit"),
    "unprintable unit": (FIRST.replace("m/s", r"\u001b[2J"), VALUE, "record 1: it has no unit"),
    "step before any record": (FIRST, f'"step":2,{VALUE}', "'step' may not stand where a group begins"),
    "version": (FIRST, f'{VALUE},"bver":10', "'bver' is not a field"),
    "must understand": (FIRST, f'{VALUE},"x_":1', "'x_' is not a field"),
    "base value": (FIRST, f'{VALUE},"bv":1', "'bv' is not a field"),
    "no value": (FIRST, '"t":1', "it must have either"),
    "value and reason": (FIRST, f'{VALUE},"vs":"CRC error","q":"bad"', "it must have either"),
    "value called bad": (FIRST, f'{VALUE},"q":"bad"', "it must have either"),
    "reason not called bad": (FIRST, '"vs":"CRC error"', "it must have either"),
    "bad without reason": (FIRST, '"q":"bad"', "it must have either"),
    "unprintable reason": (FIRST, r'"q":"bad","vs":"\u001b[2J"', "it must have either"),
    "value is a text": (FIRST, '"v":"1.25"', "'v' must be a number"),
    "value is true": (FIRST, '"v":true', "'v' must be a number"),
    "value is null": (FIRST, '"v":null', "'v' must be a number"),
    "value with exponent": (FIRST, '"v":1e999999999', "'v' has more than"),
    "value too exact": (FIRST, '"v":0.1234567890', "'v' has more than"),
    "value too long": (FIRST, f'"v":{"9" * 19}', "'v' has more than"),
    "no time": (FIRST.replace('"bt":1763820000.25,', ""), VALUE, "its time is not a date"),
    "clock never set": (FIRST.replace("1763820000", "12"), VALUE, "its time is not a date"),
    "far future": (FIRST.replace("1763820000", "9" * 12), VALUE, "its time is not a date"),
    "huge time": (FIRST.replace("1763820000.25", "1e999999999"), VALUE, "its time has too many digits"),
    "time too exact": (FIRST.replace("0.25", "0.2501"), VALUE, "more than three decimals"),
    "time is a text": (FIRST.replace("1763820000.25", '"now"'), VALUE, "'bt' must be a number"),
    "offset too exact": (FIRST, f'{VALUE},"t":0.0001', "more than three decimals"),
    "offset is a text": (FIRST, f'{VALUE},"t":"1"', "'t' must be a number"),
    "another quality": (FIRST, f'{VALUE},"tq":"guessed"', "'tq' must be one of holdover, recovered, unknown"),
    "the quality left out": (FIRST, f'{VALUE},"tq":"synced"', "'tq' must be one of"),
    "quality is a list": (FIRST, f'{VALUE},"tq":[]', "'tq' must be a text"),
    "a bound for a known time": (FIRST, f'{VALUE},"tu":3', "'tu' may stand only beside"),
    "a bound for a recovered time": (FIRST, f'{VALUE},"tq":"recovered","tu":3', "'tu' may stand only beside"),
    "negative bound": (FIRST, f'{VALUE},"tq":"unknown","tu":-3', "'tu' must be a whole number from 0"),
    "bound not whole": (FIRST, f'{VALUE},"tq":"unknown","tu":3.5', "'tu' must be a whole number from 0"),
}


@pytest.mark.parametrize(("first", "value", "says"), BAD_RECORDS.values(), ids=BAD_RECORDS)
def test_a_faulty_record_is_refused_with_its_fault(first: str, value: str, says: str) -> None:
    assert decode(f"[{{{FIRST},{VALUE}}}]".encode())
    with pytest.raises(PayloadError, match=says):
        decode(f"[{{{first},{value}}}]".encode())


BAD_NEXT = {
    "value": ('"v":[]', "'v' must be a number"),
    "unknown field": (f'"n":"a/b",{VALUE}', "'n' is not a field of this wire"),
    "second base time": (f'"bt":1763820000,{VALUE}', "'bt' may stand in the first record only"),
    "second epoch": (f'"epoch":"1a2b3c4d",{VALUE}', "'epoch' may stand in the first record only"),
    "seq within a group": (f'"seq":19,{VALUE}', "'seq' may stand only where a group begins"),
    "unit within a group": (f'"bu":"K",{VALUE}', "'bu' may stand only where a group begins"),
    "group without seq": (OTHER.replace('"seq":18,', ""), "'seq' must be a whole number from 0"),
    "group with step": (f'{OTHER},"step":1', "'step' may not stand where a group begins"),
    "step 0": (f'"step":0,{VALUE}', "'step' must be a whole number from 1"),
    "step back": (f'"step":-1,{VALUE}', "'step' must be a whole number from 1"),
    "half a step": (f'"step":0.5,{VALUE}', "'step' must be a whole number from 1"),
    "step with exponent": (f'"step":1e3,{VALUE}', "'step' must be a whole number from 1"),
    "step is a text": (f'"step":"1",{VALUE}', "'step' must be a number"),
    "step too far": (
        f'"step":9007199254740975,{VALUE}',
        "'step' leads to a sequence number that is too large",
    ),
    "the same number twice": (OTHER.replace("18", "17"), "the sequence number 17 is there twice"),
    "another node": (OTHER.replace("n01", "n02"), "it speaks for 'n02' in a pack of 'n01'"),
}


@pytest.mark.parametrize(("record", "says"), BAD_NEXT.values(), ids=BAD_NEXT)
def test_a_later_record_at_fault_is_named(record: str, says: str) -> None:
    good = OTHER.replace("18", "40")
    assert decode(f'[{{{FIRST},{VALUE}}},{{{VALUE}}},{{"step":3,{VALUE}}},{{{good}}}]'.encode())
    with pytest.raises(PayloadError, match=f"record 2: {re.escape(says)}"):
        decode(f"[{{{FIRST},{VALUE}}},{{{record}}}]".encode())


def test_a_step_holds_until_the_next_group() -> None:
    pack = f'[{{{FIRST},{VALUE}}},{{"step":3,{VALUE}}},{{{VALUE}}},{{{OTHER}}},{{{VALUE}}},{{{VALUE}}}]'
    with pytest.raises(PayloadError, match="record 6: the sequence number 20 is there twice"):
        decode(pack.encode())
    assert [each.seq for each in decode(pack.replace(f",{{{VALUE}}}]", "]").encode())] == [17, 18, 19, 20, 23]


def test_a_pack_on_the_topic_of_another_node_is_refused() -> None:
    pack = f"[{{{FIRST},{VALUE}}}]".encode()
    assert decode(pack, "n01")
    with pytest.raises(PayloadError, match="it speaks for 'n01' on the topic of 'n02'"):
        decode(pack, "n02")
