"""A NOR flash in RAM, with esp32.Partition's interface: it counts, fails and loses its power on demand."""

from _flash import SECTOR, Dice, PowerCut, torn_erase, torn_program


class Nor:
    """`cut` is (operation, how, seed): the power goes "before", in ("torn") or "after" that program or erase,
    counted from 1. `refuses(kind, sector, offset)` is asked before each "read", "program" and "erase"; where
    it says yes, there is an OSError."""

    def __init__(self, sectors, data=None):
        self.data = bytearray(data if data is not None else b"\xff" * (sectors * SECTOR))
        self.sectors = sectors
        self.cut = None
        self.refuses = None
        self.is_off = False
        self.reset()

    def reset(self):
        self.read = self.programmed = self.programs = self.erases = self.operations = 0

    def copy(self):
        return Nor(self.sectors, self.data)

    def sector(self, place):
        return memoryview(self.data)[place * SECTOR : (place + 1) * SECTOR]

    def readblocks(self, block, buf, offset=0):
        self._ask("read", block, offset)
        at = self._at(block, offset, len(buf))
        self.read += len(buf)
        buf[:] = memoryview(self.data)[at : at + len(buf)]

    def writeblocks(self, block, buf, offset=None):
        assert offset is not None  # the simple interface would erase the block
        self._ask("program", block, offset)
        at = self._at(block, offset, len(buf))
        self.programs += 1
        self.programmed += len(buf)
        for i, byte in enumerate(buf):
            assert byte & self.data[at + i] == byte, "programming 0x%x would set bits" % (at + i)
        self._change(at, buf)

    def ioctl(self, op, arg):
        if op == 4:
            return self.sectors
        if op == 5:
            return SECTOR
        assert op == 6
        self._ask("erase", arg, 0)
        self.erases += 1
        self._change(self._at(arg, 0, SECTOR), b"\xff" * SECTOR)
        return 0

    def _ask(self, kind, block, offset):
        if self.is_off:
            raise PowerCut
        if self.refuses and self.refuses(kind, block, offset):
            raise OSError(5)

    def _at(self, block, offset, length):
        assert 0 <= block < self.sectors and offset + length <= SECTOR
        return block * SECTOR + offset

    def _change(self, at, new):
        self.operations += 1
        how = None
        if self.cut and self.operations == self.cut[0]:
            how = self.cut[1]
            self.is_off = True
        if how == "torn":
            tear = torn_erase if len(new) == SECTOR else torn_program
            new = tear(self.data[at : at + len(new)], new, Dice(self.cut[2]))
        if how != "before":
            self.data[at : at + len(new)] = new
        if how:
            raise PowerCut
