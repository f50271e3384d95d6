"""The I2C buses of the node: one bus object for each pair of pins, shared by all chips on it."""

import machine
from micropython import const

# Every chip we drive allows it, and it forgives long wires and weak pull-ups.
_FREQ = const(100_000)

_buses: dict = {}


def bus(scl, sda):
    """Return the bus on these GPIO numbers, made on first use.

    A hardware controller has one pair of pins at a time: opening it again for other pins would take the
    first pair's chips off the bus. So each pair gets a controller of its own, and when the chip has
    no more of them (an ESP32-C3 has one, an ESP32 two) the bus is driven in software.
    """
    pins = (scl, sda)
    if pins not in _buses:
        clock, data = machine.Pin(scl), machine.Pin(sda)
        try:
            opened = machine.I2C(len(_buses), scl=clock, sda=data, freq=_FREQ)
        except ValueError:  # no such controller
            opened = machine.SoftI2C(scl=clock, sda=data, freq=_FREQ)
        _buses[pins] = opened
    return _buses[pins]
