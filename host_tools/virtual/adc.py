"""The ESP32's analog-to-digital converter: what it makes of a voltage.

After the ESP32 datasheet v4.x §4.1 and the ESP-IDF guide (ADC calibration): 12 bits; each attenuation has
a lowest and a highest voltage that it can tell; the calibrated result has a resolution of 1 mV. Left out:
noise, and the spread between chips that calibration leaves (up to ±2 %).
"""

from dataclasses import dataclass

_FULL_SCALE = 4095


@dataclass(frozen=True)
class _Range:
    low_mv: int
    high_mv: int


# By attenuation 0, 2.5, 6, 11 dB: what raw 0 and raw 4095 stand for with the default Vref.
_RANGES = (_Range(75, 1100), _Range(78, 1480), _Range(96, 2090), _Range(142, 3150))


def convert(microvolts: int, attenuation: int) -> tuple[int, int]:
    """The pair (raw 0..4095, calibrated microvolts) for the true voltage at the pin."""
    scale = _RANGES[attenuation]
    span = scale.high_mv - scale.low_mv
    raw = round((microvolts / 1000 - scale.low_mv) * _FULL_SCALE / span)
    raw = max(0, min(_FULL_SCALE, raw))
    return raw, (scale.low_mv + round(raw * span / _FULL_SCALE)) * 1000
