"""The model of the DS18B20, slot by slot, alone and with others on one line."""

import pytest

from host_tools.crc8 import crc8
from host_tools.errors import LimpetError
from host_tools.virtual.parts.ds18b20 import DS18B20, rom_code
from host_tools.virtual.stimulus import Stimulus, constant
from host_tools.virtual.world import OneWireBus

SEARCH, ALARM_SEARCH, READ_ROM, MATCH, SKIP = 0xF0, 0xEC, 0x33, 0x55, 0xCC
CONVERT, WRITE, READ, COPY, RECALL, POWER = 0x44, 0x4E, 0xBE, 0x48, 0xB8, 0xB4

SERIALS = (0xA00000000001, 0x400000000002, 0xE00000000003, 0x800000000004, 5, 0xC00000000006, 0x600000000007)

POWER_ON = bytes.fromhex("50054b467fff0c101c")


class Clock:
    def __init__(self) -> None:
        self.seconds = 500.0

    def __call__(self) -> float:
        return self.seconds


class Bench:
    """Probes on one line; the first is `probe`."""

    def __init__(self, *temperatures: float | Stimulus) -> None:
        self.clock = Clock()
        self.probes = [
            DS18B20(
                self.clock, t if callable(t) else constant(t), rom=rom_code(0xA00000000001 * (i + 1) % 2**48)
            )
            for i, t in enumerate(temperatures)
        ]
        self.probe = self.probes[0]
        self.bus = OneWireBus(list(self.probes))

    def command(self, *words: int) -> None:
        assert self.bus.reset()
        for word in words:
            self.bus.write_byte(word)

    def get(self, n: int) -> bytes:
        return bytes(self.bus.read_byte() for _ in range(n))

    def scratchpad(self, *select: int) -> bytes:
        self.command(*(select or (SKIP,)), READ)
        return self.get(9)

    def convert(self, seconds: float = 0.75) -> None:
        self.command(SKIP, CONVERT)
        self.clock.seconds += seconds

    def search(self, command: int = SEARCH) -> list[bytes]:
        """All ROM codes, depth first."""
        found: list[bytes] = []
        todo = [""]
        while todo:
            path = todo.pop()
            self.command(command)
            for i in range(64):
                pair = (self.bus.read_bit(), self.bus.read_bit())
                if pair == (1, 1):
                    return found
                if i < len(path):
                    bit = int(path[i])
                else:
                    bit = 1 if pair == (1, 0) else 0
                    if pair == (0, 0):
                        todo.append(path + "1")
                    path += str(bit)
                self.bus.write_bit(bit)
            found.append(int(path[::-1], 2).to_bytes(8, "little"))
        return found


def raw(pad: bytes) -> int:
    return int.from_bytes(pad[:2], "little", signed=True)


def test_crc_of_the_application_note() -> None:
    # Maxim AN27: 02 1C B8 01 00 00 00 has the CRC A2.
    assert crc8(bytes.fromhex("021cb801000000")) == 0xA2
    assert crc8(bytes.fromhex("021cb801000000a2")) == 0
    assert crc8(POWER_ON) == 0


def test_power_on_scratchpad() -> None:
    assert Bench(20).scratchpad() == POWER_ON


@pytest.mark.parametrize(
    ("celsius", "expected"),
    [
        (125, 0x07D0),
        (85, 0x0550),
        (25.0625, 0x0191),
        (10.125, 0x00A2),
        (0.5, 0x0008),
        (0, 0x0000),
        (-0.5, 0xFFF8),
        (-10.125, 0xFF5E),
        (-25.0625, 0xFE6F),
        (-55, 0xFC90),
    ],
)
def test_values_of_the_datasheet(celsius: float, expected: int) -> None:
    bench = Bench(celsius)
    bench.convert()
    pad = bench.scratchpad()
    assert raw(pad) & 0xFFFF == expected
    assert crc8(pad) == 0
    assert (pad[0] + pad[6]) & 0xF == 0 and 0 < pad[6] <= 0x10


def test_real_85_degrees_differ_from_power_on() -> None:
    bench = Bench(85)
    bench.convert()
    assert bench.scratchpad()[6] == 0x10


def test_conversion_takes_750_ms_at_12_bits() -> None:
    bench = Bench(25.0625)
    bench.convert(0.749)
    assert bench.bus.read_bit() == 0
    assert bench.scratchpad() == POWER_ON
    bench.clock.seconds += 0.002
    assert raw(bench.scratchpad()) == 0x0191


def test_read_slots_tell_when_the_conversion_is_done() -> None:
    bench = Bench(20)
    bench.command(SKIP, CONVERT)
    assert [bench.bus.read_bit() for _ in range(5)] == [0] * 5
    bench.clock.seconds += 0.75
    assert [bench.bus.read_bit() for _ in range(5)] == [1] * 5


@pytest.mark.parametrize(("bits", "ms"), [(9, 93.75), (10, 187.5), (11, 375), (12, 750)])
def test_resolution(bits: int, ms: float) -> None:
    bench = Bench(25.0625)
    bench.command(SKIP, WRITE, 0x7D, 0xC9, (bits - 9) << 5 | 0x1F)
    bench.convert(ms / 1000 - 0.001)
    assert raw(bench.scratchpad()) == 0x0550
    bench.clock.seconds += 0.002
    pad = bench.scratchpad()
    undefined = (1 << (12 - bits)) - 1
    assert raw(pad) & ~undefined == 0x0191 & ~undefined
    assert pad[2:5] == bytes((0x7D, 0xC9, (bits - 9) << 5 | 0x1F))


def test_temperature_is_that_at_the_end_of_the_conversion() -> None:
    bench = Bench(lambda seconds: 10 * seconds)
    bench.convert(30)
    assert raw(bench.scratchpad()) == 7.5 * 16


def test_settings_last_until_power_is_lost_unless_copied() -> None:
    bench = Bench(20)
    bench.command(SKIP, WRITE, 1, 2, 0x1F)
    bench.probe.power_cycle()
    assert bench.scratchpad() == POWER_ON
    bench.command(SKIP, WRITE, 1, 2, 0x3F)
    bench.command(SKIP, COPY)
    assert bench.bus.read_bit() == 0
    bench.clock.seconds += 0.01
    assert bench.bus.read_bit() == 1
    bench.probe.power_cycle()
    assert bench.scratchpad()[2:5] == bytes((1, 2, 0x3F))
    bench.command(SKIP, WRITE, 3, 4, 0x7F)
    bench.command(SKIP, RECALL)
    assert bench.bus.read_bit() == 1
    assert bench.scratchpad()[2:5] == bytes((1, 2, 0x3F))


def test_configuration_has_two_bits() -> None:
    for written, kept in ((0xFF, 0x7F), (0x00, 0x1F), (0x40, 0x5F)):
        bench = Bench(20)
        bench.command(SKIP, WRITE, 1, 2, written)
        assert bench.scratchpad()[4] == kept


def test_read_rom_and_power_supply() -> None:
    bench = Bench(20)
    bench.command(READ_ROM)
    assert bench.get(8) == bench.probe.rom
    bench.command(SKIP, POWER)
    assert bench.bus.read_bit() == 1


def test_match_rom_chooses_one() -> None:
    bench = Bench(10, 20, 30)
    bench.convert()
    for probe, celsius in zip(bench.probes, (10, 20, 30), strict=True):
        assert raw(bench.scratchpad(MATCH, *probe.rom)) == celsius * 16
    assert bench.scratchpad(MATCH, *rom_code(99)) == b"\xff" * 9


def test_answers_of_several_probes_are_anded() -> None:
    bench = Bench(10, 20)
    bench.convert()
    both = [probe.rom for probe in bench.probes]
    bench.command(READ_ROM)
    assert bench.get(8) == bytes(a & b for a, b in zip(*both, strict=True))


def test_search_finds_every_probe() -> None:
    for n in range(1, 8):
        bench = Bench(*range(n))
        assert sorted(bench.search()) == sorted(probe.rom for probe in bench.probes)


def test_a_probe_that_was_found_takes_a_command() -> None:
    bench = Bench(20)
    assert bench.search() == [bench.probe.rom]
    bench.bus.write_byte(READ)
    assert bench.get(9) == POWER_ON


def test_alarm_search() -> None:
    bench = Bench(10, 50, 90)
    bench.command(SKIP, WRITE, 80, 20, 0x7F)
    assert bench.search(ALARM_SEARCH) == []
    bench.convert()
    assert sorted(bench.search(ALARM_SEARCH)) == sorted((bench.probes[0].rom, bench.probes[2].rom))


def test_silent_after_its_answer_and_after_unknown_words() -> None:
    bench = Bench(20)
    bench.scratchpad()
    assert bench.get(3) == b"\xff" * 3
    for words in ((0x00,), (SKIP, 0x00)):
        bench.command(*words)
        assert bench.get(2) == b"\xff\xff"


def test_crc_fault() -> None:
    bench = Bench(20)
    bench.convert()
    bench.probe.fault = "crc"
    assert crc8(bench.scratchpad()) != 0
    bench.probe.fault = None
    assert crc8(bench.scratchpad()) == 0


def test_vanished() -> None:
    bench = Bench(20, 30)
    bench.convert()
    bench.probe.fault = "vanished"
    assert bench.scratchpad(MATCH, *bench.probe.rom) == b"\xff" * 9
    assert bench.search() == [bench.probes[1].rom]
    bench.probes[1].fault = "vanished"
    assert not bench.bus.reset()
    bench.probe.fault = None
    assert raw(bench.scratchpad(MATCH, *bench.probe.rom)) == 20 * 16


def test_brown_out_gives_the_power_on_value() -> None:
    bench = Bench(20)
    bench.command(SKIP, WRITE, 0x7D, 0xC9, 0x7F)
    bench.convert()
    assert raw(bench.scratchpad()) == 20 * 16
    bench.probe.fault = "brown-out"
    bench.convert()
    assert bench.scratchpad() == POWER_ON


def test_stuck_reads_as_zeros() -> None:
    bench = Bench(20, 30)
    bench.probe.fault = "stuck"
    assert bench.scratchpad() == bytes(9)


def test_unknown_fault_and_bad_rom() -> None:
    bench = Bench(20)
    with pytest.raises(LimpetError, match="crc, vanished"):
        bench.probe.fault = "cold"
    with pytest.raises(ValueError, match="CRC"):
        DS18B20(bench.clock, constant(1), rom=bytes(7) + b"\x01")
