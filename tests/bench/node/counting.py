"""For the scripts beside it: a flash of RAM that counts what is done to it, and knows a NOR flash's rules."""

BLOCK = 4096


class Flash:
    """A block device like esp32.Partition. `read` and `programmed` count bytes, `erased` counts blocks."""

    def __init__(self, size):
        self._data = bytearray(size)
        for i in range(size):
            self._data[i] = 0xFF
        self._view = memoryview(self._data)
        self.reset()

    def reset(self):
        self.read = self.programmed = self.erased = 0

    def readblocks(self, block, buf, offset=0):
        at = block * BLOCK + offset
        self.read += len(buf)
        buf[:] = self._view[at : at + len(buf)]

    def writeblocks(self, block, buf, offset=0):
        at = block * BLOCK + offset
        self.programmed += len(buf)
        for i, new in enumerate(memoryview(buf)):
            if new & ~self._data[at + i]:
                raise OSError("programming would set bits")
            self._data[at + i] = new

    def ioctl(self, op, arg):
        if op == 4:
            return len(self._data) // BLOCK
        if op == 5:
            return BLOCK
        if op == 6:
            self.erased += 1
            self._view[arg * BLOCK : (arg + 1) * BLOCK] = b"\xff" * BLOCK
        return 0
