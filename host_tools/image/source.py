"""Where an image to be explained is read from: a file, or the flash of a board on a serial port."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from host_tools.errors import LimpetError, NoDeviceError, RefusedError
from host_tools.image import files
from host_tools.image.errors import ImageError

_PAGE = 256


class Source(Protocol):
    """Bytes to be explained."""

    @property
    def name(self) -> str:
        """As the user called it."""

    @property
    def size(self) -> int:
        """How many bytes there are."""

    @property
    def chip(self) -> str | None:
        """The chip that was asked, as esptool calls it."""

    @property
    def mac(self) -> str | None:
        """The chip's MAC address."""

    @property
    def is_slow(self) -> bool:
        """Reading takes so long that little should be read."""

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on; fewer where the source ends."""


@dataclass(frozen=True)
class FileSource:
    """A file, read whole."""

    name: str
    data: bytes
    chip = None
    mac = None
    is_slow = False

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, offset: int, size: int) -> bytes:
        return self.data[offset : offset + size]


class Flash(Protocol):
    """What a board's flash is read with (host_tools.esp.chip.Chip)."""

    def read(self, offset: int, size: int) -> bytes: ...


class BoardSource:
    """The flash of a board, of which each page is read once, and only those that are asked for."""

    is_slow = True

    def __init__(self, name: str, flash: Flash, size: int, chip: str, mac: str) -> None:
        self.name = name
        self.size = size
        self.chip = chip
        self.mac = mac
        self._flash = flash
        self._pages: dict[int, bytes] = {}

    def read(self, offset: int, size: int) -> bytes:
        end = min(offset + size, self.size)
        if end <= offset:
            return b""
        first, last = offset // _PAGE, (end - 1) // _PAGE
        self._fetch(first, last)
        data = b"".join(self._pages[page] for page in range(first, last + 1))
        return data[offset - first * _PAGE : end - first * _PAGE]

    def _fetch(self, first: int, last: int) -> None:
        """Read the pages that are not there, neighbours together."""
        missing = [page for page in range(first, last + 1) if page not in self._pages]
        while missing:
            start = missing[0]
            count = next((n for n, page in enumerate(missing) if page != start + n), len(missing))
            data = self._flash.read(start * _PAGE, count * _PAGE)
            for n in range(count):
                self._pages[start + n] = data[n * _PAGE : (n + 1) * _PAGE]
            del missing[:count]


@contextlib.contextmanager
def open_source(name: str) -> Iterator[Source]:
    """The file or the board called `name`; a board restarts afterwards. Raises LimpetError."""
    path = Path(name)
    if "://" not in name and not path.exists():
        raise NoDeviceError(f"There is no file or serial port '{name}': name an image, or plug the board in.")
    if "://" in name or path.is_char_device():
        with _board(name) as source:
            yield source
    else:
        yield FileSource(name, files.read(path, "image"))


@contextlib.contextmanager
def _board(port: str) -> Iterator[Source]:
    from host_tools.esp.chip import connect  # half a second, and only boards need it

    with connect(port) as chip:
        try:
            if chip.security.secure_download or chip.security.encrypted:
                why = "its flash is encrypted" if chip.security.encrypted else "it is in secure download mode"
                raise RefusedError(f"{port}: what the board holds cannot be read, because {why}.")
            size = chip.flash_size
            if not size:
                raise ImageError(f"{port}: the board's flash chip does not tell its size; see to its cable.")
            yield BoardSource(port, chip, size, chip.name, chip.mac)
        finally:
            with contextlib.suppress(LimpetError):  # what broke off before is the better sentence
                chip.reset()
