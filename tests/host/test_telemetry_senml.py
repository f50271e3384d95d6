"""Payloads of the data topic: the vectors that the firmware's encoder is tested with, and what is refused."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from host_tools.telemetry.senml import PayloadError, Reading, decode

FILE = json.loads((Path(__file__).parents[1] / "vectors" / "senml.json").read_text())
VECTORS = [pytest.param(vector, id=vector["name"]) for vector in FILE["vectors"]]

FIRST = '"bn":"n01/","bt":1763820000.250,"epoch":"1a2b3c4d","seq":17'
VALUE = '"n":"wind/speed","u":"m/s","v":1.25'


def expected(vector: dict[str, Any]) -> list[Reading]:
    return [
        Reading(
            vector["node"],
            vector["epoch"],
            vector["seq"] + index,
            reading["channel"],
            reading["unit"],
            None if reading["reason"] else Decimal(reading["value"]).scaleb(-reading["decimals"]),
            FILE["reasons"][reading["reason"]] if reading["reason"] else "",
            reading["unix_ms"],
        )
        for index, reading in enumerate(vector["readings"])
    ]


def printed(vector: dict[str, Any]) -> str:
    """The text by the wire's rules, from Python's own decimals: it guards the file against slips."""
    records = []
    for index, reading in enumerate(vector["readings"]):
        fields = [f'"n":"{reading["channel"]}"', f'"u":"{reading["unit"]}"']
        if index == 0:
            seconds = Decimal(vector["base_unix_ms"]).scaleb(-3)
            start = [f'"bn":"{vector["node"]}/"', f'"bt":{seconds:f}', f'"epoch":"{vector["epoch"]}"']
            fields = [*start, f'"seq":{vector["seq"]}', *fields]
        if offset := reading["unix_ms"] - vector["base_unix_ms"]:
            fields.append(f'"t":{Decimal(offset).scaleb(-3):f}')
        if reading["reason"]:
            fields += [f'"vs":"{FILE["reasons"][reading["reason"]]}"', '"q":"bad"']
        else:
            fields.append(f'"v":{Decimal(reading["value"]).scaleb(-reading["decimals"]):f}')
        records.append("{" + ",".join(fields) + "}")
    return "[" + ",".join(records) + "]"


@pytest.mark.parametrize("vector", VECTORS)
def test_vector_decodes_digit_for_digit(vector: dict[str, Any]) -> None:
    readings = decode(vector["text"].encode(), vector["node"])
    assert readings == expected(vector)
    assert [str(reading.value) for reading in readings] == [str(each.value) for each in expected(vector)]


@pytest.mark.parametrize("vector", VECTORS)
def test_vector_is_printed_by_the_rules(vector: dict[str, Any]) -> None:
    assert vector["text"] == printed(vector)


def test_vectors_have_every_reason() -> None:
    used = {reading["reason"] for vector in FILE["vectors"] for reading in vector["readings"]}
    assert used == set(range(len(FILE["reasons"])))


def test_base_fields_hold_until_the_next_one() -> None:
    pack = (
        '[{"bn":"n01/bme280/","bt":1763820000,"bu":"Cel","bver":10,"epoch":"00000001","seq":0,'
        '"n":"temperature","v":1},'
        '{"n":"pressure","u":"Pa","t":-1.5,"v":2.0},'
        '{"bn":"n01/probe/","bt":1763820010.001,"n":"temperature","t":0.002,"v":3.00},'
        '{"bu":"K","n":"temperature","vs":"CRC error","q":"bad"}]'
    )
    assert decode(pack.encode()) == [
        Reading("n01", "00000001", 0, "bme280/temperature", "Cel", Decimal("1"), "", 1763820000000),
        Reading("n01", "00000001", 1, "bme280/pressure", "Pa", Decimal("2.0"), "", 1763819998500),
        Reading("n01", "00000001", 2, "probe/temperature", "Cel", Decimal("3.00"), "", 1763820010003),
        Reading("n01", "00000001", 3, "probe/temperature", "K", None, "CRC error", 1763820010001),
    ]


REFUSED = {
    "empty": (b"", "not JSON at character 0"),
    "not UTF-8": (b'[{"bn":"\xff"}]', "not UTF-8 at byte 8"),
    "cut short": (f"[{{{FIRST},{VALUE}}}".encode(), "not JSON at character"),
    "too deep": (b"[" * 100_000, "nested too deep"),
    "no list": (f"{{{FIRST},{VALUE}}}".encode(), "not a SenML pack"),
    "no record": (b"[]", "not a SenML pack"),
    "record is a number": (f"[{{{FIRST},{VALUE}}},7]".encode(), "not a SenML pack"),
    "NaN": (f'[{{{FIRST},"n":"a/b","u":"K","v":NaN}}]'.encode(), "has NaN"),
    "field twice": (f"[{{{FIRST},{VALUE},{VALUE}}}]".encode(), "same field twice"),
}


@pytest.mark.parametrize(("payload", "says"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_pack_is_refused(payload: bytes, says: str) -> None:
    with pytest.raises(PayloadError, match=says):
        decode(payload)


BAD_RECORDS = {
    "no epoch": (FIRST.replace('"epoch"', '"n_"'), VALUE, "record 1: 'epoch' must be"),
    "epoch upper case": (FIRST.replace("1a2b3c4d", "1A2B3C4D"), VALUE, "record 1: 'epoch' must be"),
    "epoch too long": (FIRST.replace("1a2b3c4d", "1a2b3c4d5"), VALUE, "record 1: 'epoch' must be"),
    "no seq": (FIRST.replace(',"seq":17', ""), VALUE, "record 1: 'seq' must be"),
    "negative seq": (FIRST.replace("17", "-1"), VALUE, "record 1: 'seq' must be"),
    "seq not whole": (FIRST.replace('seq":17', 'seq":17.0'), VALUE, "record 1: 'seq' must be"),
    "seq too large": (FIRST.replace('seq":17', 'seq":9007199254740992'), VALUE, "record 1: 'seq' must be"),
    "seq true": (FIRST.replace('seq":17', 'seq":true'), VALUE, "record 1: 'seq' must be"),
    "no name": (FIRST.replace("n01/", ""), '"u":"m/s","v":1', "record 1: '' is not a name"),
    "no node": (FIRST.replace("n01/", ""), '"n":"speed","u":"m/s","v":1', "'speed' is not a name"),
    "strange node": (FIRST.replace("n01", "n 1"), VALUE, "'n 1/wind/speed' is not a name"),
    "strange channel": (FIRST, VALUE.replace("wind", r"wi\u001b"), r"'n01/wi\\x1b/speed' is not a name"),
    "name is a number": (FIRST, VALUE.replace('"wind/speed"', "7"), "'n' must be a text"),
    "no unit": (FIRST, '"n":"a/b","v":1', "record 1: it has no unit"),
    "unprintable unit": (FIRST, VALUE.replace("m/s", r"\u001b[2J"), "record 1: it has no unit"),
    "version": (FIRST, f'{VALUE},"bver":11', "version 10 is the newest"),
    "must understand": (FIRST, f'{VALUE},"x_":1', "'x_' is not a field"),
    "base value": (FIRST, f'{VALUE},"bv":1', "'bv' is not a field"),
    "no value": (FIRST, '"n":"a/b","u":"K"', "it must have either"),
    "value and reason": (FIRST, f'{VALUE},"vs":"CRC error","q":"bad"', "it must have either"),
    "value called bad": (FIRST, f'{VALUE},"q":"bad"', "it must have either"),
    "reason not called bad": (FIRST, '"n":"a/b","u":"K","vs":"CRC error"', "it must have either"),
    "bad without reason": (FIRST, '"n":"a/b","u":"K","q":"bad"', "it must have either"),
    "unprintable reason": (FIRST, r'"n":"a/b","u":"K","q":"bad","vs":"\u001b[2J"', "it must have either"),
    "value is a text": (FIRST, VALUE.replace("1.25", '"1.25"'), "'v' must be a number"),
    "value is true": (FIRST, VALUE.replace("1.25", "true"), "'v' must be a number"),
    "value is null": (FIRST, VALUE.replace("1.25", "null"), "'v' must be a number"),
    "value with exponent": (FIRST, VALUE.replace("1.25", "1e999999999"), "'v' has more than"),
    "value too exact": (FIRST, VALUE.replace("1.25", "0.1234567890"), "'v' has more than"),
    "value too long": (FIRST, VALUE.replace("1.25", "9" * 19), "'v' has more than"),
    "no time": (FIRST.replace('"bt":1763820000.250,', ""), VALUE, "its time is not a date"),
    "clock never set": (FIRST.replace("1763820000", "12"), VALUE, "its time is not a date"),
    "far future": (FIRST.replace("1763820000", "9" * 12), VALUE, "its time is not a date"),
    "huge time": (FIRST.replace("1763820000.250", "1e999999999"), VALUE, "its time has too many digits"),
    "time too exact": (FIRST.replace("0.250", "0.2501"), VALUE, "more than three decimals"),
    "offset too exact": (FIRST, f'{VALUE},"t":0.0001', "more than three decimals"),
    "offset is a text": (FIRST, f'{VALUE},"t":"1"', "'t' must be a number"),
}


@pytest.mark.parametrize(("first", "value", "says"), BAD_RECORDS.values(), ids=BAD_RECORDS)
def test_a_faulty_record_is_refused_with_its_fault(first: str, value: str, says: str) -> None:
    assert decode(f"[{{{FIRST},{VALUE}}}]".encode())
    with pytest.raises(PayloadError, match=says):
        decode(f"[{{{first},{value}}}]".encode())


def test_the_record_at_fault_is_named() -> None:
    with pytest.raises(PayloadError, match="record 3: 'v' must be"):
        decode(f'[{{{FIRST},{VALUE}}},{{{VALUE}}},{{"n":"a/b","u":"K","v":[]}}]'.encode())
    with pytest.raises(PayloadError, match="record 2: 'seq' may stand in the first record only"):
        decode(f'[{{{FIRST},{VALUE}}},{{{VALUE},"seq":18}}]'.encode())


def test_a_pack_on_the_topic_of_another_node_is_refused() -> None:
    pack = f"[{{{FIRST},{VALUE}}}]".encode()
    assert decode(pack, "n01")
    with pytest.raises(PayloadError, match="it speaks for 'n01' on the topic of 'n02'"):
        decode(pack, "n02")
