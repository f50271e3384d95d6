"""Readings: what was there to measure, when it was there, and marked as bad when it cannot be known."""

import pytest

from host_tools.hil.broker import Witness
from host_tools.hil.clock import Clock
from host_tools.hil.node import Node
from host_tools.hil.rig import Rig
from host_tools.hil.stimulus import Stimulus
from host_tools.telemetry.senml import Reading

FAULTS = {
    "bme280": {
        "no-ack": "no acknowledge",
        "stuck": "bus timeout",
        "wrong-chip": "wrong chip",
        "frozen": "not ready",
        "unplugged": "no acknowledge",
    },
    "ds18b20": {
        "crc": "CRC error",
        "vanished": "probe vanished",
        "brown-out": "power-on value",
        "stuck": "bus timeout",
    },
    "current_loop": {
        "wire-break": "wire break",
        "under-range": "out of range",
        "over-range": "out of range",
        "over-current": "over-current",
    },
}
"""What can happen to a sensor, and the reason that its readings then have (docs/sensors.md)."""


PATIENCE_S = 30.0
"""Many times what passes until a sensor is asked again, also one that has failed a few times."""
RANGES = {
    "bme280": {"temperature": (-40, 85), "pressure": (30_000, 110_000), "humidity": (0, 100)},
    "ds18b20": {"temperature": (-55, 125)},
}
"""What they measure, by their makers; that of a loop is in its settings."""


def sensor_of(node: Node, kind: str) -> dict[str, object]:
    found: dict[str, object] = next(each for each in node.settings["sensors"] if each["kind"] == kind)
    return found


def next_of(broker: Witness, node: Node, sensor: str, reason: str = "") -> Reading:
    """The next reading of a sensor with this reason, or else a good one: one that was not there yet."""

    def found() -> list[Reading]:
        readings = broker.readings(node, settle=None)
        return [each for each in readings if each.channel.startswith(f"{sensor}/") and each.reason == reason]

    before = len(found())
    broker.wait_for(
        lambda: len(found()) > before, f"a reading of {sensor}: {reason or 'a good one'}", PATIENCE_S
    )
    return found()[-1]


def told(broker: Witness, node: Node, sensor: str) -> str | None:
    """What the last health report says of a sensor."""
    health = broker.health(node)
    return health["sensors"][sensor] if health else None


@pytest.mark.parametrize(
    ("channel", "value", "within"),
    [
        pytest.param(name, value, within, marks=pytest.mark.needs(f"stimulus:{name.partition('/')[2]}"))
        for name, value, within in (
            ("bme280/temperature", -12.34, 0.02),
            ("bme280/temperature", 24.68, 0.02),
            ("bme280/humidity", 61.5, 0.1),
            ("bme280/pressure", 98765.0, 10.0),
            ("probe/temperature", -10.0625, 0.032),
            ("wind/speed", 17.5, 0.3),
        )
    ],
)
def test_a_reading_is_what_was_there(
    node: Node, broker: Witness, stimulus: Stimulus, rig: Rig, channel: str, value: float, within: float
) -> None:
    """`within` is the sensor's resolution, and for the loop that of the ADC (docs/sensors.md)."""
    if channel not in node.channels:
        pytest.skip(f"the rig '{rig.name}' has no {channel}")
    stimulus.set(channel, value)
    broker.readings(node)
    period = next(each for each in node.settings["sensors"] if channel.startswith(each["name"]))["period_ms"]
    node.run_for(2 * period / 1000)
    found = broker.readings(node, channel)[-1]
    assert found.value is not None
    assert abs(float(found.value) - value) <= within + stimulus.tolerance(channel)


@pytest.mark.needs("stimulus:temperature")
def test_readings_follow_a_ramp(node: Node, broker: Witness, stimulus: Stimulus, clock: Clock) -> None:
    [channel, *_] = [each for each in node.channels if each.endswith("/temperature")]
    sensors = {each["name"]: each for each in node.settings["sensors"]}
    period = sensors[channel.partition("/")[0]]["period_ms"] / 1000
    begin = clock.now()
    stimulus.ramp(channel, 10.0, 40.0, seconds=max(3.0, 5 * period))
    stimulus.wait(channel)
    values = broker.readings(node, channel).between(begin + 0.5, clock.now()).values
    assert len(values) >= 3 and values[-1] > values[0]
    assert values == sorted(values)


def test_cadence_and_jitter(node: Node, broker: Witness) -> None:
    """Each channel at its period, by the node's own clock, and without drift over the time of the test."""
    node.run_for(4)
    found = broker.readings(node)
    for sensor in node.settings["sensors"]:
        period = sensor["period_ms"] / 1000
        for channel in (each for each in node.channels if each.startswith(f"{sensor['name']}/")):
            cadence = found.of(channel).cadence()
            assert abs(cadence.mean - period) <= 0.05 * period, (channel, cadence)
            assert cadence.jitter <= 0.2 * period, (channel, cadence)


def test_nothing_is_said_with_more_or_fewer_digits(node: Node, broker: Witness) -> None:
    """A value has its channel's decimals, and is within the range that the node tells of it."""
    about = broker.wait_for(lambda: broker.about(node), "what the node tells of itself")
    found = broker.readings(node)
    for told in about["channels"]:
        for each in found.of(told["n"]):
            assert each.unit == told["u"]
            assert each.value is not None and told["low"] <= float(each.value) <= told["high"]


def test_the_range_of_each_channel_is_told(node: Node, broker: Witness) -> None:
    about = broker.wait_for(lambda: broker.about(node), "what the node tells of itself")
    channels = {each["n"]: (each["low"], each["high"]) for each in about["channels"]}
    for sensor in node.settings["sensors"]:
        ranges = RANGES.get(sensor["kind"])
        if ranges is None:
            unit = 10 ** sensor["decimals"]
            ranges = {sensor["quantity"]: (sensor["low"] / unit, sensor["high"] / unit)}
        for leaf, expected in ranges.items():
            assert channels[f"{sensor['name']}/{leaf}"] == expected


@pytest.mark.needs("fault:bme280", "stimulus:bme280/temperature")
def test_what_a_sensor_is_not_made_for_is_no_value(node: Node, broker: Witness, stimulus: Stimulus) -> None:
    """And with its temperature the other two are not to be believed either (docs/sensors.md)."""
    name = str(sensor_of(node, "bme280")["name"])
    stimulus.set(f"{name}/temperature", 90.0)
    next_of(broker, node, name, "out of range")
    stimulus.set(f"{name}/temperature", 20.0)
    next_of(broker, node, name)
    found = broker.readings(node).bad
    assert {each.reason for each in found} == {"out of range"}
    assert len(found.channels) == len(RANGES["bme280"])


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.needs(f"fault:{kind}")) for kind in FAULTS]
)
def test_every_fault_of_a_sensor_is_told_and_passes(
    node: Node, broker: Witness, stimulus: Stimulus, kind: str
) -> None:
    """A failed sensor gives bad readings with the reason, never a made-up value, and does not disturb the
    others; mended, it measures again."""
    name = str(sensor_of(node, kind)["name"])
    others = [each["name"] for each in node.settings["sensors"] if each["name"] != name]
    for fault, reason in FAULTS[kind].items():
        stimulus.fault(name, fault)
        assert next_of(broker, node, name, reason).value is None, fault
        stimulus.fault(name, None)
        next_of(broker, node, name)
    found = broker.readings(node)
    assert not found.lost
    assert not [each for each in found.bad if each.channel.partition("/")[0] in others]


@pytest.mark.needs("fault:bme280")
def test_a_sensor_that_comes_late_is_found(node: Node, broker: Witness, stimulus: Stimulus) -> None:
    """It is not there when the node starts, and plugged in later."""
    name = str(sensor_of(node, "bme280")["name"])
    stimulus.fault(name, "unplugged")
    node.reset()
    next_of(broker, node, name, "no acknowledge")
    broker.wait_for(lambda: told(broker, node, name) == "no acknowledge", "the fault in the health report")
    stimulus.fault(name, None)
    assert next_of(broker, node, name).value is not None
    broker.wait_for(lambda: told(broker, node, name) == "good", "the good sensor in the health report")
