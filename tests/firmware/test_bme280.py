"""The BME280 driver: its arithmetic against the datasheet's, its bus traffic against a chip of registers."""

import errno
import random
import struct

from limpet.reading import NOT_READY, OUT_OF_RANGE, WRONG_CHIP, SensorError
from limpet.sensors import bme280, i2c, make

# The worked example of the BMP280's datasheet (BST-BMP280-DS001, section 3.12); a BME280 counts the same way.
EXAMPLE = (27504, 26435, -1000, 36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000)
EXAMPLE += (75, 370, 0, 309, 50, 30)
EXAMPLE_T, EXAMPLE_P = 519888, 415148

# (trimming values), (ADC: temperature, pressure, humidity), (t_fine, 0.01 °C, Pa/256, %/1024): what the
# datasheet's C code gives for them (section 4.2.3, compiled for 64 bits).
COMPUTED_IN_C = (
    (
        (27826, 27441, -692, 37117, -10851, 3024, 3093, 170, -7, 12300, -10230, 6000)
        + (75, 372, 0, 281, 27, 30),
        (324815, 806102, 17725),
        (-202253, -3950, 7705574, 1017),
    ),
    (
        (27485, 25685, -131, 35742, -10321, 3024, 3514, 235, -7, 9900, -12000, 5000)
        + (75, 376, 0, 276, 14, 30),
        (407106, 691943, 21263),
        (-51204, -1000, 12799974, 20478),
    ),
    (
        (28875, 27132, -66, 35781, -10805, 3024, 4711, -8, -7, 12300, -12000, 4285)
        + (53, 381, 4, 327, 18, 32),
        (539308, 391576, 29422),
        (127992, 2500, 25939145, 51199),
    ),
    (
        (28370, 27342, -197, 37130, -10492, 3024, 5728, -197, -7, 15500, -12000, 6000)
        + (75, 344, 0, 290, 7, 30),
        (713632, 366659, 35391),
        (432639, 8450, 28134387, 102395),
    ),
)

SPEC = {"kind": "bme280", "name": "air", "scl": 22, "sda": 21, "address": 0x76}


class Chip:
    """A BME280 as its registers. A forced measurement ends at once, unless it is `slow`."""

    def __init__(self, trim=EXAMPLE, adc=(EXAMPLE_T, EXAMPLE_P, 30000), chip_id=0x60):
        self.adc = adc
        self.slow = False
        self.resets = 0
        self.updating = 0  # status reads that still find the trimming values being copied
        self.registers = bytearray(256)
        self.registers[0xD0] = chip_id
        struct.pack_into("<HhhHhhhhhhhhBB", self.registers, 0x88, *(trim[:12] + (0, trim[12])))
        h2, h3, h4, h5, h6 = trim[13:]
        struct.pack_into("<hB", self.registers, 0xE1, h2, h3)
        self.registers[0xE4] = h4 >> 4 & 0xFF
        self.registers[0xE5] = (h5 & 0xF) << 4 | h4 & 0xF
        self.registers[0xE6] = h5 >> 4 & 0xFF
        self.registers[0xE7] = h6 & 0xFF
        self.power_on()

    def power_on(self):
        self.registers[0xF2:0xFF] = b"\0\0\0\0\0\x80\0\0\x80\0\0\x80\0"
        self.osrs_h = 0

    def write(self, register, value):
        if register == 0xE0 and value == 0xB6:
            self.resets += 1
            self.power_on()
        elif register in (0xF2, 0xF4, 0xF5):
            self.registers[register] = value
        if register == 0xF4:
            self.osrs_h = self.registers[0xF2]
            if value & 3:
                self.measure()

    def measure(self):
        if self.slow:
            self.registers[0xF3] = 0x08
            return
        t, p, h = self.adc
        data = (p << 4).to_bytes(3, "big") + (t << 4).to_bytes(3, "big")
        data += (h if self.osrs_h else 0x8000).to_bytes(2, "big")
        self.registers[0xF7:0xFF] = data
        self.registers[0xF4] &= 0xFC

    def read(self, register):
        if register == 0xF3 and self.updating:
            self.updating -= 1
            return 0x01
        return self.registers[register]


class Bus:
    def __init__(self, opened, scl, sda, freq):
        self.opened = opened
        self.pins = (scl, sda)
        self.freq = freq
        self.chips = {}
        self.log = []

    def chip(self, address):
        if address not in self.chips:
            raise OSError(errno.ENODEV)
        return self.chips[address]

    def readfrom_mem_into(self, address, register, buf):
        self.log.append(("read", register, len(buf)))
        for i in range(len(buf)):
            buf[i] = self.chip(address).read(register + i)

    def readfrom_mem(self, address, register, count):
        buf = bytearray(count)
        self.readfrom_mem_into(address, register, buf)
        return bytes(buf)

    def writeto_mem(self, address, register, buf):
        assert len(buf) == 1
        self.log.append(("write", register, buf[0]))
        self.chip(address).write(register, buf[0])


class Machine:
    """The part of `machine` that opens buses, for a chip with `controllers` of them."""

    def __init__(self, controllers=2):
        self.controllers = controllers
        self.buses = []

    def Pin(self, gpio):
        return gpio

    def I2C(self, number, *, scl, sda, freq):
        if number >= self.controllers:
            raise ValueError("I2C(%d) doesn't exist" % number)
        self.buses.append(Bus(number, scl, sda, freq))
        return self.buses[-1]

    def SoftI2C(self, *, scl, sda, freq):
        self.buses.append(Bus("soft", scl, sda, freq))
        return self.buses[-1]


def board(controllers=2):
    i2c.machine = Machine(controllers)
    i2c._buses.clear()
    return i2c.machine


def sensor(chip):
    machine = board()
    driver = make(SPEC)
    bus = machine.buses[0]
    bus.chips[0x76] = chip
    return driver, bus


def measure(driver):
    assert driver.start() > 0
    out = [None, None, None]
    driver.read(out)
    return out


def failure(function, *args):
    try:
        function(*args)
    except SensorError as e:
        return e.args[0]
    return None


def test_datasheet_example():
    t_fine = bme280.fine_temperature(EXAMPLE_T, EXAMPLE)
    assert t_fine == 128422
    assert bme280.temperature(t_fine) == 2508
    p = bme280.pressure(EXAMPLE_P, t_fine, EXAMPLE)
    # The datasheet's figure says 25767236 (100653.27 Pa); its own 64-bit code gives three 1/256 Pa less.
    assert p == 25767233
    assert abs(p - 25767236) <= 3


def test_same_bits_as_the_datasheets_c():
    for trim, (t, p, h), expected in COMPUTED_IN_C:
        t_fine = bme280.fine_temperature(t, trim)
        got = (
            t_fine,
            bme280.temperature(t_fine),
            bme280.pressure(p, t_fine, trim),
            bme280.humidity(h, t_fine, trim),
        )
        assert got == expected, (got, expected)


def exact_humidity(adc, t_fine, trim):
    # The formula for doubles (section 8.1), not cut off at 0 and 100 %.
    h1, h2, h3, h4, h5, h6 = trim[12:]
    x = t_fine - 76800.0
    h = (adc - (h4 * 64.0 + h5 / 16384.0 * x)) * (
        h2 / 65536.0 * (1.0 + h6 / 67108864.0 * x * (1.0 + h3 / 67108864.0 * x))
    )
    return h * (1.0 - h1 * h / 524288.0)


def exact_pressure(adc, t_fine, trim):
    p1, p2, p3, p4, p5, p6, p7, p8, p9 = trim[3:12]
    x = t_fine / 2.0 - 64000.0
    y = x * x * p6 / 32768.0 + x * p5 * 2.0
    y = y / 4.0 + p4 * 65536.0
    x = (p3 * x * x / 524288.0 + p2 * x) / 524288.0
    x = (1.0 + x / 32768.0) * p1
    p = (1048576.0 - adc - y / 4096.0) * 6250.0 / x
    return p + (p9 * p * p / 2147483648.0 + p * p8 / 32768.0 + p7) / 16.0


def random_trimming():
    r = random.randint
    return (r(26500, 29000), r(25500, 27500), r(-1000, 60), r(35500, 38500), r(-10900, -10300), 3024) + (
        (r(2500, 10000), r(-250, 250), -7, r(9900, 15500), r(-14600, -10230), r(4285, 6000))
        + (r(50, 100), r(340, 390), r(0, 5), r(270, 340), r(-60, 60), r(20, 40))
    )


def test_humidity_agrees_with_floating_point():
    random.seed(280)
    inside = 0
    for _ in range(3000):
        trim = random_trimming()
        t_fine = random.randint(-200000, 430000)
        adc = random.randint(0, 65535)
        expected = min(max(exact_humidity(adc, t_fine, trim), 0.0), 100.0)
        assert abs(bme280.humidity(adc, t_fine, trim) / 1024 - expected) < 0.01, (trim, t_fine, adc)
        inside += 0 < expected < 100
    assert inside > 500


def test_pressure_agrees_with_floating_point():
    random.seed(281)
    inside = 0
    for _ in range(3000):
        trim = random_trimming()
        t_fine = random.randint(-200000, 430000)
        adc = random.randint(200000, 850000)
        expected = exact_pressure(adc, t_fine, trim)
        if 30000 <= expected <= 110000:
            inside += 1
            assert abs(bme280.pressure(adc, t_fine, trim) / 256 - expected) < 0.02, (trim, t_fine, adc)
    assert inside > 500


def test_trimming_signs_and_the_shared_byte():
    for h4, h5 in ((309, 50), (-1, 1), (1, -1), (-2048, 2047), (2047, -2048)):
        trim = (65535, -1, -32768, 65535, -32768, 32767, -1, 1, -7, 9900, -10230, 4285)
        trim += (255, -300, 255, h4, h5, -128)
        chip = Chip(trim).registers
        assert bme280.trimming(bytes(chip[0x88:0xA2]), bytes(chip[0xE1:0xE8])) == trim


def test_pressure_with_blank_trimming_values():
    assert bme280.pressure(400000, 128422, (0,) * 18) == 0


def test_a_measurement():
    driver, bus = sensor(Chip())
    assert measure(driver) == [2508, 10065325, 5766]
    assert bytes(driver.reasons) == b"\0\0\0"
    writes = [(register, value) for what, register, value in bus.log if what == "write"]
    # Reset; then config and ctrl_hum before ctrl_meas, which makes ctrl_hum take effect.
    assert writes == [(0xE0, 0xB6), (0xF5, 0x00), (0xF2, 0x01), (0xF4, 0x25)]
    assert ("read", 0xF7, 8) in bus.log


def test_the_next_measurement_needs_one_write():
    driver, bus = sensor(Chip())
    measure(driver)
    bus.log.clear()
    measure(driver)
    assert [entry[:2] for entry in bus.log] == [("write", 0xF4), ("read", 0xF2), ("read", 0xF7)]


def test_waits_for_the_longest_measuring_time():
    driver, _ = sensor(Chip())
    # 1.25 + 2.3 + (2.3 + 0.575) + (2.3 + 0.575) = 9.3 ms, and the doubt of a millisecond counter
    assert driver.start() == 11


def test_channels():
    driver, _ = sensor(Chip())
    assert [channel[:3] for channel in driver.channels] == [
        ("temperature", "Cel", 2),
        ("pressure", "Pa", 2),
        ("humidity", "%RH", 2),
    ]


def test_a_bmp280_is_the_wrong_chip():
    driver, bus = sensor(Chip(chip_id=0x58))
    assert failure(driver.start) == WRONG_CHIP
    assert all(what == "read" for what, _, _ in bus.log)


def test_waits_for_the_trimming_values():
    chip = Chip()
    driver, _ = sensor(chip)
    chip.updating = 3
    assert measure(driver)[0] == 2508
    chip.updating = 1000
    driver, _ = sensor(chip)
    assert failure(driver.start) == NOT_READY


def test_no_chip():
    driver, bus = sensor(Chip())
    del bus.chips[0x76]
    try:
        driver.start()
    except OSError as e:
        assert e.errno == errno.ENODEV
    else:
        raise AssertionError("a chip that is not there has answered")


def test_still_measuring():
    chip = Chip()
    driver, _ = sensor(chip)
    chip.slow = True
    driver.start()
    try:
        driver.read([0, 0, 0])
    except SensorError as e:
        assert e.args == (NOT_READY, "still measuring")
    else:
        raise AssertionError("read during a measurement")


def test_never_measured():
    chip = Chip()
    driver, _ = sensor(chip)
    driver.start()
    chip.registers[0xF7:0xFF] = b"\x80\0\0\x80\0\0\x80\0"
    assert failure(driver.read, [0, 0, 0]) == NOT_READY


def test_half_of_the_range_is_a_value_like_any_other():
    # 0x80000 is what a skipped temperature reads, and about 26 °C.
    driver, _ = sensor(Chip(adc=(0x80000, EXAMPLE_P, 0x8000)))
    temperature, pressure, humidity = measure(driver)
    assert 2600 < temperature < 2700 and pressure > 0 and humidity > 0
    assert bytes(driver.reasons) == b"\0\0\0"


def test_power_lost_between_measurements():
    chip = Chip()
    driver, _ = sensor(chip)
    measure(driver)
    chip.power_on()
    driver.start()
    # Temperature and pressure were measured, humidity was skipped.
    assert failure(driver.read, [0, 0, 0]) == NOT_READY
    assert measure(driver) == [2508, 10065325, 5766]
    assert chip.resets == 2


def test_another_chip_is_set_up_anew():
    driver, bus = sensor(Chip())
    measure(driver)
    trim, adc, (_, temperature, pressure, humidity) = COMPUTED_IN_C[2]
    del bus.chips[0x76]
    try:
        driver.start()
    except OSError:
        pass
    bus.chips[0x76] = Chip(trim, adc)
    out = measure(driver)
    assert out[0] == temperature
    assert out[1] == round(pressure / 256 * 100)
    assert out[2] == round(humidity / 1024 * 100)


def test_pressure_out_of_range():
    driver, _ = sensor(Chip(adc=(EXAMPLE_T, 900000, 30000)))
    out = measure(driver)
    assert out[1] < 3000000
    assert bytes(driver.reasons) == bytes((0, OUT_OF_RANGE, 0))


def test_temperature_out_of_range_spoils_all():
    driver, _ = sensor(Chip(adc=(800000, EXAMPLE_P, 30000)))
    out = measure(driver)
    assert out[0] > 8500
    assert bytes(driver.reasons) == bytes((OUT_OF_RANGE,) * 3)
    # and the next one in the range is good again
    driver._bus.chips[0x76].adc = (EXAMPLE_T, EXAMPLE_P, 30000)
    assert measure(driver)[0] == 2508
    assert bytes(driver.reasons) == b"\0\0\0"


def test_two_chips_on_one_bus():
    machine = board()
    one = make(SPEC)
    two = make(dict(SPEC, address=0x77))
    assert len(machine.buses) == 1
    assert machine.buses[0].pins == (22, 21)
    trim, adc, (_, temperature, _, _) = COMPUTED_IN_C[0]
    machine.buses[0].chips = {0x76: Chip(), 0x77: Chip(trim, adc)}
    one.start()
    two.start()
    out = [0, 0, 0]
    one.read(out)
    assert out[0] == 2508
    two.read(out)
    assert out[0] == temperature


def test_each_pair_of_pins_has_its_bus():
    machine = board(controllers=1)
    make(SPEC)
    make(dict(SPEC, scl=18, sda=19))
    make(SPEC)
    assert [(bus.opened, bus.pins) for bus in machine.buses] == [(0, (22, 21)), ("soft", (18, 19))]


def test_unknown_kind():
    for kind in ("thermometer", "i2c"):
        try:
            make({"kind": kind})
        except ValueError as e:
            assert kind in str(e)
        else:
            raise AssertionError("a driver of kind " + kind)
