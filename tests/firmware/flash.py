"""A NOR flash in RAM, with esp32.Partition's interface: it counts, fails and loses its power on demand."""

SECTOR = 4096


class PowerCut(BaseException):
    """Nothing that survives errors survives this."""


class Dice:
    """Chance that is the same for the same seed."""

    def __init__(self, seed):
        self._state = seed * 7919 + 12345

    def below(self, limit):
        self._state = (self._state * 1103515245 + 12345) & 0x7FFFFFFF
        return (self._state >> 8) % limit


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
            self._tear(at, new, Dice(self.cut[2]))
        elif how != "before":
            self.data[at : at + len(new)] = new
        if how:
            raise PowerCut

    def _tear(self, at, new, dice):
        # A beginning, an end, or bits here and there; an erase may also leave zeros, which come first.
        form = dice.below(4)
        edge = dice.below(len(new))
        zeros = len(new) == SECTOR and dice.below(3)
        for i in range(len(new)):
            if form < 2:
                mask = 0xFF if (i < edge) == (form == 0) else 0
            else:
                mask = dice.below(256) if form == 2 else 0xFF * dice.below(2)
            wanted = 0 if zeros == 1 else new[i]
            old = 0 if zeros == 2 else self.data[at + i]
            self.data[at + i] = old & ~mask | wanted & mask
