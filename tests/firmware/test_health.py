import json

import machine
from limpet import __version__
from limpet.health import about, health
from limpet.reading import CRC, FAULT
from limpet.reading import text as reason_text


class Part:
    def __init__(self, **values):
        for name, value in values.items():
            setattr(self, name, value)


class Spool:
    boot = 5
    capacity = 128
    lost = 7
    damaged = 2

    def __len__(self):
        return 12


def text(sensors=(), error=None, rssi=-60, cause=1):
    machine._boot["reset_cause"] = cause
    return health(
        Part(trust_text=lambda: "synced", uptime_ms=lambda: 61999, drift=-125),
        Spool(),
        Part(joins=3, rssi=lambda: rssi),
        Part(
            sensors=[Part(name=name, reason=reason) for name, reason in sensors],
            lateness=lambda: 3,
            missed=1,
        ),
        Part(connects=4, error=error, session=Part(malformed=6)),
    )


def test_health_has_the_documented_keys_and_values():
    told = json.loads(text([("bme280", 0), ("probe", CRC)]))
    assert told.pop("heap_free") > 0
    assert told == {
        "uptime": 61,
        "clock": "synced",
        "drift": -12.5,
        "reset": "power-on",
        "boot": 5,
        "spool": 12,
        "spool_size": 128,
        "lost": 7,
        "damaged": 2,
        "late_ms": 3,
        "missed": 1,
        "connects": 4,
        "malformed": 6,
        "joins": 3,
        "rssi": -60,
        "error": None,
        "sensors": {"bme280": "good", "probe": "CRC error"},
    }


def test_every_reset_cause_has_a_text():
    told = [json.loads(text(cause=cause))["reset"] for cause in range(1, 6)]
    assert told == ["power-on", "reset", "watchdog", "deep sleep", "soft reset"]


def test_every_reason_of_a_sensor_can_be_told():
    sensors = [("s%d" % reason, reason) for reason in range(FAULT + 1)]
    assert json.loads(text(sensors))["sensors"] == {"s%d" % i: reason_text(i) for i in range(FAULT + 1)}


def test_error_texts_with_quotes_and_newlines_stay_json():
    for error in (
        'said "no"',
        "a\\b",
        "The certificate is not correctly signed\nby the trusted CA\n",
        "\x00\x1f",
    ):
        assert json.loads(text(error=error))["error"] == error


def test_without_wifi_there_is_no_signal_strength():
    assert json.loads(text(rssi=None))["rssi"] is None


def test_about_describes_every_channel():
    channel = ("probe/temperature", "Cel", 4, -550000, 1250000, 2000)
    told = json.loads("".join(about("n01", "virtual", "development", "ab" * 32, [channel] * 32)))
    assert len(told["channels"]) == 32
    assert told["channels"][31] == {
        "n": "probe/temperature",
        "u": "Cel",
        "period_ms": 2000,
        "low": -55.0,
        "high": 125.0,
    }
    assert (told["node"], told["board"], told["firmware"]) == ("n01", "virtual", __version__)
    assert (told["profile"], told["certificate"]) == ("development", "ab" * 32)
    assert all(part.isdigit() for part in told["micropython"].split("."))


def test_about_without_sensors_is_json_too():
    assert json.loads("".join(about("n01", "virtual", "production", "", [])))["channels"] == []
