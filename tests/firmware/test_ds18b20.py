"""The DS18B20 driver, and the virtual board's onewire modules below it, against probes that know slots."""

import _onewire
import onewire
from limpet.reading import (
    BUS_TIMEOUT,
    CRC,
    FAULT,
    OUT_OF_RANGE,
    POWER_ON_VALUE,
    VANISHED,
    WRONG_CHIP,
    SensorError,
)
from limpet.sensors import ds18b20, make


def rom(serial, family=0x28):
    body = bytes((family,)) + serial.to_bytes(6, "little")
    return body + bytes((_onewire.crc8(body),))


class Probe:
    """A DS18B20 that converts at once. `raw` is what it measures."""

    def __init__(self, code, raw):
        self.rom = code
        self.raw = raw
        self.converts = True
        self.flip = 0
        self.power_on()

    def power_on(self):
        self.pad = bytearray(b"\x50\x05\x4b\x46\x7f\xff\x0c\x10")
        self.talk = None

    def reset(self):
        self.talk = self.conversation()
        self.level = next(self.talk)
        return True

    def slot(self, bit):
        if self.talk is None:
            return 1
        level = self.level
        try:
            self.level = self.talk.send(bit)
        except StopIteration:
            self.talk = None
        return level

    def hear(self, bits):
        number = 0
        for i in range(bits):
            number |= (yield 1) << i
        return number

    def conversation(self):
        command = yield from self.hear(8)
        if command == 0x55:
            if (yield from self.hear(64)) != int.from_bytes(self.rom, "little"):
                return
        elif command == 0xF0:
            for i in range(64):
                bit = self.rom[i >> 3] >> (i & 7) & 1
                yield bit
                yield 1 - bit
                if (yield 1) != bit:
                    return
        else:
            return
        command = yield from self.hear(8)
        if command == 0x44 and self.converts:
            self.pad[0:2] = (self.raw & 0xFFFF).to_bytes(2, "little")
            self.pad[6] = 0x10 - (self.raw & 0xF)
        elif command == 0x4E:
            for i in (2, 3, 4):
                self.pad[i] = yield from self.hear(8)
        elif command == 0xBE:
            sent = bytearray(self.pad)
            sent.append(_onewire.crc8(sent))
            sent[0] ^= self.flip
            for byte in sent:
                for i in range(8):
                    yield byte >> i & 1


class Host:
    """In the place of the supervisor: the probes on GPIO 4."""

    def __init__(self, *probes):
        self.probes = list(probes)
        self.held_low = False
        self.resets = 0

    def call(self, operation, payload):
        assert operation == b"o"
        gpio, kind, value = payload
        assert gpio == 4
        return bytes((self.answer(kind, value),))

    def answer(self, kind, value):
        if kind == 0:
            self.resets += 1
            present = [probe.reset() for probe in self.probes]
            return int(self.held_low or any(present))
        if kind == 1:
            return self.slot(1)
        if kind == 2:
            return sum(self.slot(1) << i for i in range(8))
        if kind == 3:
            return self.slot(value) * 0
        return sum(self.slot(value >> i & 1) for i in range(8)) * 0

    def slot(self, bit):
        levels = [probe.slot(bit) for probe in self.probes]
        return 0 if self.held_low else min([1] + levels)


class Pin:
    OPEN_DRAIN = 7
    PULL_UP = 2

    def __init__(self, gpio):
        self.gpio = gpio

    def init(self, mode, pull):
        assert (mode, pull) == (self.OPEN_DRAIN, self.PULL_UP)


class Machine:
    Pin = Pin


def sensor(*probes, **settings):
    ds18b20.machine = Machine
    _onewire._host = Host(*probes)
    return make(dict({"kind": "ds18b20", "name": "probe", "pin": 4}, **settings))


def measure(driver):
    assert driver.start() >= 750
    out = [None]
    driver.read(out)
    return out[0]


def failure(function, *args):
    try:
        function(*args)
    except SensorError as e:
        return e.args[0]
    return None


def test_values_of_the_datasheet():
    # Table 1 of the datasheet
    for raw, expected in (
        (0x07D0, 1250000),
        (0x0550, 850000),
        (0x0191, 250625),
        (0x00A2, 101250),
        (0x0008, 5000),
        (0x0000, 0),
        (0xFFF8, -5000),
        (0xFF5E, -101250),
        (0xFE6F, -250625),
        (0xFC90, -550000),
    ):
        assert ds18b20.value(bytes((raw & 0xFF, raw >> 8))) == expected


def test_a_measurement():
    driver = sensor(Probe(rom(1), 0x0191))
    assert driver.start() == 751
    out = [None]
    driver.read(out)
    assert out == [250625]
    assert driver.reasons[0] == 0
    assert driver.channels == (("temperature", "Cel", 4, -550000, 1250000),)


def test_the_next_measurement_sets_nothing_up():
    driver = sensor(Probe(rom(1), 0x0191))
    measure(driver)
    _onewire._host.resets = 0
    measure(driver)
    # reset and select for each of the two commands
    assert _onewire._host.resets == 4


def test_real_85_degrees():
    assert measure(sensor(Probe(rom(1), 0x0550))) == 850000


def test_power_on_value():
    probe = Probe(rom(1), 0x0191)
    driver = sensor(probe)
    measure(driver)
    driver.start()
    probe.power_on()
    assert failure(driver.read, [0]) == POWER_ON_VALUE
    assert measure(driver) == 250625


def test_settings_lost_though_the_value_looks_right():
    # Clones come up with 25 °C.
    probe = Probe(rom(1), 0x0191)
    driver = sensor(probe)
    driver.start()
    probe.power_on()
    probe.pad[0:2] = b"\x90\x01"
    assert failure(driver.read, [0]) == POWER_ON_VALUE


def test_set_up_but_not_converted():
    probe = Probe(rom(1), 0x0191)
    probe.converts = False
    driver = sensor(probe)
    driver.start()
    assert failure(driver.read, [0]) == POWER_ON_VALUE


def test_crc_error():
    probe = Probe(rom(1), 0x0191)
    driver = sensor(probe)
    probe.flip = 0x04
    driver.start()
    assert failure(driver.read, [0]) == CRC
    probe.flip = 0
    assert measure(driver) == 250625


def test_no_probe():
    assert failure(sensor().start) == VANISHED


def test_the_only_probe_vanishes():
    driver = sensor(Probe(rom(1), 0x0191))
    driver.start()
    _onewire._host.probes.clear()
    assert failure(driver.read, [0]) == VANISHED
    # another one in its place
    _onewire._host.probes.append(Probe(rom(2), 0x00A2))
    assert measure(driver) == 101250


def test_one_of_two_probes_vanishes():
    driver = sensor(Probe(rom(1), 0x0191), Probe(rom(2), 0), rom=rom(1).hex())
    driver.start()
    _onewire._host.probes.pop(0)
    assert failure(driver.read, [0]) == VANISHED


def test_line_held_low_at_the_start():
    driver = sensor(Probe(rom(1), 0x0191))
    _onewire._host.held_low = True
    assert failure(driver.start) == BUS_TIMEOUT
    assert _onewire._host.resets == 1  # no search on such a line


def test_zeros_have_a_valid_crc_and_are_refused():
    driver = sensor(Probe(rom(1), 0x0191))
    driver.start()
    _onewire._host.held_low = True
    assert _onewire.crc8(bytes(9)) == 0
    assert failure(driver.read, [0]) == BUS_TIMEOUT


def test_several_probes_by_rom():
    probes = [
        Probe(rom(serial), raw)
        for serial, raw in ((1, 0x0191), (0xFFFFFFFFFFFF, 0x00A2), (0x100000000001, 0xFFF8))
    ]
    host = None
    drivers = []
    for probe in probes:
        drivers.append(sensor(*probes, rom=probe.rom.hex()))
        host = host or _onewire._host
    _onewire._host = host
    for driver in drivers:
        driver.start()
    out = [None]
    values = []
    for driver in drivers:
        driver.read(out)
        values.append(out[0])
    assert values == [250625, 101250, -5000]


def test_several_probes_need_a_rom():
    driver = sensor(Probe(rom(1), 0x0191), Probe(rom(2), 0))
    try:
        driver.start()
    except SensorError as e:
        assert e.args[0] == FAULT
        assert rom(1).hex() in str(e) and rom(2).hex() in str(e)
    else:
        raise AssertionError("one of two probes was taken")


def test_other_families():
    assert failure(sensor(Probe(rom(1, 0x10), 0)).start) == WRONG_CHIP
    assert failure(sensor(Probe(rom(1, 0x01), 0)).start) == WRONG_CHIP
    assert measure(sensor(Probe(rom(1, 0x22), 0x0191))) == 250625


def test_rom_with_a_wrong_crc():
    assert failure(sensor(Probe(rom(1), 0), rom="2801000000000000").start) == CRC


def test_out_of_range():
    # 0x07FF is also what a probe gives whose supply broke down during the conversion.
    driver = sensor(Probe(rom(1), 0x07FF))
    measure(driver)
    assert driver.reasons[0] == OUT_OF_RANGE
    _onewire._host.probes[0].raw = 0x07D0
    assert measure(driver) == 1250000
    assert driver.reasons[0] == 0


def test_a_probe_of_another_resolution_is_set_to_12_bits():
    probe = Probe(rom(1), 0x0191)
    probe.pad[4] = 0x1F
    assert measure(sensor(probe)) == 250625
    assert probe.pad[4] == 0x7F


def test_scan_finds_every_rom():
    codes = [
        rom(serial) for serial in (0, 1, 2, 3, 0x800000000000, 0x7FFFFFFFFFFF, 0x555555555555, 0xAAAAAAAAAAAA)
    ]
    _onewire._host = Host(*[Probe(code, 0) for code in codes])
    found = onewire.OneWire(Pin(4)).scan()
    assert sorted(bytes(code) for code in found) == sorted(codes)
    _onewire._host = Host()
    assert onewire.OneWire(Pin(4)).scan() == []


def test_onewire_needs_presence_when_asked():
    _onewire._host = Host()
    bus = onewire.OneWire(Pin(4))
    assert bus.reset() is False
    try:
        bus.reset(True)
    except onewire.OneWireError:
        pass
    else:
        raise AssertionError("presence on an empty bus")


def test_crc_of_the_datasheet():
    # Maxim application note 27, figure 6: the ROM code 02 1C B8 01 00 00 00, its CRC A2
    assert _onewire.crc8(b"\x02\x1c\xb8\x01\x00\x00\x00") == 0xA2
