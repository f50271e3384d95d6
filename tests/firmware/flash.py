"""The virtual board's flash chip in RAM, as a block device like esp32.Partition; it fails on demand."""

from _flash import SECTOR, Flash, FlashViolation


class _Ram:
    """Bytes as the file that `Flash` works on."""

    def __init__(self, data):
        self._data = data
        self._place = 0

    def seek(self, offset, whence=0):
        self._place = len(self._data) if whence == 2 else offset
        return self._place

    def read(self, length):
        return bytes(memoryview(self._data)[self._place : self._place + length])

    def readinto(self, buf):
        buf[:] = memoryview(self._data)[self._place : self._place + len(buf)]

    def write(self, data):
        self._data[self._place : self._place + len(data)] = data


class Nor:
    """`chip` is the flash chip, until the next power-on. `refuses(kind, sector, offset)` is asked before each
    "read", "program" and "erase"; where it says yes, there is an OSError. Programming that would set bits
    ends the test."""

    def __init__(self, sectors, data=None):
        self.data = bytearray(data if data is not None else b"\xff" * (sectors * SECTOR))
        self.sectors = sectors
        self.refuses = None
        self.power_on()

    def power_on(self, cut=None):
        """The counters begin anew. `cut` is (operation, how, seed): the power goes "before", in ("torn") or
        "after" that program or erase, counted from 1; what the chip does in a page of 256 bytes is one."""
        self.chip = Flash(_Ram(self.data))
        if cut:
            self.chip.cut_power(*cut)

    @property
    def read(self):
        return self.chip.bytes_read

    @property
    def programmed(self):
        return self.chip.bytes_programmed

    @property
    def programs(self):
        return self.chip.programs

    @property
    def erases(self):
        return self.chip.erases

    @property
    def operations(self):
        return self.programs + self.erases

    def copy(self):
        return Nor(self.sectors, self.data)

    def sector(self, place):
        return memoryview(self.data)[place * SECTOR : (place + 1) * SECTOR]

    def readblocks(self, block, buf, offset=0):
        self._ask("read", block, offset)
        self.chip.read(self._at(block, offset, len(buf)), buf)

    def writeblocks(self, block, buf, offset=None):
        assert offset is not None  # the simple interface would erase the block
        self._ask("program", block, offset)
        try:
            self.chip.program(self._at(block, offset, len(buf)), buf)
        except FlashViolation as e:  # what survives an OSError must not survive this
            raise AssertionError(e.args[0])

    def ioctl(self, op, arg):
        if op == 4:
            return self.sectors
        if op == 5:
            return SECTOR
        assert op == 6
        self._ask("erase", arg, 0)
        self.chip.erase(self._at(arg, 0, SECTOR))
        return 0

    def _ask(self, kind, block, offset):
        if self.refuses and self.refuses(kind, block, offset):
            raise OSError(5)

    def _at(self, block, offset, length):
        assert 0 <= block < self.sectors and offset + length <= SECTOR
        return block * SECTOR + offset
