"""The flash as a loader reaches it: within the size that it was told, and taking its time."""

import hashlib
from collections.abc import Callable

from host_tools.virtual.flash_chip import SECTOR, FlashChip

_WINDOW = 16 * 1024 * 1024  # what 24 address bits reach
_PIECE = 1024 * 1024


class FlashFailed(Exception):
    """The loader's flash routine returns an error."""


class FlashBus:
    """`size` is the loader's idea of the chip, not the chip's. `spend` is told the seconds that pass."""

    def __init__(self, chip: FlashChip, size: int, spend: Callable[[float], None]) -> None:
        self._chip = chip
        self._spend = spend
        self._size = size

    def configure(self, size: int) -> None:
        """As SPI_SET_PARAMS tells it."""
        self._size = min(size, _WINDOW)

    def read(self, offset: int, length: int) -> bytes:
        """What the flash holds there."""
        self.check(offset, length)
        return self._chip.read(offset, length)

    def md5(self, offset: int, length: int) -> bytes:
        """The digest of what the flash holds there."""
        self.check(offset, length)
        digest = hashlib.md5()
        for at in range(offset, offset + length, _PIECE):
            digest.update(self._chip.read(at, min(_PIECE, offset + length - at)))
        return digest.digest()

    def program(self, offset: int, data: bytes) -> None:
        """`offset` and length in words, as the SPI controller writes."""
        if offset % 4 or len(data) % 4:
            raise FlashFailed
        self.check(offset, len(data))
        self._spend(self._chip.program(offset, data))

    def erase(self, offset: int, length: int) -> None:
        """All sectors that the range touches. Nothing is checked: addresses beyond the chip wrap."""
        first = offset - offset % SECTOR
        last = offset + length
        last += -last % SECTOR
        self._spend(self._chip.erase(first, last - first))

    def erase_chip(self) -> None:
        """All of it, whatever the loader thinks its size to be."""
        self._spend(self._chip.erase_chip())

    def check(self, offset: int, length: int) -> None:
        """Raises FlashFailed beyond the configured size, as those do that need it."""
        if offset + length > self._size:
            raise FlashFailed
