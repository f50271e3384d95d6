"""The board's NOR flash as the ROM bootloader meets it: a file with a flash chip's rules.

Erase sets sectors of 4 KiB to ones; programming only clears bits. A program that would set one leaves
old AND new, as the chip does. Addresses beyond the end wrap: the chip does not look at the upper bits.
"""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from host_tools.errors import LimpetError

SECTOR = 4096
BLOCK = 65536
_PAGE = 256
_MIB = 1024 * 1024
_SIZES = {_MIB << n: 0x14 + n for n in range(5)}

# Winbond W25Q32JV, revision G, table 9.6 (AC characteristics), typical: seconds.
_PROGRAM_PAGE = 0.0004
_ERASE_SECTOR = 0.045
_ERASE_BLOCK = 0.150
_ERASE_CHIP_PER_BYTE = 10 / (4 * _MIB)


class PowerFailed(Exception):
    """The supply broke down in the middle of a program operation."""


class FlashChip:
    """The chip behind `path`, whose length is its size: 1, 2, 4, 8 or 16 MiB.

    Faults, to be set at any time:
    - `read_only`: programs and erases do not take, and nothing says so.
    - `slow`: times the datasheet's program and erase times; 0 is instant.
    - `brownout`: after so many more bytes programmed the supply fails: the operation raises PowerFailed.
      It fails once. `on_brownout` is for the board: who catches PowerFailed calls it when the chip is silent.

    Raises:
        LimpetError: there is no such file, or it has another length.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.size = path.stat().st_size
        except OSError as error:
            raise LimpetError(f"{path}: cannot be used as flash: {error.strerror}") from None
        if self.size not in _SIZES:
            raise LimpetError(f"{path}: {self.size} bytes; a flash chip has 1, 2, 4, 8 or 16 MiB")
        self.read_only = False
        self.slow = 0.0
        self.brownout: int | None = None
        self.on_brownout: Callable[[], None] = lambda: None
        self.programmed = 0  # bytes
        self.erased = 0  # bytes
        self.violations = 0  # programs that would have set bits

    @property
    def jedec_id(self) -> bytes:
        """Manufacturer, type and capacity as command 9Fh answers: Winbond's W25Q series."""
        return bytes((0xEF, 0x40, _SIZES[self.size]))

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`, around the end of the chip if need be."""
        with self.path.open("rb", buffering=0) as file:
            return b"".join(os.pread(file.fileno(), n, at) for at, n in self._pieces(offset, length))

    def program(self, offset: int, data: bytes) -> float:
        """Clear bits; the seconds that it takes.

        Raises:
            PowerFailed: see `brownout`. What came before is programmed, the page is torn.
        """
        if self.read_only:
            return self._time(offset, len(data))
        fails = self.brownout is not None and self.brownout < len(data)
        whole = data
        if fails:
            assert self.brownout is not None
            rest_of_page = _PAGE - (offset + self.brownout) % _PAGE
            torn = _torn(data[self.brownout : self.brownout + rest_of_page], seed=offset + self.brownout)
            whole = data[: self.brownout] + torn
        elif self.brownout is not None:
            self.brownout -= len(data)
        done = 0
        with self.path.open("r+b", buffering=0) as file:
            for at, n in self._pieces(offset, len(whole)):
                self._clear_bits(file.fileno(), at, whole[done : done + n])
                done += n
        self.programmed += len(whole)
        if fails:
            self.brownout = None
            raise PowerFailed
        return self._time(offset, len(data))

    def erase(self, offset: int, length: int) -> float:
        """Set `length` bytes to ones, in whole sectors, everything at most; the seconds that it takes."""
        if offset % SECTOR or length % SECTOR:
            raise ValueError(f"erase of 0x{length:x} bytes at 0x{offset:x}")
        length = min(length, self.size)
        if not self.read_only:
            with self.path.open("r+b", buffering=0) as file:
                for at, n in self._pieces(offset, length):
                    os.pwrite(file.fileno(), b"\xff" * n, at)
            self.erased += length
        # The loaders erase in blocks where they can.
        first = min(-offset % BLOCK, length)
        blocks, last = divmod(length - first, BLOCK)
        return self.slow * (blocks * _ERASE_BLOCK + (first + last) // SECTOR * _ERASE_SECTOR)

    def erase_chip(self) -> float:
        """Set everything to ones; the seconds that it takes."""
        self.erase(0, self.size)
        return self.slow * self.size * _ERASE_CHIP_PER_BYTE

    def _pieces(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        while length > 0:
            at = offset % self.size
            n = min(length, self.size - at)
            yield at, n
            offset += n
            length -= n

    def _clear_bits(self, file: int, offset: int, data: bytes) -> None:
        old = os.pread(file, len(data), offset)
        if old.count(0xFF) != len(old):
            before, wanted = int.from_bytes(old, "little"), int.from_bytes(data, "little")
            after = before & wanted
            if after != wanted:
                self.violations += 1
            data = after.to_bytes(len(data), "little")
        os.pwrite(file, data, offset)

    def _time(self, offset: int, length: int) -> float:
        pages = (offset % _PAGE + length + _PAGE - 1) // _PAGE if length else 0
        return self.slow * pages * _PROGRAM_PAGE


def _torn(data: bytes, seed: int) -> bytes:
    """What is programmed of `data` when the power fails on the way: any of the zeros may be missing."""
    dice = random.Random(seed)
    return bytes(byte | dice.randrange(256) for byte in data)
