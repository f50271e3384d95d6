"""What must go together in a node file: within a sensor, and over all of them. Pins are in `wiring`."""

from collections.abc import Iterator, Mapping
from fractions import Fraction

from host_tools.settings.fields import SCALED_LIMIT, scaled
from host_tools.settings.model import Bme280, CurrentLoop, Sensor
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


def sensor_problems(sensors: Mapping[str, Sensor]) -> Iterator[Problem]:
    """What is wrong within each sensor, and with their number. Sensors may be salvaged ones."""
    for name, sensor in sensors.items():
        match sensor:
            case CurrentLoop(shunt=shunt):
                yield from _shunt_problems(name, shunt)
        match sensor:
            case CurrentLoop(range=(low, high), decimals=decimals):
                yield from _range_problems(name, low, high, decimals)
    channels = sum(_BME280_CHANNELS if isinstance(sensor, Bme280) else 1 for sensor in sensors.values())
    if channels > MAX_CHANNELS:
        yield problem(
            ("sensors",),
            f"the sensors have {channels} channels, and a node has at most {MAX_CHANNELS} "
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
