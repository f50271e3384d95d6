"""What a reading says about itself: the reasons for which a sensor has no value to give."""

from micropython import const

# 0 is a good reading.
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

# As they stand on the wire (docs/wire.md), in the order of the numbers.
_TEXTS = const(
    "good,no acknowledge,bus timeout,CRC error,wrong chip,out of range,wire break,power-on value,"
    "probe vanished,not ready,over-current,sensor fault"
)


class SensorError(Exception):
    """A sensor has no value. Arguments: one of the reasons above, and a text that says more for the log."""


def text(reason):
    """The words for a reason."""
    return _TEXTS.split(",")[reason]
