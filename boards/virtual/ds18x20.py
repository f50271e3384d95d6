"""ds18x20 of the virtual board, with the names and behaviour of the module frozen into the stock image."""

from micropython import const

_CONVERT = const(0x44)
_RD_SCRATCH = const(0xBE)
_WR_SCRATCH = const(0x4E)

_DS18S20 = const(0x10)


class DS18X20:
    def __init__(self, onewire):
        self.ow = onewire
        self.buf = bytearray(9)

    def scan(self):
        return [rom for rom in self.ow.scan() if rom[0] in (_DS18S20, 0x22, 0x28)]

    def convert_temp(self):
        self.ow.reset(True)
        self.ow.writebyte(self.ow.SKIP_ROM)
        self.ow.writebyte(_CONVERT)

    def read_scratch(self, rom):
        self.ow.reset(True)
        self.ow.select_rom(rom)
        self.ow.writebyte(_RD_SCRATCH)
        self.ow.readinto(self.buf)
        if self.ow.crc8(self.buf):
            raise Exception("CRC error")
        return self.buf

    def write_scratch(self, rom, buf):
        self.ow.reset(True)
        self.ow.select_rom(rom)
        self.ow.writebyte(_WR_SCRATCH)
        self.ow.write(buf)

    def read_temp(self, rom):
        """Degrees Celsius as a float."""
        pad = self.read_scratch(rom)
        if rom[0] == _DS18S20:
            # Half degrees, with a fraction from the two counters (DS18S20 datasheet).
            whole = ((pad[0] | pad[1] << 8) ^ 0x8000) - 0x8000 >> 1
            return whole - 0.25 + (pad[7] - pad[6]) / pad[7]
        raw = pad[0] | pad[1] << 8
        return (raw - 0x10000 if raw & 0x8000 else raw) / 16
