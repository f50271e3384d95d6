"""_onewire of the virtual board: the slots of a 1-Wire bus, carried to the parts by the supervisor.

The payload of a request is GPIO number, kind of slot, value; the answer is one byte.
"""

import _host
from micropython import const

_RESET = const(0)
_READ_BIT = const(1)
_READ_BYTE = const(2)
_WRITE_BIT = const(3)
_WRITE_BYTE = const(4)


def _slot(pin, kind, value=0):
    return _host.call(b"o", bytes((pin.gpio, kind, value)))[0]


def reset(pin):
    return bool(_slot(pin, _RESET))


def readbit(pin):
    return _slot(pin, _READ_BIT)


def readbyte(pin):
    return _slot(pin, _READ_BYTE)


def writebit(pin, value):
    _slot(pin, _WRITE_BIT, 1 if value else 0)


def writebyte(pin, value):
    _slot(pin, _WRITE_BYTE, value & 0xFF)


def crc8(data):
    # x^8 + x^5 + x^4 + 1, low bit first
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x8C if crc & 1 else 0)
    return crc
