"""Flash that is RAM: what the spool works on when the board has no partition for it."""

from micropython import const

_BLOCK = const(4096)


class RamFlash:
    """A block device like esp32.Partition, of `blocks` × 4096 bytes."""

    def __init__(self, blocks):
        self._blocks = blocks
        self._data = bytearray(blocks * _BLOCK)

    def readblocks(self, block_num, buf, offset=0):
        at = block_num * _BLOCK + offset
        buf[:] = memoryview(self._data)[at : at + len(buf)]

    def writeblocks(self, block_num, buf, offset=0):
        at = block_num * _BLOCK + offset
        self._data[at : at + len(buf)] = buf

    def ioctl(self, op, arg):
        if op == 4:
            return self._blocks
        if op == 5:
            return _BLOCK
        if op == 6:
            for at in range(arg * _BLOCK, (arg + 1) * _BLOCK):
                self._data[at] = 0xFF
        return 0
