"""The model of the BME280, as its bus sees it."""

import struct

import pytest

from host_tools.errors import LimpetError
from host_tools.virtual.parts.bme280 import BME280, FAULTS, Trimming
from host_tools.virtual.stimulus import constant

ID, RESET, CTRL_HUM, STATUS, CTRL_MEAS, CONFIG, DATA = 0xD0, 0xE0, 0xF2, 0xF3, 0xF4, 0xF5, 0xF7
NEVER_MEASURED = bytes((0x80, 0, 0, 0x80, 0, 0, 0x80, 0))


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Bench:
    """A chip and its clock, past its start-up."""

    def __init__(self, celsius: float = 25.0, pascal: float = 101325.0, percent: float = 50.0) -> None:
        self.clock = Clock()
        self.chip = BME280(self.clock, constant(celsius), constant(pascal), constant(percent))
        self.wait(0.002)

    def wait(self, seconds: float) -> None:
        self.clock.seconds += seconds

    def get(self, register: int, n: int = 1) -> bytes:
        assert self.chip.write(bytes((register,)))
        return self.chip.read(n)

    def put(self, *pairs: int) -> None:
        assert self.chip.write(bytes(pairs))

    def measure(self, ctrl_meas: int = 0x25, osrs_h: int = 1) -> tuple[int, int, int]:
        self.put(CTRL_HUM, osrs_h)
        self.put(CTRL_MEAS, ctrl_meas)
        self.wait(0.2)
        return adc(self.get(DATA, 8))


def adc(data: bytes) -> tuple[int, int, int]:
    """ADC values of temperature, pressure, humidity."""
    return (
        int.from_bytes(data[3:6], "big") >> 4,
        int.from_bytes(data[0:3], "big") >> 4,
        int.from_bytes(data[6:8], "big"),
    )


def compensated(trim: Trimming, adc_t: int, adc_p: int, adc_h: int) -> tuple[float, float, float]:
    """°C, Pa and %RH by the datasheet's integer code (section 4.2.3), which the model does not use."""
    d = trim
    var1 = (((adc_t >> 3) - (d.t1 << 1)) * d.t2) >> 11
    var2 = (((((adc_t >> 4) - d.t1) * ((adc_t >> 4) - d.t1)) >> 12) * d.t3) >> 14
    t_fine = var1 + var2

    var1 = t_fine - 128000
    var2 = var1 * var1 * d.p6
    var2 = var2 + ((var1 * d.p5) << 17)
    var2 = var2 + (d.p4 << 35)
    var1 = ((var1 * var1 * d.p3) >> 8) + ((var1 * d.p2) << 12)
    var1 = (((1 << 47) + var1) * d.p1) >> 33
    p = (((1048576 - adc_p) << 31) - var2) * 3125 // var1
    var1 = (d.p9 * (p >> 13) * (p >> 13)) >> 25
    var2 = (d.p8 * p) >> 19
    p = ((p + var1 + var2) >> 8) + (d.p7 << 4)

    v = t_fine - 76800
    v = (((adc_h << 14) - (d.h4 << 20) - (d.h5 * v) + 16384) >> 15) * (
        ((((((v * d.h6) >> 10) * (((v * d.h3) >> 11) + 32768)) >> 10) + 2097152) * d.h2 + 8192) >> 14
    )
    v = v - (((((v >> 15) * (v >> 15)) >> 7) * d.h1) >> 4)
    v = max(0, min(419430400, v))
    return ((t_fine * 5 + 128) >> 8) / 100, p / 256, (v >> 12) / 1024


def test_registers_after_power_on() -> None:
    bench = Bench()
    assert bench.get(ID) == b"\x60"
    assert bench.get(RESET) == b"\0"
    assert bench.get(CTRL_HUM, 4) == bytes(4)
    assert bench.get(DATA, 8) == NEVER_MEASURED


def test_silent_while_it_starts_up() -> None:
    clock = Clock()
    chip = BME280(clock, constant(20), constant(100000), constant(40))
    clock.seconds += 0.0019
    assert not chip.write(bytes((ID,)))
    assert chip.read(1) == b"\xff"
    clock.seconds += 0.0002
    assert chip.write(bytes((ID,)))


def test_trimming_values_as_the_datasheet_packs_them() -> None:
    trim = Trimming(h4=-300, h5=-5, h6=-30, h2=-1, t3=-1000)
    clock = Clock()
    bench = Bench()
    bench.chip = BME280(clock, constant(20), constant(100000), constant(40), trimming=trim)
    clock.seconds += 1
    low = struct.unpack("<HhhHhhhhhhhhBB", bench.get(0x88, 26))
    assert low[:12] == (trim.t1, trim.t2, -1000, trim.p1, *(trim.p2, trim.p3, trim.p4, trim.p5), *low[8:12])
    assert low[8:12] == (trim.p6, trim.p7, trim.p8, trim.p9)
    assert low[13] == trim.h1
    e = bench.get(0xE1, 7)
    assert e[:3] == b"\xff\xff\x00"
    # Table 16: E4 and E5[3:0] are H4[11:4] and [3:0]; E6 and E5[7:4] are H5[11:4] and [3:0].
    assert e[3] << 4 | e[4] & 0xF == -300 & 0xFFF
    assert e[5] << 4 | e[4] >> 4 == -5 & 0xFFF
    assert e[6] == -30 & 0xFF


@pytest.mark.parametrize(
    ("celsius", "pascal", "percent"),
    [(25, 101325, 50), (-39.9, 30100, 3), (84.9, 109900, 97), (0, 87000, 20), (26.51, 99000, 33.3)],
)
def test_gives_the_quantities_through_the_datasheets_formulas(
    celsius: float, pascal: float, percent: float
) -> None:
    bench = Bench(celsius, pascal, percent)
    # ×16 for temperature and pressure: all 20 bits
    counts = bench.measure(ctrl_meas=5 << 5 | 5 << 2 | 1, osrs_h=5)
    got = compensated(bench.chip.trimming, *counts)
    assert got[0] == pytest.approx(celsius, abs=0.01)
    # The integer code cuts three bits off the temperature; that is worth some tenths of a pascal.
    assert got[1] == pytest.approx(pascal, abs=0.6)
    assert got[2] == pytest.approx(percent, abs=0.02)


def test_resolution_follows_oversampling() -> None:
    for code, unused in ((1, 4), (2, 3), (5, 0), (7, 0)):
        seen = 0
        for celsius in (20.001, 20.004, 20.013, 20.037, 21.11, 21.113):
            temperature, pressure, _ = Bench(celsius).measure(ctrl_meas=code << 5 | code << 2 | 1)
            seen |= temperature | pressure
        assert seen & 0xF == 0xF & (0xF << unused)


def test_forced_mode_takes_its_time_and_goes_back_to_sleep() -> None:
    bench = Bench()
    bench.put(CTRL_HUM, 1)
    bench.put(CTRL_MEAS, 0x25)
    # 1.25 + 2.3 + 2.3 + 0.575 + 2.3 + 0.575 = 9.3 ms
    bench.wait(0.0092)
    assert bench.get(STATUS) == b"\x08"
    assert bench.get(CTRL_MEAS) == b"\x25"
    assert bench.get(DATA, 8) == NEVER_MEASURED
    bench.wait(0.0002)
    assert bench.get(STATUS) == b"\0"
    assert bench.get(CTRL_MEAS) == b"\x24"
    assert bench.get(DATA, 8) != NEVER_MEASURED


def test_longest_measuring_time() -> None:
    bench = Bench()
    bench.put(CTRL_HUM, 5)
    bench.put(CTRL_MEAS, 5 << 5 | 5 << 2 | 1)
    bench.wait(0.1127)
    assert bench.get(STATUS) == b"\x08"
    bench.wait(0.0002)
    assert bench.get(STATUS) == b"\0"


def test_skipped_quantities() -> None:
    assert Bench().measure(ctrl_meas=0x25, osrs_h=0)[2] == 0x8000
    assert Bench().measure(ctrl_meas=0x05)[0] == 0x80000
    assert Bench().measure(ctrl_meas=0x21)[1] == 0x80000


def test_ctrl_hum_takes_effect_with_the_next_ctrl_meas() -> None:
    bench = Bench()
    bench.put(CTRL_MEAS, 0x25)
    bench.put(CTRL_HUM, 1)
    bench.wait(0.1)
    assert adc(bench.get(DATA, 8))[2] == 0x8000
    bench.put(CTRL_MEAS, 0x25)
    bench.wait(0.1)
    assert adc(bench.get(DATA, 8))[2] != 0x8000


def test_ctrl_meas_during_a_measurement_waits_for_its_end() -> None:
    bench = Bench()
    bench.put(CTRL_MEAS, 0x25)
    bench.put(CTRL_MEAS, 0x44)
    bench.put(CTRL_MEAS, 0x64)  # one too many
    assert bench.get(CTRL_MEAS) == b"\x25"
    bench.wait(0.1)
    assert bench.get(CTRL_MEAS) == b"\x44"
    assert bench.get(DATA, 8) != NEVER_MEASURED


def test_normal_mode_measures_again_and_again() -> None:
    clock = Clock()
    bench = Bench()
    bench.chip = BME280(clock, lambda s: 20 + s, constant(100000), constant(40))
    bench.clock = clock
    bench.wait(0.002)
    bench.put(CONFIG, 4 << 5)  # 500 ms of standby
    bench.put(CTRL_MEAS, 0x27)
    bench.wait(0.1)
    first = adc(bench.get(DATA, 8))[0]
    assert bench.get(STATUS) == b"\0"
    bench.wait(0.2)
    assert adc(bench.get(DATA, 8))[0] == first
    bench.wait(60)
    degrees = compensated(bench.chip.trimming, *adc(bench.get(DATA, 8)))[0]
    assert 79.5 < degrees < 80.5
    bench.put(CONFIG, 0)
    assert bench.get(CONFIG) == b"\x80"  # not in normal mode


def test_one_read_gives_one_measurement() -> None:
    clock = Clock()
    bench = Bench()
    bench.chip = BME280(clock, lambda s: s, constant(100000), constant(40))
    bench.clock = clock
    bench.wait(0.002)
    bench.put(CTRL_MEAS, 0x27)
    bench.wait(5)
    assert bench.chip.write(bytes((DATA,)))
    before = bench.chip.read(4)
    rest = bench.chip.read(4)
    assert adc(before + rest)[0] == adc(bench.get(DATA, 8))[0]


def test_converter_ends_at_its_limits() -> None:
    assert Bench(celsius=2000).measure(5 << 5 | 5 << 2 | 1)[0] == 0xFFFFF
    assert Bench(celsius=-2000).measure(5 << 5 | 5 << 2 | 1)[0] == 0
    assert Bench(pascal=-1e6).measure(5 << 5 | 5 << 2 | 1)[1] == 0xFFFFF
    assert Bench(percent=1e4).measure()[2] == 0xFFFF


def test_soft_reset() -> None:
    bench = Bench()
    bench.measure()
    bench.put(RESET, 0xB5)
    assert bench.get(CTRL_HUM) == b"\x01"
    bench.put(RESET, 0xB6)
    assert bench.get(STATUS) == b"\x01"
    assert bench.get(0x88, 2) == b"\0\0"
    assert bench.get(CTRL_HUM, 1) == b"\0"
    bench.wait(0.002)
    assert bench.get(STATUS) == b"\0"
    assert bench.get(0x88, 2) == bench.chip.trimming.t1.to_bytes(2, "little")
    assert bench.get(DATA, 8) == NEVER_MEASURED


def test_write_in_register_data_pairs() -> None:
    bench = Bench()
    bench.put(CTRL_HUM, 1, CTRL_MEAS, 0x25)
    bench.wait(0.1)
    assert bench.get(CTRL_HUM) == b"\x01"
    assert adc(bench.get(DATA, 8))[2] != 0x8000


def test_faults() -> None:
    bench = Bench()
    bench.measure()
    for fault in FAULTS:
        bench.chip.fault = fault
        bench.wait(0.01)
        assert bench.chip.fault == fault
        assert bench.chip.stuck == (fault == "stuck")
        assert bench.chip.write(b"\xd0") == (fault in ("wrong-chip", "frozen"))
    bench.chip.fault = None
    assert not bench.chip.write(b"\xd0")  # plugged in again a moment ago
    bench.wait(0.01)
    assert bench.get(ID) == b"\x60"
    with pytest.raises(LimpetError, match="no-ack, stuck, wrong-chip"):
        bench.chip.fault = "burnt"


def test_wrong_chip() -> None:
    bench = Bench()
    bench.measure()
    bench.chip.fault = "wrong-chip"
    bench.wait(0.002)
    assert bench.get(ID) == b"\x58"
    assert bench.get(CTRL_HUM) == b"\0"


def test_frozen_never_ends_a_measurement() -> None:
    bench = Bench()
    bench.chip.fault = "frozen"
    bench.measure()
    assert bench.get(STATUS) == b"\x08"
    assert bench.get(DATA, 8) == NEVER_MEASURED
    bench.chip.fault = None
    assert bench.get(STATUS) == b"\0"


def test_unplugged_loses_its_settings_and_no_ack_does_not() -> None:
    bench = Bench()
    for fault, kept in (("no-ack", True), ("unplugged", False)):
        bench.measure()
        bench.chip.fault = fault
        bench.chip.fault = None
        bench.wait(0.01)
        assert (bench.get(CTRL_HUM) == b"\x01") == kept
        assert (bench.get(DATA, 8) != NEVER_MEASURED) == kept


def test_a_chip_has_one_of_two_addresses() -> None:
    clock = Clock()
    assert BME280(clock, constant(1), constant(1), constant(1), address=0x77).address == 0x77
    with pytest.raises(ValueError, match="0x78"):
        BME280(clock, constant(1), constant(1), constant(1), address=0x78)
