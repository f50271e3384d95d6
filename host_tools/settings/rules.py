"""What must go together in a node file: within a table, and over all of them. Pins are in `wiring`."""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

from host_tools.settings.fields import SCALED_LIMIT, scaled
from host_tools.settings.model import (
    Bme280,
    Broker,
    CurrentLoop,
    Node,
    NodeFile,
    Sensor,
    Server,
    Spool,
    WayIn,
)
from host_tools.userfile import Problem, problem

MAX_CHANNELS = 32
"""The most channels of a node."""

_BME280_CHANNELS = 3

# NAMUR NE 43: at 3.6 mA and below a wire is broken, at 21 mA and above the transmitter reports a failure.
# Both must lie where the ESP32's ADC is linear at 11 dB: 150 to 2450 mV (ESP-IDF, "ADC Attenuation").
_BREAK_UA, _FAILURE_UA = 3_600, 21_000
_ADC_LOW_UV, _ADC_HIGH_UV = 150_000, 2_450_000
_MIN_SHUNT = -(-_ADC_LOW_UV * 1000 // _BREAK_UA)
_MAX_SHUNT = _ADC_HIGH_UV * 1000 // _FAILURE_UA


def node_problems(node: Node) -> Iterator[Problem]:
    """What is wrong with the tables of the node itself. The node may be a salvaged one."""
    match node:
        case Node(spool=spool):
            yield from _spool_problems(spool)
    match node:
        case Node(profile="development", way_in=WayIn()):
            text = (
                'a node that is not locked needs no way in. Write profile = "production", or leave this key '
                "out."
            )
            yield problem(("way_in",), text)
    match node:
        case Node(ntp=servers):
            yield from _same_server("ntp", servers, "this time server stands")
    match node:
        case Node(broker=brokers):
            yield from _same_server("broker", brokers, "a broker at this host and port stands")


def profile_warnings(node: NodeFile) -> Iterator[Problem]:
    """What its writer may regret."""
    if node.profile == "production" and node.way_in is None:
        yield problem(
            ("profile",),
            "there is no way_in: once these settings are on the node, nobody gets in again but by flashing "
            "it anew. Declare a button with way_in, or leave it so.",
        )


def spool_warnings(node: NodeFile) -> Iterator[Problem]:
    """What works, but not as its writer will have meant it."""
    spool = node.spool
    if spool.time is None:
        return
    together = sum(channels(sensor) * (1 + spool.time // sensor.period) for sensor in node.sensors.values())
    if together < 2:
        yield problem(
            ("spool", "time"),
            "the node takes its next reading later than that, so there is never more than one to write. "
            'Raise it, or write policy = "each", which costs the same and loses nothing.',
        )


def channels(sensor: Sensor) -> int:
    """How many readings one measurement gives."""
    return _BME280_CHANNELS if isinstance(sensor, Bme280) else 1


def _spool_problems(spool: Spool) -> Iterator[Problem]:
    bounds = {"readings": spool.readings, "time": spool.time}
    for key, value in bounds.items():
        path = ("spool", key)
        if spool.policy == "batch" and value is None:
            text = (
                "this key is missing: a batch is written after so many readings, and after so much time at "
                "the latest. Write both."
            )
            yield Problem(path, text, at=path[:1])
        if spool.policy == "each" and value is not None:
            text = 'only a batch has this key. Write policy = "batch", or leave the key out.'
            yield problem(path, text)


def _same_server(key: str, servers: Sequence[Server | Broker], what: str) -> Iterator[Problem]:
    known: set[tuple[str, int]] = set()
    for index, server in enumerate(servers):
        place = (server.host.removesuffix(".").casefold(), server.port)
        if place in known:
            yield problem((key, index), f"{what} in the list twice. Keep it once.")
        known.add(place)


def sensor_problems(sensors: Mapping[str, Sensor]) -> Iterator[Problem]:
    """What is wrong within each sensor, and with their number. Sensors may be salvaged ones."""
    for name, sensor in sensors.items():
        match sensor:
            case CurrentLoop(shunt=shunt):
                yield from _shunt_problems(name, shunt)
        match sensor:
            case CurrentLoop(range=(low, high), decimals=decimals):
                yield from _range_problems(name, low, high, decimals)
    total = sum(map(channels, sensors.values()))
    if total > MAX_CHANNELS:
        yield problem(
            ("sensors",),
            f"the sensors have {total} channels, and a node has at most {MAX_CHANNELS} "
            f"(a bme280 has {_BME280_CHANNELS}, the others 1). Give some to another node.",
        )


def _shunt_problems(name: str, shunt: int) -> Iterator[Problem]:
    path = ("sensors", name, "shunt")
    if shunt > _MAX_SHUNT:
        yield problem(
            path,
            f"21 mA through {shunt / 1000:g} ohm is more than the 2.45 V that the ADC measures. "
            f"Use at most {_MAX_SHUNT // 1000} ohm.",
        )
    if shunt < _MIN_SHUNT:
        yield problem(
            path,
            f"3.6 mA through {shunt / 1000:g} ohm is less than the 0.15 V that the ADC measures, "
            f"so a broken wire would not be seen. Use at least {-(-_MIN_SHUNT // 1000)} ohm.",
        )


def _range_problems(name: str, low: Fraction, high: Fraction, decimals: int) -> Iterator[Problem]:
    path = ("sensors", name, "range")
    if low == high:
        yield problem(path, "both ends are the same. Write the values at 4 mA and at 20 mA.")
    if max(abs(low), abs(high)) * 10**decimals > SCALED_LIMIT:
        yield problem(
            path,
            f"with {decimals} decimals the node counts up to {SCALED_LIMIT} steps from 0, and this is more. "
            "Use fewer 'decimals' or a larger unit.",
        )
    if scaled(low, decimals) is None or scaled(high, decimals) is None:
        yield problem(
            path, f"an end has more than {decimals} decimals. Round it, or raise 'decimals' (at most 6)."
        )
