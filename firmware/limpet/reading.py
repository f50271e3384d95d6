"""What a reading says about itself: the reasons for which a sensor has no value to give."""

from micropython import const

GOOD = const(0)
NO_ACK = const(1)
BUS_TIMEOUT = const(2)
CRC = const(3)
WRONG_CHIP = const(4)
OUT_OF_RANGE = const(5)
WIRE_BREAK = const(6)
POWER_ON_VALUE = const(7)
VANISHED = const(8)
NOT_READY = const(9)
OVER_CURRENT = const(10)
FAULT = const(11)

# The text of each reason as it stands on the wire (docs/wire.md).
REASONS = (
    "good",
    "no acknowledge",
    "bus timeout",
    "CRC error",
    "wrong chip",
    "out of range",
    "wire break",
    "power-on value",
    "probe vanished",
    "not ready",
    "over-current",
    "sensor fault",
)


class SensorError(Exception):
    """A sensor has no value: `reason` is one of the constants above, `detail` says more for the log."""

    def __init__(self, reason, detail=""):
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self):
        return REASONS[self.reason] + (": " + self.detail if self.detail else "")
