"""esp32 of the virtual board: the partitions of its flash (esp32.Partition of the ESP32 port)."""

import struct

from _flash import SECTOR
from micropython import const

_TABLE = const(0x8000)
_TABLE_SIZE = const(0xC00)
_ENTRY = const(32)

_INVALID_ARG = (-0x102, "ESP_ERR_INVALID_ARG")
_INVALID_SIZE = (-0x104, "ESP_ERR_INVALID_SIZE")

flash = None  # set by the boot code, before any firmware runs


class Partition:
    """One partition as a block device; see the ESP32 quick reference of MicroPython."""

    BOOT = 0
    RUNNING = 1
    TYPE_APP = 0
    TYPE_DATA = 1

    def __init__(self, label, block_size=SECTOR):
        if isinstance(label, int):
            if label not in (self.BOOT, self.RUNNING):
                raise ValueError
            found = self.find(self.TYPE_APP, block_size=block_size)  # one app partition: it boots and runs
        else:
            found = self.find(self.TYPE_APP, label=label) or self.find(self.TYPE_DATA, label=label)
        if not found:
            raise OSError(2)
        self._set(found[0]._info, block_size)

    def _set(self, info, block_size):
        if block_size < 1:
            raise ValueError("block_size")
        self._info = info
        self._block_size = block_size

    @classmethod
    def find(cls, type=TYPE_APP, subtype=0xFF, label=None, block_size=SECTOR):
        found = []
        for info in read_table(flash):
            if info[0] == type and subtype in (0xFF, info[1]) and label in (None, info[4]):
                partition = object.__new__(cls)
                partition._set(info, block_size)
                found.append(partition)
        return found

    def info(self):
        """(type, subtype, address, size, label, encrypted)"""
        return self._info

    def readblocks(self, block_num, buf, offset=0):
        flash.read(self._at(block_num, offset, len(buf)), buf)

    def writeblocks(self, block_num, buf, offset=None):
        at = self._at(block_num, offset or 0, len(buf))
        if offset is None:  # the simple interface erases for itself
            self._erase(at, len(buf))
        flash.program(at, buf)

    def ioctl(self, op, arg):
        if op in (1, 2, 3):  # init, deinit, sync: nothing to do
            return 0
        if op == 4:
            return self._info[3] // self._block_size
        if op == 5:
            return self._block_size
        if op == 6:
            self._erase(self._at(arg, 0, self._block_size), self._block_size)
            return 0
        return None

    def _erase(self, at, length):
        if length % SECTOR:
            raise OSError(*_INVALID_SIZE)
        if at % SECTOR:
            raise OSError(*_INVALID_ARG)
        flash.erase(at, length)

    def _at(self, block_num, offset, length):
        start = block_num * self._block_size + offset
        # What esp_partition_read() and its like say of a place outside of the partition.
        if start < 0 or start > self._info[3]:
            raise OSError(*_INVALID_ARG)
        if start + length > self._info[3]:
            raise OSError(*_INVALID_SIZE)
        return self._info[2] + start

    def __repr__(self):
        return "<Partition type=%d, subtype=%d, address=%d, size=%d, label=%s, encrypted=%d>" % self._info


def read_table(flash):
    """The entries of the partition table at 0x8000, as Partition.info() gives them."""
    entry = bytearray(_ENTRY)
    table = []
    for at in range(_TABLE, _TABLE + _TABLE_SIZE, _ENTRY):
        flash.read(at, entry)
        magic, kind, subtype, offset, size, label, flags = struct.unpack("<HBBII16sI", entry)
        if magic != 0x50AA:  # the MD5 entry (0xEBEB), or the end
            break
        table.append((kind, subtype, offset, size, label.rstrip(b"\0").decode(), bool(flags & 1)))
    return table
