"""A 4–20 mA transmitter: its current through a shunt, measured by an ADC channel.

Signal levels are those of NAMUR NE 43 (2021-07-26): 3.8 to 20.5 mA is measured value, up to 3.6 mA and from
21 mA on is a failure; between them the transmitter is neither, and its value is not to be used.
"""

import machine
from micropython import const

from limpet.reading import OUT_OF_RANGE, OVER_CURRENT, WIRE_BREAK, SensorError

_FAIL_LOW_UA = const(3600)
_VALID_LOW_UA = const(3800)
_VALID_HIGH_UA = const(20500)
_FAIL_HIGH_UA = const(21000)

_SAMPLES = const(16)  # the ADC's noise is some millivolts


def microvolts(microamperes, shunt_mohm):
    """The voltage across the shunt, in microvolts."""
    return microamperes * shunt_mohm // 1000


def level(uv, shunt_mohm):
    """0, or why a voltage at the shunt is not a measured value."""
    if uv <= microvolts(_FAIL_LOW_UA, shunt_mohm):
        return WIRE_BREAK
    if uv >= microvolts(_FAIL_HIGH_UA, shunt_mohm):
        return OVER_CURRENT
    if not microvolts(_VALID_LOW_UA, shunt_mohm) <= uv <= microvolts(_VALID_HIGH_UA, shunt_mohm):
        return OUT_OF_RANGE
    return 0


def value(uv, shunt_mohm, low, high):
    """The value for a voltage at the shunt, rounded to the nearest; `low` at 4 mA, `high` at 20 mA."""
    # Nanovolts, so that nothing is rounded before the end; the span is 16 mA.
    span = 16000 * shunt_mohm
    return low + ((uv * 1000 - 4000 * shunt_mohm) * (high - low) + span // 2) // span


class Driver:
    """A current loop. Settings: `pin` (GPIO number with an ADC channel), `shunt_mohm` (milliohm), `quantity`
    (the channel's name), `unit` (SenML), `decimals`, `low`, `high` (scaled values at 4 mA and at 20 mA)."""

    def __init__(self, spec):
        self.reasons = bytearray(1)
        self._adc = machine.ADC(machine.Pin(spec["pin"]), atten=machine.ADC.ATTN_11DB)
        self._shunt = spec["shunt_mohm"]
        self._low = spec["low"]
        self._high = spec["high"]
        self.channels = ((spec["quantity"], spec["unit"], spec["decimals"], self._low, self._high),)

    def start(self):
        return 0

    def read(self, out):
        total = 0
        for _ in range(_SAMPLES):
            total += self._adc.read_uv()
        uv = total // _SAMPLES
        reason = level(uv, self._shunt)
        if reason in (WIRE_BREAK, OVER_CURRENT):
            raise SensorError(reason, "%d uA" % (uv * 1000 // self._shunt))
        out[0] = value(uv, self._shunt, self._low, self._high)
        self.reasons[0] = reason
