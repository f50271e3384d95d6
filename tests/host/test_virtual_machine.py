"""machine, time, onewire and ds18x20 of the virtual board, as MicroPython's ESP32 port has them."""

import calendar
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host_tools.virtual import adc
from host_tools.virtual.bench import Bench
from host_tools.virtual.parts.bme280 import BME280
from host_tools.virtual.parts.ds18b20 import DS18B20, rom_code
from host_tools.virtual.radio import AccessPoint
from host_tools.virtual.stimulus import constant
from host_tools.virtual.world import I2CBus, OneWireBus, World
from tests.host.virtual_rig import MAC, Rig, compose

PROBES = sorted(rom_code(serial) for serial in (1, 2, 0x8000_0000_0001, 0xABCDEF))
HELPERS = """
import machine, time, struct
from machine import Pin, ADC, I2C, SoftI2C, RTC, WDT
def error(call, *args, **words):
    try:
        return call(*args, **words)
    except Exception as e:
        return (type(e).__name__,) + e.args
"""


class Volts:
    """A voltage that tests set."""

    uv = 0

    def microvolts(self) -> int:
        return self.uv


class Eeprom:
    """An I2C part with an 8-bit register pointer, or a 16-bit one."""

    stuck = False
    deaf = False

    def __init__(self, address: int, width: int = 1) -> None:
        self.address = address
        self.width = width
        self.cells = bytearray(range(256))
        self.at = 0

    def write(self, data: bytes) -> bool:
        if data:
            self.at = int.from_bytes(data[: self.width], "big")
            self.cells[self.at : self.at + len(data) - self.width] = data[self.width :]
        return not self.deaf

    def read(self, n: int) -> bytes:
        return bytes(self.cells[self.at : self.at + n])


def make_world() -> World:
    now = time.monotonic
    return World(
        i2c={
            (22, 21): I2CBus([BME280(now, constant(20.0), constant(1e5), constant(50.0)), Eeprom(0x50)]),
            (19, 18): I2CBus([Eeprom(0x50), Eeprom(0x57, 2)]),
        },
        onewire={4: OneWireBus([DS18B20(now, constant(20.0 + i), rom=r) for i, r in enumerate(PROBES)])},
        analog={34: Volts(), 25: Volts()},
        inputs={35: lambda: 1, 13: lambda: 0},
        access_points=[AccessPoint("air")],
    )


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench() as bench:
        yield bench


@pytest.fixture(scope="module")
def rig(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """For tests that leave it running, with HELPERS in its memory."""
    rig = Rig(bench, tmp_path_factory.mktemp("machine") / "flash.bin", world=make_world())
    rig.says(">>> ")
    rig.run(HELPERS)
    return rig


@pytest.fixture
def other(bench: Bench, tmp_path: Path) -> Rig:
    """For tests that reset it."""
    main = b"import machine\nprint('cause', machine.reset_cause(), bytes(machine.RTC().memory()))\n"
    rig = Rig(bench, tmp_path / "flash.bin", compose({"main.py": main}), world=make_world())
    rig.says("cause 1 b''\n")
    return rig


# Resets


@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "try:\n    {}\nfinally:\n    print('never')",
        "try:\n    {}\nexcept BaseException:\n    print('never')",
    ],
)
def test_reset_never_returns(other: Rig, around: str) -> None:
    first = other.pid
    since = other.last_words("import machine\n" + around.format("machine.reset()") + "\nprint('never')")
    other.says("cause 2 b''\n", since)
    assert "rst:0xc (SW_CPU_RESET)" in other.log[since:]
    assert "never" not in other.log[since:]
    assert other.pid != first


def test_soft_reset(other: Rig) -> None:
    with other.terminal() as terminal:
        terminal.prompt()
        terminal.send(b"import machine; machine.RTC().memory(b'kept'); machine.soft_reset()\r")
        other.says("MPY: soft reboot\ncause 5 b'kept'\n")


def test_a_power_cycle_forgets_memory_and_clock(other: Rig) -> None:
    other.run(
        "import machine\nmachine.RTC().memory(b'x')\nmachine.RTC().datetime((2026, 11, 22, 0, 1, 2, 3, 0))"
    )
    since = other.last_words("machine.reset()")
    other.says("cause 2 b'x'\n", since)
    assert other.eval("__import__('time').gmtime()[:3]") == (2026, 11, 22)
    since = len(other.log)
    other.power_off()
    other.power_on()
    other.says("cause 1 b''\n", since)
    assert other.eval("__import__('time').gmtime()[:3]") == (2000, 1, 1)


def test_deep_sleep_keeps_memory_and_clock_but_no_ram(other: Rig) -> None:
    other.run("import machine\nram = 1\nmachine.RTC().memory(bytes(range(256)) * 8)")
    other.run("machine.RTC().datetime((2026, 11, 22, 6, 1, 2, 3, 0))")
    since = other.last_words("print('good night')\nmachine.deepsleep(700)")
    other.says("good night", since)
    other.says("rst:0x5 (DEEPSLEEP_RESET)", since)
    other.says("cause 4", since)
    assert "cause 4 " + repr(bytes(range(256)) * 8).replace('"', "'")[:20] in other.log[since:]
    assert other.eval("__import__('machine').RTC().memory() == bytes(range(256)) * 8") is True
    assert other.eval("__import__('time').gmtime()[:4]") == (2026, 11, 22, 1)
    assert other.eval("(__import__('machine').wake_reason(), 'ram' in globals())") == (4, False)


def test_a_sleeping_board_is_silent_and_the_reset_button_wakes_it(other: Rig) -> None:
    since = other.last_words("import machine\nmachine.deepsleep()")
    deadline = time.monotonic() + 20
    while other.board.pid is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    other.says("\x04", since)  # its last byte: that the code arrived
    asleep = len(other.log)
    with other.terminal() as terminal:
        terminal.send(b"\x03\r\n1+1\r\n")
        time.sleep(0.3)
        assert len(other.log) == asleep
    other.bench.run(other.board.reset())
    other.says("cause 1 b''\n", since)


def test_rtc_memory_has_2048_bytes(rig: Rig) -> None:
    assert rig.eval("error(RTC().memory, bytes(2049))") == ("ValueError", "buffer too long")
    assert rig.eval("RTC().memory(bytearray(b'ab')), RTC().memory()") == (None, b"ab")


# The watchdog


@pytest.mark.parametrize("code", ["while True: pass", "import time\nwhile True: time.sleep_ms(10)"])
def test_an_unfed_watchdog_bites(other: Rig, code: str) -> None:
    since = other.last_words(f"import machine\nw = machine.WDT(timeout=300)\n{code}")
    other.says("cause 3 b''\n", since)
    assert "rst:0x8 (TG1WDT_SYS_RESET)" in other.log[since:]
    time.sleep(0.7)  # it is gone with the reset
    assert other.log[since:].count("cause 3") == 1


def test_a_fed_watchdog_does_not_bite_and_outlives_a_soft_reset(other: Rig) -> None:
    since = len(other.log)
    feed = "for i in range(30):\n    time.sleep_ms(100)\n    w.feed()"
    other.run("import machine, time\nw = machine.WDT(0, 1500)\n" + feed)
    assert "cause 3" not in other.log[since:]
    with other.raw_repl(soft_reset=True):
        other.says("soft reboot", since)
    other.says("cause 3 b''\n", since)


def test_watchdog_arguments(rig: Rig) -> None:
    assert rig.eval("error(WDT, 1)") == ("ValueError", "WDT(1) doesn't exist")
    assert rig.eval("error(WDT, timeout=0)") == ("ValueError", "WDT timeout too short")


# The clock


def test_an_unset_clock_counts_from_2000(rig: Rig) -> None:
    assert rig.eval("time.gmtime(0)") == (2000, 1, 1, 0, 0, 0, 5, 1)
    assert rig.eval("isinstance(time.time(), int) and time.time() < 3600") is True
    assert rig.eval("time.localtime()[0], time.gmtime()[0]") == (2000, 2000)


@pytest.mark.parametrize(
    "moment", ["2000-03-01 00:00:00", "2024-02-29 23:59:59", "2026-11-22 12:34:56", "2068-12-31 01:02:03"]
)
def test_mktime_and_gmtime(rig: Rig, moment: str) -> None:
    fields = time.strptime(moment, "%Y-%m-%d %H:%M:%S")
    seconds = calendar.timegm(fields) - 946684800
    assert rig.eval(f"time.mktime({(*fields[:6], 0, 0)})") == seconds
    assert rig.eval(f"time.gmtime({seconds})") == (*fields[:6], fields.tm_wday, fields.tm_yday)


def test_mktime_takes_fields_out_of_range(rig: Rig) -> None:
    assert rig.eval("time.gmtime(time.mktime((2026, 14, 1, 25, 61, 61, 0, 0)))[:6]") == (2027, 2, 2, 2, 2, 1)
    assert rig.eval("time.gmtime(time.mktime((2026, 0, 1, 0, 0, 0, 0, 0)))[:3]") == (2025, 12, 1)


def test_the_rtc_is_set_and_read(rig: Rig) -> None:
    rig.run("r = RTC()\nr.datetime((2026, 11, 22, 0, 14, 30, 0, 0))")
    fields = rig.eval("r.datetime()")
    assert (fields[:5], len(fields)) == ((2026, 11, 22, 6, 14), 8)
    assert rig.eval("time.gmtime()[:5]") == (2026, 11, 22, 14, 30)
    assert rig.eval("time.time_ns() // 10**9 - time.time() in (0, 1)") is True


# Identity and speed


def test_unique_id_and_frequency(rig: Rig) -> None:
    assert rig.eval("machine.unique_id()") == MAC
    assert rig.eval("machine.freq()") == 160000000
    assert rig.eval("machine.freq(240000000), machine.freq()") == (None, 240000000)
    assert rig.eval("error(machine.freq, 1)")[0] == "ValueError"
    names = ["PWRON_RESET", "HARD_RESET", "WDT_RESET", "DEEPSLEEP_RESET", "SOFT_RESET"]
    assert rig.eval(f"[getattr(machine, n) for n in {names}]") == [1, 2, 3, 4, 5]


# Pins


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("Pin(14, Pin.IN).value()", 0),
        ("Pin(14, Pin.IN, Pin.PULL_UP).value()", 1),
        ("Pin(14, Pin.IN, Pin.PULL_DOWN).value()", 0),
        ("Pin(14, Pin.IN, Pin.PULL_UP).init(pull=None), Pin(14).value()", (None, 0)),
        ("Pin(13, Pin.IN, Pin.PULL_UP)()", 0),  # driven low from outside
        ("Pin(35, Pin.IN)()", 1),  # driven high from outside
        ("Pin(36, Pin.IN, Pin.PULL_UP)()", 0),  # it has no pull-up
        ("Pin(26, Pin.OUT, value=1)()", 1),
        (
            "Pin(26, Pin.OUT).off(), Pin(26)(), Pin(26).on(), Pin(26).value(), Pin(26).value(0), Pin(26)()",
            (None, 0, None, 1, None, 0),
        ),
        ("Pin(27, Pin.OPEN_DRAIN, Pin.PULL_UP, value=1)(), Pin(27)(0), Pin(27)()", (1, None, 0)),
        ("Pin(13, Pin.OPEN_DRAIN, value=1)()", 0),
        ("Pin(4) is Pin(Pin(4)), Pin(4) == Pin(5), repr(Pin(4))", (True, False, "Pin(4)")),
        ("error(Pin, 24)", ("ValueError", "invalid pin")),
        ("error(Pin, 6)", ("ValueError", "invalid pin")),
        ("error(Pin, 99)", ("ValueError", "invalid pin")),
        ("error(Pin, 34, Pin.OUT)", ("ValueError", "pin can only be input")),
        ("error(Pin, 39, Pin.OPEN_DRAIN)", ("ValueError", "pin can only be input")),
        ("Pin.IN, Pin.OUT, Pin.OPEN_DRAIN, Pin.PULL_DOWN, Pin.PULL_UP", (1, 3, 7, 1, 2)),
    ],
)
def test_pin(rig: Rig, code: str, answer: object) -> None:
    assert rig.eval(code) == answer


def test_pins_are_seen_from_outside(rig: Rig) -> None:
    rig.run("Pin(23, Pin.OUT, value=1)")
    assert rig.inside(lambda: rig.board.peripherals.pins[23].level) == 1


# The converter


def read_adc(rig: Rig, attenuation: str, microvolts: int) -> tuple[int, int, int]:
    source: Any = rig.world.analog[34]
    source.uv = microvolts
    rig.run(f"a = ADC(Pin(34), atten=ADC.{attenuation})")
    return tuple(rig.eval("(a.read(), a.read_u16(), a.read_uv())"))


@pytest.mark.parametrize(
    ("attenuation", "low", "high"),
    [
        ("ATTN_0DB", 75_000, 1_100_000),
        ("ATTN_2_5DB", 78_000, 1_480_000),
        ("ATTN_6DB", 96_000, 2_090_000),
        ("ATTN_11DB", 142_000, 3_150_000),
    ],
)
def test_adc_range(rig: Rig, attenuation: str, low: int, high: int) -> None:
    middle = (low + high) // 2
    raw, u16, uv = read_adc(rig, attenuation, middle)
    assert abs(raw - 2048) <= 1
    assert u16 == raw << 4 | raw >> 8
    assert abs(uv - middle) <= 1000
    assert uv % 1000 == 0
    assert read_adc(rig, attenuation, high + 200_000) == (4095, 65535, high)
    assert read_adc(rig, attenuation, 0) == (0, 0, low)  # the dead zone
    assert read_adc(rig, attenuation, low - 20_000) == (0, 0, low)


def test_adc_is_monotonic() -> None:
    for attenuation in range(4):
        answers = [adc.convert(uv, attenuation) for uv in range(0, 3_400_000, 1000)]
        assert answers == sorted(answers)


def test_adc_errors(rig: Rig) -> None:
    assert rig.eval("error(ADC, Pin(21))") == ("ValueError", "invalid pin")
    assert rig.eval("error(ADC, 34, atten=4)") == ("ValueError", "invalid atten")
    assert rig.eval("ADC(36).read()") == 0  # nothing is wired to it
    assert rig.eval("ADC.ATTN_0DB, ADC.ATTN_2_5DB, ADC.ATTN_6DB, ADC.ATTN_11DB") == (0, 1, 2, 3)


def test_adc2_is_not_to_be_had_while_wifi_is_on(rig: Rig) -> None:
    rig.run("import network\nw = network.WLAN(network.WLAN.IF_STA)\nw.active(True)")
    try:
        assert rig.eval("error(ADC(25).read)") == ("OSError", 110)
        assert rig.eval("ADC(34).read() >= 0") is True
    finally:
        rig.run("w.active(False)")
    assert rig.eval("ADC(25).read()") == 0


# I2C


def test_i2c_scan_and_transfers(rig: Rig) -> None:
    rig.run("b = I2C(0, scl=Pin(22), sda=Pin(21), freq=400000)")
    assert rig.eval("b.scan()") == [0x50, 0x76]
    assert rig.eval("b.readfrom_mem(0x76, 0xD0, 1)") == b"\x60"
    assert rig.eval("b.writeto_mem(0x50, 0x10, b'abc'), b.readfrom_mem(0x50, 0x0f, 5)") == (
        None,
        b"\x0fabc\x13",
    )
    rig.run("buf = bytearray(3)\nb.readfrom_mem_into(0x50, 0x10, buf)")
    assert rig.eval("bytes(buf)") == b"abc"
    assert rig.eval("b.writeto(0x50, b'\\x11'), b.readfrom(0x50, 2)") == (1, b"bc")
    assert rig.eval("b.writevto(0x50, [b'\\x20', b'xy']), b.readfrom_mem(0x50, 0x20, 2)") == (3, b"xy")
    rig.run("m = memoryview(bytearray(4))\nb.writeto(0x50, b'\\x20')\nb.readfrom_into(0x50, m[1:3])")
    assert rig.eval("bytes(m)") == b"\0xy\0"


def test_i2c_second_bus_and_soft_i2c(rig: Rig) -> None:
    rig.run(
        "b = I2C(1, scl=Pin(19), sda=Pin(18))\ns = SoftI2C(Pin(22), Pin(21))\n"
        "w = I2C(0, scl=Pin(21), sda=Pin(22))"
    )
    assert rig.eval("b.scan(), s.scan(), w.scan()") == ([0x50, 0x57], [0x50, 0x76], [])
    assert rig.eval("b.readfrom_mem(0x57, 0x0102, 1, addrsize=16)") == b""  # beyond its cells
    assert rig.eval("b.readfrom_mem(0x57, 0x0042, 2, addrsize=16)") == b"BC"
    assert rig.eval("error(I2C, 2)") == ("ValueError", "I2C(2) doesn't exist")
    assert rig.eval("error(I2C, 0, scl=Pin(34), sda=Pin(21))") == ("ValueError", "pin can only be input")


def test_i2c_without_acknowledge_and_with_a_stuck_bus(rig: Rig) -> None:
    rig.run("b = I2C(0, scl=Pin(22), sda=Pin(21))")
    assert rig.eval("error(b.readfrom, 0x33, 1)") == ("OSError", 19)
    assert rig.eval("error(b.writeto_mem, 0x33, 0, b'x')") == ("OSError", 19)
    bus = rig.world.i2c[22, 21]
    bus.stuck = True
    assert rig.eval("error(b.readfrom_mem, 0x76, 0xD0, 1), b.scan()") == (("OSError", 110), [])
    bus.stuck = False
    assert rig.eval("b.readfrom_mem(0x76, 0xD0, 1)") == b"\x60"


# 1-Wire


def test_onewire_finds_every_probe(rig: Rig) -> None:
    rig.run("import onewire, ds18x20\no = onewire.OneWire(Pin(4))\nd = ds18x20.DS18X20(o)")
    assert sorted(rig.eval("[bytes(r) for r in o.scan()]")) == PROBES
    assert sorted(rig.eval("[bytes(r) for r in d.scan()]")) == PROBES
    assert rig.eval("[o.crc8(r) for r in o.scan()]") == [0] * 4
    assert rig.eval("o.crc8(b'123456789')") == 0xA1  # the check value of CRC-8/MAXIM-DOW


def test_ds18x20_reads_each_probe(rig: Rig) -> None:
    rig.run("d.convert_temp()\ntime.sleep_ms(800)")
    for index, rom in enumerate(PROBES):
        assert rig.eval(f"d.read_temp({rom!r})") == 20.0 + index
        assert rig.eval(f"len(d.read_scratch({rom!r})), o.crc8(d.read_scratch({rom!r}))") == (9, 0)


def test_an_empty_bus(rig: Rig) -> None:
    rig.run("import onewire\ne = onewire.OneWire(Pin(5))")
    assert rig.eval("e.reset(), e.scan(), e.readbyte()") == (False, [], 255)
    assert rig.eval("error(e.reset, True)") == ("OneWireError",)
