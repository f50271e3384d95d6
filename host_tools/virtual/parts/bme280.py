"""A Bosch BME280 on an I2C bus, after its datasheet BST-BME280-DS002, revision 1.6.

What it models: the register map with its reset values, register pointer, burst reads and register-data
pairs; sleep, forced and normal mode with the longest times of section 9.1; `ctrl_hum` taking effect with a
write to `ctrl_meas`; soft reset and start-up; trimming values of its own; the resolution that belongs to
the oversampling; skipped quantities; and the converter's limits. Data registers change only between
transfers, which is what shadowing does for a burst read.

What it leaves out: the IIR filter (the `filter` bits are kept, and do nothing), SPI, noise, drift, the time
that a sensor needs to follow its surroundings, current, and what is in the reserved registers (read as 0).
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from host_tools.virtual.parts import Now, known_fault
from host_tools.virtual.stimulus import Stimulus

CALIB00, ID, RESET, CALIB26 = 0x88, 0xD0, 0xE0, 0xE1
CTRL_HUM, STATUS, CTRL_MEAS, CONFIG, DATA = 0xF2, 0xF3, 0xF4, 0xF5, 0xF7

CHIP_ID = 0x60
BMP280_ID = 0x58
SOFT_RESET = 0xB6

_MEASURING = 0x08
_IM_UPDATE = 0x01
_SLEEP, _NORMAL = 0b00, 0b11

_STARTUP = 0.002
"""Table 1, t_startup: from power to the first communication. Taken for the copying after a soft reset too."""

_STANDBY = (0.0005, 0.0625, 0.125, 0.25, 0.5, 1.0, 0.010, 0.020)
"""Table 27, by t_sb."""

FAULTS = ("no-ack", "stuck", "wrong-chip", "frozen", "unplugged")
"""
no-ack      does not acknowledge its address
stuck       holds SDA low: the bus must answer with a time-out
wrong-chip  is replaced by one that has the id of a BMP280, fresh from power-on
frozen      never ends a measurement
unplugged   is off the bus and without power; when the fault ends it starts anew, its settings lost
"""

_WITHOUT_POWER = {"wrong-chip", "unplugged"}
"""Their beginning and their end are a power-on."""


@dataclass(frozen=True)
class Trimming:
    """The values that the maker burns into a chip (table 16). The default is that of a usual one."""

    t1: int = 27875
    t2: int = 26482
    t3: int = 50
    p1: int = 36824
    p2: int = -10588
    p3: int = 3024
    p4: int = 8123
    p5: int = -31
    p6: int = -7
    p7: int = 9900
    p8: int = -10230
    p9: int = 4285
    h1: int = 75
    h2: int = 366
    h3: int = 0
    h4: int = 309
    h5: int = 50
    h6: int = 30

    def calib00(self) -> bytes:
        """The 26 bytes at 0x88."""
        words = [self.t1, self.t2, self.t3, self.p1, self.p2, self.p3]
        words += [self.p4, self.p5, self.p6, self.p7, self.p8, self.p9]
        return b"".join((w & 0xFFFF).to_bytes(2, "little") for w in words) + bytes((0, self.h1))

    def calib26(self) -> bytes:
        """The 7 bytes at 0xE1."""
        shared = (self.h5 & 0xF) << 4 | self.h4 & 0xF
        return struct.pack("<hB", self.h2, self.h3) + bytes(
            ((self.h4 >> 4) & 0xFF, shared, (self.h5 >> 4) & 0xFF, self.h6 & 0xFF)
        )

    # Section 8.1, in floating point: what the chip's ADC values mean. `measure` turns it round.

    def fine(self, adc: float) -> float:
        """The temperature in 1/5120 °C."""
        x = adc / 2**17 - self.t1 / 2**13
        return 8 * x * self.t2 + x * x * self.t3

    def temperature(self, adc: float) -> float:
        """Degrees Celsius."""
        return self.fine(adc) / 5120

    def pressure(self, adc: float, fine: float) -> float:
        """Pascal."""
        x = fine / 2 - 64000
        offset = (x * x * self.p6 / 2**15 + 2 * x * self.p5) / 4 + self.p4 * 2**16
        gain = (1 + (self.p3 * x * x / 2**19 + self.p2 * x) / 2**34) * self.p1
        p = (2**20 - adc - offset / 2**12) * 6250 / gain
        return p + (self.p9 * p * p / 2**31 + p * self.p8 / 2**15 + self.p7) / 16

    def humidity(self, adc: float, fine: float) -> float:
        """Percent of relative humidity, beyond 0 and 100 too."""
        x = fine - 76800
        h = adc - (self.h4 * 64 + self.h5 / 2**14 * x)
        h *= self.h2 / 2**16 * (1 + self.h6 / 2**26 * x * (1 + self.h3 / 2**26 * x))
        return h * (1 - self.h1 * h / 2**19)

    def measure(self, celsius: float, pascal: float, percent: float) -> tuple[int, int, int]:
        """The ADC values (temperature, pressure: 20 bits; humidity: 16 bits) for these quantities."""
        adc_t = _solve(self.temperature, celsius, 20)
        fine = self.fine(adc_t)
        adc_p = _solve(lambda adc: self.pressure(adc, fine), pascal, 20)
        adc_h = _solve(lambda adc: self.humidity(adc, fine), percent, 16)
        return adc_t, adc_p, adc_h


def _solve(formula: Callable[[float], float], target: float, bits: int) -> int:
    """The number of `bits` bits for which the monotonic `formula` comes nearest to `target`."""
    low, high = 0, (1 << bits) - 1
    rising = formula(high) > formula(low)
    while high - low > 1:
        middle = (low + high) // 2
        if (formula(middle) < target) == rising:
            low = middle
        else:
            high = middle
    return min((low, high), key=lambda adc: abs(formula(adc) - target))


class BME280:
    """One chip. `temperature` in °C, `pressure` in Pa and `humidity` in %RH are functions of the seconds
    since it was made. `fault` is one of FAULTS, or None; setting another word raises LimpetError."""

    def __init__(
        self,
        now: Now,
        temperature: Stimulus,
        pressure: Stimulus,
        humidity: Stimulus,
        *,
        address: int = 0x76,
        trimming: Trimming | None = None,
    ) -> None:
        if address not in (0x76, 0x77):
            raise ValueError(f"a BME280 has address 0x76 or 0x77, not {address:#x}")
        self.address = address
        self.trimming = trimming or Trimming()
        self._now = now
        self._made = now()
        self._quantities = (temperature, pressure, humidity)
        self._fault: str | None = None
        self._power_on()

    @property
    def fault(self) -> str | None:
        return self._fault

    @fault.setter
    def fault(self, fault: str | None) -> None:
        before, self._fault = self._fault, known_fault("BME280", fault, FAULTS)
        if before != fault and {before, fault} & _WITHOUT_POWER:
            self._power_on()

    @property
    def stuck(self) -> bool:
        return self._fault == "stuck"

    def write(self, data: bytes) -> bool:
        if not self._answers():
            return False
        self._catch_up()
        if data:
            self._pointer = data[0]
        # Register-data pairs: a write does not move the pointer on (section 6.2.1).
        for i in range(1, len(data), 2):
            self._store(data[i - 1], data[i])
        return True

    def read(self, n: int) -> bytes:
        if not self._answers():
            return b"\xff" * n
        self._catch_up()
        answer = bytes(self._load((self._pointer + i) & 0xFF) for i in range(n))
        self._pointer = (self._pointer + n) & 0xFF
        return answer

    def _answers(self) -> bool:
        gone = self._fault in ("no-ack", "stuck", "unplugged")
        return not gone and self._now() >= self._silent_until

    def _power_on(self) -> None:
        self._silent_until = self._now() + _STARTUP
        self._reset(self._silent_until)

    def _reset(self, copied: float) -> None:
        self._pointer = 0
        self._copied = copied  # when the trimming values can be read
        self._ctrl_hum = 0
        self._ctrl_meas = 0
        self._config = 0
        self._osrs_h = 0  # the humidity oversampling in effect
        self._data = bytes((0x80, 0, 0, 0x80, 0, 0, 0x80, 0))
        self._end: float | None = None  # of the measurement that runs
        self._next: float | None = None  # start of the next one, in normal mode
        self._queued: int | None = None  # write to ctrl_meas that waits for the end of the measurement

    def _load(self, register: int) -> int:
        calibration = {CALIB00: self.trimming.calib00(), CALIB26: self.trimming.calib26()}
        for start, values in calibration.items():
            if start <= register < start + len(values):
                return values[register - start] if self._now() >= self._copied else 0
        if DATA <= register < DATA + len(self._data):
            return self._data[register - DATA]
        return {
            ID: BMP280_ID if self._fault == "wrong-chip" else CHIP_ID,
            CTRL_HUM: self._ctrl_hum,
            STATUS: self._status(),
            CTRL_MEAS: self._ctrl_meas,
            CONFIG: self._config,
        }.get(register, 0)

    def _status(self) -> int:
        measuring = _MEASURING if self._end is not None else 0
        return measuring | (_IM_UPDATE if self._now() < self._copied else 0)

    def _store(self, register: int, value: int) -> None:
        if register == RESET and value == SOFT_RESET:
            self._reset(self._now() + _STARTUP)
        elif register == CTRL_HUM:
            self._ctrl_hum = value & 0x07
        elif register == CONFIG:
            # May be ignored in normal mode (section 5.4.6); it is.
            if self._ctrl_meas & 0b11 != _NORMAL:
                self._config = value & 0xFD
        elif register == CTRL_MEAS:
            # During a measurement it waits for the end, and what comes after it is ignored (section 3.3.1).
            if self._end is None:
                self._control(value, self._now())
            elif self._queued is None:
                self._queued = value

    def _control(self, value: int, time: float) -> None:
        self._ctrl_meas = value
        self._osrs_h = self._ctrl_hum
        self._next = None
        if value & 0b11 != _SLEEP:
            self._end = time + self._measuring_time()

    def _oversampling(self) -> tuple[int, int, int]:
        """Codes of temperature, pressure, humidity: 0 skip, n: 2 ** (n - 1) samples; above 5 as 5."""
        codes = (self._ctrl_meas >> 5, self._ctrl_meas >> 2 & 7, self._osrs_h)
        return min(codes[0], 5), min(codes[1], 5), min(codes[2], 5)

    def _measuring_time(self) -> float:
        t, p, h = (2 ** (code - 1) if code else 0 for code in self._oversampling())
        return (1.25 + 2.3 * t + (2.3 * p + 0.575 if p else 0) + (2.3 * h + 0.575 if h else 0)) / 1000

    def _catch_up(self) -> None:
        """Let everything happen that has been due since the last transfer."""
        now = self._now()
        while True:
            if self._next is not None and self._next <= now:
                self._end = self._next + self._measuring_time()
                self._next = None
            if self._fault == "frozen" or self._end is None or self._end > now:
                return
            self._finish(self._end)

    def _finish(self, time: float) -> None:
        self._end = None
        self._data = self._convert(time)
        queued, self._queued = self._queued, None
        if queued is not None:
            self._control(queued, time)
        elif self._ctrl_meas & 0b11 == _NORMAL:
            self._next = time + _STANDBY[self._config >> 5]
        else:
            self._ctrl_meas &= ~0b11

    def _convert(self, time: float) -> bytes:
        celsius, pascal, percent = (quantity(time - self._made) for quantity in self._quantities)
        adc_t, adc_p, adc_h = self.trimming.measure(celsius, pascal, percent)
        osrs_t, osrs_p, osrs_h = self._oversampling()
        # 16 bits at ×1, one more with each doubling (tables 21 and 24).
        adc_t = adc_t >> (5 - osrs_t) << (5 - osrs_t) if osrs_t else 0x80000
        adc_p = adc_p >> (5 - osrs_p) << (5 - osrs_p) if osrs_p else 0x80000
        adc_h = adc_h if osrs_h else 0x8000
        return (adc_p << 4).to_bytes(3, "big") + (adc_t << 4).to_bytes(3, "big") + adc_h.to_bytes(2, "big")
