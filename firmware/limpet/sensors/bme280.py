"""Bosch BME280 over I2C: temperature, pressure, humidity.

Section and table numbers are those of the datasheet BST-BME280-DS002, revision 1.6.
The chip sleeps between measurements (forced mode), with the settings for weather monitoring (section
3.5.1): oversampling ×1 for all three, filter off.
"""

import struct
import time

from micropython import const

from limpet.reading import NOT_READY, OUT_OF_RANGE, WRONG_CHIP, SensorError
from limpet.sensors import i2c

# Registers (table 18)
_CALIB00 = const(0x88)  # 26 bytes, to dig_H1 at 0xA1
_ID = const(0xD0)
_RESET = const(0xE0)
_CALIB26 = const(0xE1)  # 7 bytes
_CTRL_HUM = const(0xF2)  # followed by status and ctrl_meas
_STATUS = const(0xF3)
_CTRL_MEAS = const(0xF4)
_CONFIG = const(0xF5)
_DATA = const(0xF7)  # 8 bytes: pressure 3, temperature 3, humidity 2

_CHIP_ID = const(0x60)  # a BMP280, which has no humidity, says 0x58
_SOFT_RESET = const(0xB6)
_IM_UPDATE = const(0x01)
_MEASURING = const(0x08)

# Oversampling: the register code n >= 1 stands for 2 ** (n - 1) samples (tables 20, 23, 24).
_OSRS_T = const(1)
_OSRS_P = const(1)
_OSRS_H = const(1)
_SLEEP = const(_OSRS_T << 5 | _OSRS_P << 2)
_FORCED = const(_SLEEP | 0x01)

# The longest measuring time (section 9.1), in whole milliseconds upwards. One more, because a
# millisecond counter that has moved on by n may have seen a little less than n milliseconds.
_MEASURE_MS = const(
    (
        1250
        + (2300 << (_OSRS_T - 1))
        + (2300 << (_OSRS_P - 1)) + 575
        + (2300 << (_OSRS_H - 1)) + 575
        + 999
    ) // 1000 + 1
)  # fmt: skip

_STARTUP_MS = const(2)  # table 1: t_startup
_STARTUP_TRIES = const(5)

# What the data registers hold before the first measurement (table 18).
_NEVER_MEASURED = b"\x80\x00\x00\x80\x00\x00\x80\x00"


def trimming(calib00, calib26):
    """The trimming values as (T1…T3, P1…P9, H1…H6), from 26 bytes at 0x88 and 7 bytes at 0xE1 (table 16)."""
    low = struct.unpack("<HhhHhhhhhhhhBB", calib00)
    h2, h3, e4, e5, e6, h6 = struct.unpack("<hBbBbb", calib26)
    # H4 and H5 have twelve bits each: the high eight, with the sign, in E4 and E6; the low four share E5.
    return low[:12] + (low[13], h2, h3, e4 << 4 | e5 & 0x0F, e6 << 4 | e5 >> 4, h6)


# Section 4.2.3. Where C's int32_t and int64_t would do, these give the same bits: Python's >> on a negative
# number rounds down as C's does there, and the one division is of positive numbers for every pressure
# that the chip can measure.


def fine_temperature(adc, trim):
    """The datasheet's t_fine for a temperature's ADC value: the temperature in 1/5120 °C."""
    t1, t2, t3 = trim[0], trim[1], trim[2]
    var1 = (((adc >> 3) - (t1 << 1)) * t2) >> 11
    var2 = (adc >> 4) - t1
    var2 = (((var2 * var2) >> 12) * t3) >> 14
    return var1 + var2


def temperature(t_fine):
    """Temperature in 0.01 °C."""
    return (t_fine * 5 + 128) >> 8


def pressure(adc, t_fine, trim):
    """Pressure in 1/256 Pa. 0 when the trimming values would have it divide by zero."""
    _, _, _, p1, p2, p3, p4, p5, p6, p7, p8, p9 = trim[:12]
    var1 = t_fine - 128000
    var2 = var1 * var1 * p6 + ((var1 * p5) << 17) + (p4 << 35)
    var1 = ((var1 * var1 * p3) >> 8) + ((var1 * p2) << 12)
    var1 = (((1 << 47) + var1) * p1) >> 33
    if not var1:
        return 0
    p = ((((1048576 - adc) << 31) - var2) * 3125) // var1
    var1 = (p9 * (p >> 13) * (p >> 13)) >> 25
    var2 = (p8 * p) >> 19
    return ((p + var1 + var2) >> 8) + (p7 << 4)


def humidity(adc, t_fine, trim):
    """Relative humidity in 1/1024 %, held between 0 and 100 % as the datasheet does."""
    h1, h2, h3, h4, h5, h6 = trim[12:]
    x = t_fine - 76800
    gain = ((((x * h6) >> 10) * (((x * h3) >> 11) + 32768)) >> 10) + 2097152
    x = (((adc << 14) - (h4 << 20) - h5 * x + 16384) >> 15) * ((gain * h2 + 8192) >> 14)
    x -= ((((x >> 15) * (x >> 15)) >> 7) * h1) >> 4
    return min(max(x, 0), 419430400) >> 12


class Driver:
    """A BME280. Settings: `scl`, `sda` (GPIO numbers), `address` (0x76 or 0x77)."""

    channels = (
        ("temperature", "Cel", 2, -4000, 8500),
        ("pressure", "Pa", 2, 3000000, 11000000),
        ("humidity", "%RH", 2, 0, 10000),
    )

    def __init__(self, spec):
        self.reasons = bytearray(3)
        self._bus = i2c.bus(spec["scl"], spec["sda"])
        self._address = spec["address"]
        self._byte = bytearray(1)
        self._state = bytearray(3)  # ctrl_hum, status, ctrl_meas
        self._data = bytearray(8)
        self._trim = None
        self._ready = False

    def start(self):
        # Not ready until all of this has worked, so that a failure anywhere brings the set-up again.
        ready, self._ready = self._ready, False
        if not ready:
            self._set_up()
        self._write(_CTRL_MEAS, _FORCED)
        self._ready = True
        return _MEASURE_MS

    def read(self, out):
        self._ready = False
        state = self._state
        data = self._data
        self._bus.readfrom_mem_into(self._address, _CTRL_HUM, state)
        self._bus.readfrom_mem_into(self._address, _DATA, data)
        if state[1] & _MEASURING:
            raise SensorError(NOT_READY, "still measuring")
        # A quantity is skipped, and reads 0x80000 or 0x8000, when its oversampling is 0: so it is after a
        # loss of power. Our settings being there is the proof; those two are also values like any other.
        if state[0] != _OSRS_H or state[2] != _SLEEP:
            raise SensorError(NOT_READY, "lost its settings")
        if data == _NEVER_MEASURED:
            raise SensorError(NOT_READY, "has not measured")

        t_fine = fine_temperature(data[3] << 12 | data[4] << 4 | data[5] >> 4, self._trim)
        p = pressure(data[0] << 12 | data[1] << 4 | data[2] >> 4, t_fine, self._trim)
        out[0] = temperature(t_fine)
        out[1] = (p * 100 + 128) >> 8
        out[2] = (humidity(data[6] << 8 | data[7], t_fine, self._trim) * 100 + 512) >> 10
        self._judge(out)
        self._ready = True

    def _judge(self, out):
        for i in range(3):
            channel = self.channels[i]
            self.reasons[i] = 0 if channel[3] <= out[i] <= channel[4] else OUT_OF_RANGE
        if self.reasons[0]:
            # The other two are computed with the temperature.
            self.reasons[1] = self.reasons[2] = OUT_OF_RANGE

    def _set_up(self):
        chip = self._read(_ID)
        if chip != _CHIP_ID:
            raise SensorError(WRONG_CHIP, "chip id 0x%02x" % chip)
        self._write(_RESET, _SOFT_RESET)
        # The trimming values may be read when the chip has copied them out of its memory.
        for _ in range(_STARTUP_TRIES):
            time.sleep_ms(_STARTUP_MS)
            if not self._read(_STATUS) & _IM_UPDATE:
                break
        else:
            raise SensorError(NOT_READY, "does not end its reset")
        read = self._bus.readfrom_mem
        self._trim = trimming(read(self._address, _CALIB00, 26), read(self._address, _CALIB26, 7))
        self._write(_CONFIG, 0)
        # Takes effect with the next write to ctrl_meas (section 5.4.3).
        self._write(_CTRL_HUM, _OSRS_H)

    def _read(self, register):
        self._bus.readfrom_mem_into(self._address, register, self._byte)
        return self._byte[0]

    def _write(self, register, value):
        self._byte[0] = value
        self._bus.writeto_mem(self._address, register, self._byte)
