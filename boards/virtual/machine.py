"""machine of the virtual board, with the names, defaults and errors of MicroPython's ESP32 port.

What is not here (Timer, UART, SPI, PWM, …) is listed in docs/virtual-board.md.
"""

import struct
import time as _time

import _host
from micropython import const
from umachine import time_pulse_us  # noqa: F401

PWRON_RESET = const(1)
HARD_RESET = const(2)
WDT_RESET = const(3)
DEEPSLEEP_RESET = const(4)
SOFT_RESET = const(5)

_MOST_I2C = const(32768)

_boot = {}  # what the supervisor said of this boot; set by the boot code


def reset():
    _host.stop(b"R")


def soft_reset():
    raise SystemExit  # as on the ESP32; the REPL does the rest


def reset_cause():
    return _boot["reset_cause"]


def wake_reason():
    return 4 if _boot["reset_cause"] == DEEPSLEEP_RESET else 0  # TIMER_WAKE: the one that is modelled


def unique_id():
    return bytes(_boot["mac"])


def freq(hz=None):
    if hz is None:
        return _boot["freq"]
    if hz not in (20000000, 40000000, 80000000, 160000000, 240000000):
        raise ValueError("frequency must be 20MHz, 40MHz, 80Mhz, 160MHz or 240MHz")
    _boot["freq"] = hz
    return None


def idle():
    _time.sleep_ms(1)


def lightsleep(time_ms=0):
    _time.sleep_ms(time_ms)


def deepsleep(time_ms=0):
    _host.stop(b"D", struct.pack("<q", time_ms or -1))  # 0: no timer, only a reset wakes the chip


class RTC:
    """The real-time clock and its 2048 bytes of memory, both kept through deep sleep and resets."""

    def datetime(self, fields=None):
        if fields is None:
            t = _time.gmtime()
            return (t[0], t[1], t[2], t[6], t[3], t[4], t[5], _time.time_ns() // 1000 % 1000000)
        year, month, day, _weekday, hour, minute, second, _microsecond = fields
        target = _time.mktime((year, month, day, hour, minute, second, 0, 0))
        # Whole seconds are kept: the unix port's clock cannot be moved by less.
        _time.offset += target - _time.time()
        _host.call(b"t", struct.pack("<q", _time.offset))
        return None

    init = datetime

    def memory(self, data=None):
        if data is None:
            return bytes(_boot["rtc_memory"])
        data = bytes(data)
        if len(data) > 2048:
            raise ValueError("buffer too long")
        _host.call(b"m", data)
        _boot["rtc_memory"] = data
        return None


class WDT:
    """The task watchdog. Once started it cannot be stopped; unfed for `timeout` ms it resets the chip."""

    def __init__(self, id=0, timeout=5000):
        if id != 0:
            raise ValueError("WDT(%d) doesn't exist" % id)
        if timeout <= 0:
            raise ValueError("WDT timeout too short")
        _host.call(b"W", struct.pack("<I", timeout))

    def feed(self):
        _host.tell(b"f")


class Pin:
    IN = const(1)
    OUT = const(3)
    OPEN_DRAIN = const(7)
    PULL_DOWN = const(1)
    PULL_UP = const(2)
    DRIVE_0 = const(0)
    DRIVE_1 = const(1)
    DRIVE_2 = const(2)
    DRIVE_3 = const(3)

    _made = {}  # one object a pin

    def __new__(cls, id, *args, **kwargs):
        if isinstance(id, Pin):
            return id
        if id not in _boot["pins"]:
            raise ValueError("invalid pin")
        if id not in cls._made:
            cls._made[id] = object.__new__(cls)
            cls._made[id].gpio = id
        return cls._made[id]

    def __init__(self, id, mode=None, pull=-1, *, value=None, drive=None, hold=None):
        self.init(mode, pull, value=value)

    def init(self, mode=None, pull=-1, *, value=None, drive=None, hold=None):
        mode = -1 if mode is None else mode
        if mode in (self.OUT, self.OPEN_DRAIN) and self.gpio in _boot["input_only"]:
            raise ValueError("pin can only be input")
        pull = 0 if pull is None else pull
        if mode != -1 or pull != -1 or value is not None:
            level = -1 if value is None else int(bool(value))
            _host.call(b"p", struct.pack("<Bbbb", self.gpio, mode, pull, level))

    def value(self, level=None):
        if level is None:
            return _host.call(b"p", struct.pack("<Bbbb", self.gpio, -1, -1, -1))[0]
        _host.call(b"p", struct.pack("<Bbbb", self.gpio, -1, -1, int(bool(level))))
        return None

    __call__ = value

    def on(self):
        self.value(1)

    def off(self):
        self.value(0)

    def __repr__(self):
        return "Pin(%d)" % self.gpio


class ADC:
    """A channel of the converter; ADC2's pins answer a time-out while Wi-Fi is on, as on the ESP32."""

    ATTN_0DB = const(0)
    ATTN_2_5DB = const(1)
    ATTN_6DB = const(2)
    ATTN_11DB = const(3)
    WIDTH_9BIT = const(9)
    WIDTH_10BIT = const(10)
    WIDTH_11BIT = const(11)
    WIDTH_12BIT = const(12)

    def __init__(self, pin, atten=ATTN_0DB):
        self._gpio = Pin(pin).gpio
        if self._gpio not in _boot["adc_pins"]:
            raise ValueError("invalid pin")
        self.atten(atten)

    def init(self, atten=ATTN_0DB):
        self.atten(atten)

    def atten(self, atten):
        if atten not in (0, 1, 2, 3):
            raise ValueError("invalid atten")
        self._atten = atten

    def width(self, bits):
        if bits != self.WIDTH_12BIT:
            raise ValueError("invalid bits")

    def _convert(self):
        return struct.unpack("<HI", _host.call(b"a", struct.pack("<BB", self._gpio, self._atten)))

    def read(self):
        return self._convert()[0]

    def read_u16(self):
        raw = self._convert()[0]
        return raw << 4 | raw >> 8

    def read_uv(self):
        return self._convert()[1]


class I2C:
    """A controller of the I2C bus. Without an acknowledge: OSError ENODEV; with a stuck bus: ETIMEDOUT."""

    def __init__(self, id=0, *, scl=None, sda=None, freq=400000, timeout=50000):
        default = {0: (18, 19), 1: (25, 26)}
        if id not in default:
            raise ValueError("I2C(%d) doesn't exist" % id)
        if scl is None or sda is None:
            scl, sda = default[id]
        self._open(scl, sda)

    def _open(self, scl, sda):
        self._scl = Pin(scl, Pin.OPEN_DRAIN).gpio
        self._sda = Pin(sda, Pin.OPEN_DRAIN).gpio

    def _transfer(self, address, data, count, stop=True):
        if max(len(data), count) > _MOST_I2C:
            raise MemoryError("virtual board: an I2C transfer of more than 32 kB")
        head = struct.pack("<BBBBH", self._scl, self._sda, address, stop, count)
        return _host.call(b"i", head + data)

    def scan(self):
        # With a stuck bus nobody answers either: the ESP32 port does not tell that here.
        found = []
        for address in range(0x08, 0x78):
            try:
                self._transfer(address, b"", 0)
                found.append(address)
            except OSError:
                pass
        return found

    def writeto(self, address, buf, stop=True):
        self._transfer(address, bytes(buf), 0, stop)
        return len(buf)

    def writevto(self, address, vector, stop=True):
        return self.writeto(address, b"".join([bytes(part) for part in vector]), stop)

    def readfrom(self, address, count, stop=True):
        return self._transfer(address, b"", count, stop)

    def readfrom_into(self, address, buf, stop=True):
        buf[:] = self._transfer(address, b"", len(buf), stop)

    def readfrom_mem(self, address, register, count, *, addrsize=8):
        return self._transfer(address, register.to_bytes(addrsize // 8, "big"), count)

    def readfrom_mem_into(self, address, register, buf, *, addrsize=8):
        buf[:] = self._transfer(address, register.to_bytes(addrsize // 8, "big"), len(buf))

    def writeto_mem(self, address, register, buf, *, addrsize=8):
        self._transfer(address, register.to_bytes(addrsize // 8, "big") + bytes(buf), 0)


class SoftI2C(I2C):
    def __init__(self, scl, sda, *, freq=400000, timeout=50000):
        self._open(scl, sda)
