"""onewire of the virtual board, with the names and behaviour of the module frozen into the stock image."""

import _onewire
from micropython import const


class OneWireError(Exception):
    pass


class OneWire:
    SEARCH_ROM = const(0xF0)
    MATCH_ROM = const(0x55)
    SKIP_ROM = const(0xCC)

    def __init__(self, pin):
        self.pin = pin
        self.pin.init(pin.OPEN_DRAIN, pin.PULL_UP)

    def reset(self, required=False):
        present = _onewire.reset(self.pin)
        if required and not present:
            raise OneWireError
        return present

    def readbit(self):
        return _onewire.readbit(self.pin)

    def readbyte(self):
        return _onewire.readbyte(self.pin)

    def readinto(self, buf):
        for i in range(len(buf)):
            buf[i] = _onewire.readbyte(self.pin)

    def writebit(self, value):
        return _onewire.writebit(self.pin, value)

    def writebyte(self, value):
        return _onewire.writebyte(self.pin, value)

    def write(self, buf):
        for byte in buf:
            _onewire.writebyte(self.pin, byte)

    def select_rom(self, rom):
        self.reset()
        self.writebyte(self.MATCH_ROM)
        self.write(rom)

    def scan(self):
        """The ROM codes on the bus, each a bytearray of 8; not checked by their CRC, and 255 at most."""
        found = []
        rom = b"\xff\xff\xff\xff\xff\xff\xff\xff"
        fork = 64
        while len(found) < 255 and fork >= 0:
            rom, fork = self._search(rom, fork)
            if rom:
                found.append(rom)
        return found

    def _search(self, last, fork):
        # Walk down the tree of ROM codes once (Maxim AN187, 1 first): as `last` went as far as bit
        # `fork`, 0 there, 1 at every fork after it. Returns the code and the last fork where it took 1.
        if not self.reset():
            return None, -1
        self.writebyte(self.SEARCH_ROM)
        rom = bytearray(8)
        last_one = -1
        for i in range(64):
            bit = self.readbit()
            complement = self.readbit()
            if bit and complement:
                return None, -1  # nobody answers
            if bit == complement:
                bit = last[i >> 3] >> (i & 7) & 1 if i < fork else int(i != fork)
                if bit:
                    last_one = i
            self.writebit(bit)
            rom[i >> 3] |= bit << (i & 7)
        return rom, last_one

    def crc8(self, data):
        return _onewire.crc8(data)
