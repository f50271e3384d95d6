"""A Maxim DS18B20 on a 1-Wire bus, after its datasheet 19-7487, revision 6.

What it models, slot by slot: presence, the ROM commands (search, read, match, skip, alarm search), convert T
with its longest time, read, write and copy scratchpad, recall E², read power supply; the CRC bytes; the
scratchpad at power-on, and reserved byte 6 as real chips fill it (0x0C at power-on, then 0x10 less the low
four bits of the value; seen by the authors of cpetrich/counterfeit_DS18B20). Bits below the
resolution are undefined in the datasheet: they are ones here, so that trusting them shows.

What it leaves out: parasite power, overdrive, the width and timing of slots, noise, self-heating, the wear of
the EEPROM, and the undocumented commands. Beyond its range (-55 to 125 °C) it goes on counting, to -128 and
127.9375 °C.
"""

from collections.abc import Callable, Generator

from host_tools.crc8 import crc8
from host_tools.virtual.parts import Now, known_fault
from host_tools.virtual.stimulus import Stimulus

FAMILY = 0x28

_SEARCH, _ALARM_SEARCH, _READ_ROM, _MATCH, _SKIP = 0xF0, 0xEC, 0x33, 0x55, 0xCC
_CONVERT, _WRITE, _READ, _COPY, _RECALL, _POWER = 0x44, 0x4E, 0xBE, 0x48, 0xB8, 0xB4

_COPY_TIME = 0.010

_Conversation = Generator[int | None, int, None]
"""Gives what the probe does in a slot (0: pull low, None: pull low while busy), takes the master's bit."""

FAULTS = ("crc", "vanished", "brown-out", "stuck")
"""
crc        a bit of every scratchpad that it sends is flipped
vanished   is off the bus, but keeps its power
brown-out  loses power for a moment during every conversion: the power-on value is read
stuck      holds the line low
"""


def rom_code(serial: int) -> bytes:
    """The ROM code of a DS18B20 with this serial number (48 bits): family, serial, CRC."""
    body = bytes((FAMILY,)) + serial.to_bytes(6, "little")
    return body + bytes((crc8(body),))


class DS18B20:
    """One probe. `temperature`, in °C, is a function of the seconds since the probe was made.

    `fault` is one of FAULTS, or None; setting another word raises LimpetError. Raises ValueError for
    a ROM code with a wrong CRC.
    """

    def __init__(self, now: Now, temperature: Stimulus, *, rom: bytes | None = None) -> None:
        self.rom = rom_code(0x0F1E64) if rom is None else rom
        if len(self.rom) != 8 or crc8(self.rom):
            raise ValueError(f"{self.rom.hex()} is not a ROM code: its CRC is wrong")
        self._now = now
        self._made = now()
        self._temperature = temperature
        self._fault: str | None = None
        self._eeprom = bytes((0x4B, 0x46, 0x7F))  # TH, TL, configuration; the maker's
        self._pad = bytearray()
        self._alarm = False
        self._busy_until: float | None = None
        self._on_done: Callable[[float], None] = lambda time: None
        self._conversation: _Conversation | None = None
        self._level: int | None = 1  # what we do in the next slot; None: tell whether we are busy
        self.power_cycle()

    @property
    def fault(self) -> str | None:
        return self._fault

    @fault.setter
    def fault(self, fault: str | None) -> None:
        self._fault = known_fault("DS18B20", fault, FAULTS)

    def power_cycle(self) -> None:
        """Lose power for a moment."""
        self._pad = bytearray((0x50, 0x05, *self._eeprom, 0xFF, 0x0C, 0x10))
        self._alarm = False
        self._busy_until = None
        self._conversation = None

    def reset(self) -> bool:
        if self._fault == "vanished":
            return False
        self._catch_up()
        self._conversation = self._converse()
        self._level = next(self._conversation)
        return True

    def write_bit(self, bit: int) -> None:
        self._slot(bit)

    def read_bit(self) -> int:
        # For the probe a read slot looks like a slot in which a 1 is written.
        return 0 if self._fault == "stuck" else self._slot(1)

    def _slot(self, bit: int) -> int:
        """Take part in one slot in which the master writes `bit`; return 0 to pull the line low."""
        if self._fault in ("vanished", "stuck"):
            return 1
        self._catch_up()
        if self._conversation is None:
            return 1
        level = self._level
        try:
            self._level = self._conversation.send(bit)
        except StopIteration:
            self._conversation = None
        if level is None:
            return 0 if self._busy_until is not None else 1
        return level

    def _converse(self) -> _Conversation:
        """From one reset to the next: a ROM command, then a function command (figures 13 and 14)."""
        command = yield from _hear(8)
        if command == _MATCH:
            if (yield from _hear(64)) != int.from_bytes(self.rom, "little"):
                return
        elif command == _READ_ROM:
            yield from _bits(self.rom)
        elif command == _SEARCH or (command == _ALARM_SEARCH and self._alarm):
            for bit in _bits(self.rom):
                yield bit
                yield 1 - bit
                if (yield 1) != bit:
                    return
        elif command != _SKIP:
            return

        command = yield from _hear(8)
        if command == _CONVERT:
            yield from self._work(self._conversion_time(), self._convert)
        elif command == _COPY:
            yield from self._work(_COPY_TIME, self._copy)
        elif command == _READ:
            yield from _bits(self._sent_scratchpad())
        elif command == _WRITE:
            for place in (2, 3, 4):
                value = yield from _hear(8)
                # The configuration register has two bits of its own (figure 10).
                self._pad[place] = value & 0x60 | 0x1F if place == 4 else value
        elif command == _RECALL:
            self._pad[2:5] = self._eeprom
        elif command == _POWER:
            yield 1  # powered by VDD

    def _work(self, seconds: float, then: Callable[[float], None]) -> _Conversation:
        self._busy_until = self._now() + seconds
        self._on_done = then
        while True:
            yield None

    def _catch_up(self) -> None:
        """Let everything happen that has been due since the last slot."""
        if self._busy_until is not None and self._now() >= self._busy_until:
            end, self._busy_until = self._busy_until, None
            self._on_done(end)

    def _convert(self, time: float) -> None:
        if self._fault == "brown-out":
            self.power_cycle()
            return
        raw = max(-2048, min(2047, round(self._temperature(time - self._made) * 16)))
        raw |= (1 << (12 - self._resolution())) - 1
        self._pad[0:2] = (raw & 0xFFFF).to_bytes(2, "little")
        self._pad[6] = 0x10 - (raw & 0x0F)
        degrees = raw >> 4
        self._alarm = degrees >= _signed(self._pad[2]) or degrees <= _signed(self._pad[3])

    def _copy(self, time: float) -> None:
        self._eeprom = bytes(self._pad[2:5])

    def _resolution(self) -> int:
        return 9 + (self._pad[4] >> 5 & 3)

    def _conversion_time(self) -> float:
        return 0.750 / (1 << (12 - self._resolution()))

    def _sent_scratchpad(self) -> bytes:
        sent = bytes((*self._pad, crc8(bytes(self._pad))))
        return bytes((sent[0] ^ 0x04, *sent[1:])) if self._fault == "crc" else sent


def _hear(bits: int) -> Generator[int | None, int, int]:
    number = 0
    for i in range(bits):
        number |= (yield 1) << i
    return number


def _bits(data: bytes) -> Generator[int, int, None]:
    for byte in data:
        for i in range(8):
            yield byte >> i & 1


def _signed(byte: int) -> int:
    return byte - 256 if byte & 0x80 else byte
