"""Maxim DS18B20 on a 1-Wire bus: temperature.

Section names are those of the datasheet 19-7487, revision 6. The probe needs its own supply on VDD: the stock
`onewire` module cannot drive the bus hard during a conversion, as parasite power wants it.
"""

import ds18x20
import machine
import onewire
from micropython import const

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

_CONVERT = const(0x44)
_READ_SCRATCHPAD = const(0xBE)
_FAMILIES = (0x28, 0x22)  # DS18B20, and DS1822 with the same registers; a DS18S20 (0x10) counts otherwise

# The longest conversion at 12 bits (Electrical Characteristics, t_CONV). One more, because a millisecond
# counter that has moved on by n may have seen a little less than n milliseconds.
_CONVERT_MS = const(751)

# What we write to the probe: 12 bits, and alarm limits by which to know our probe again. They are the ends of
# the range, and not stored in the probe's memory: after a loss of power it has others.
_SETTINGS = b"\x7d\xc9\x7f"  # TH 125 °C, TL -55 °C, configuration

_LOW = const(-550000)
_HIGH = const(1250000)

_POWER_ON_RAW = const(0x0550)
_POWER_ON_BYTE_6 = const(0x0C)

_ONES = b"\xff\xff\xff\xff\xff\xff\xff\xff\xff"
_ZEROS = b"\x00\x00\x00\x00\x00\x00\x00\x00\x00"


def value(pad):
    """The temperature of a scratchpad, at 12 bits, in 0.0001 °C (Operation: Measuring Temperature)."""
    raw = pad[1] << 8 | pad[0]
    return (raw - 0x10000 if raw & 0x8000 else raw) * 625


def check(pad, crc):
    """Raise SensorError unless the nine bytes `pad` are a measurement by the probe that we set up.

    `crc` is the CRC over all nine: 0 when it fits.
    """
    if pad == _ONES:
        raise SensorError(VANISHED, "no answer")
    if pad == _ZEROS:  # its CRC fits
        raise SensorError(BUS_TIMEOUT, "data line held low")
    if crc:
        raise SensorError(CRC)
    if pad[2:5] != _SETTINGS:
        raise SensorError(POWER_ON_VALUE, "lost its settings")
    # Our settings, but no conversion yet: 85 °C, the power-on value. A real 85 °C has another byte 6, which
    # is 0x0C at power-on, and 0x10 less the value's low four bits after a conversion. (Today's datasheet only
    # calls it reserved; it was measured for the repository cpetrich/counterfeit_DS18B20, "Family A". Of the
    # clones there, "Family B" has our configuration byte in byte 6 after a scratchpad write, and passes;
    # "Family C" has 0x0C for ever, and its real 85.0000 °C is refused too: the safe side.)
    if pad[1] << 8 | pad[0] == _POWER_ON_RAW and pad[6] == _POWER_ON_BYTE_6:
        raise SensorError(POWER_ON_VALUE, "did not convert")


class Driver:
    """A DS18B20. Settings: `pin` (GPIO number); `rom` (16 hex digits) when the bus has several probes."""

    channels = (("temperature", "Cel", 4, _LOW, _HIGH),)

    def __init__(self, spec):
        self.reasons = bytearray(1)
        self._bus = onewire.OneWire(machine.Pin(spec["pin"]))
        self._probes = ds18x20.DS18X20(self._bus)
        self._pad = bytearray(9)
        rom = spec.get("rom")
        self._wanted = bytes.fromhex(rom) if rom else None
        self._rom = None  # of the probe that we set up

    def start(self):
        # Forgotten until all of this has worked, so that a failure anywhere brings the set-up again.
        rom, self._rom = self._rom, None
        self._reset()
        if rom is None:
            rom = self._set_up()
        # To this probe alone: `DS18X20.convert_temp` would make the others on the bus start anew.
        self._command(rom, _CONVERT)
        self._rom = rom
        return _CONVERT_MS

    def read(self, out):
        rom, self._rom = self._rom, None
        self._reset()
        self._command(rom, _READ_SCRATCHPAD)
        pad = self._pad
        self._bus.readinto(pad)
        check(pad, self._bus.crc8(pad))
        out[0] = value(pad)
        self.reasons[0] = 0 if _LOW <= out[0] <= _HIGH else OUT_OF_RANGE
        self._rom = rom

    def _set_up(self):
        # Nobody drives the line before a ROM command, so a read slot gives 1. A search on a line that is held
        # low would find 255 probes, and take four seconds for it.
        if not self._bus.readbit():
            raise SensorError(BUS_TIMEOUT, "data line held low")
        rom = self._wanted or self._only_probe()
        if self._bus.crc8(rom):
            raise SensorError(CRC, "in ROM code " + rom.hex())
        if rom[0] not in _FAMILIES:
            raise SensorError(WRONG_CHIP, "family 0x%02x" % rom[0])
        self._probes.write_scratch(rom, _SETTINGS)
        return rom

    def _only_probe(self):
        roms = [bytes(rom) for rom in self._probes.scan()]
        if not roms:
            raise SensorError(WRONG_CHIP, "no DS18B20 on the bus")
        if len(roms) > 1:
            raise SensorError(FAULT, "several probes, set rom: " + " ".join(rom.hex() for rom in roms))
        return roms[0]

    def _reset(self):
        if not self._bus.reset():
            raise SensorError(VANISHED, "no presence pulse")

    def _command(self, rom, command):
        self._bus.select_rom(rom)
        self._bus.writebyte(command)
