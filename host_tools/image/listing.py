"""The files in a flash, and what they are to this checkout's firmware. Never a secret."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from littlefs import LittleFSError, UserContext

from host_tools.image import esp
from host_tools.image.contents import Holding, Plain
from host_tools.image.firmware import SETTINGS_NAME
from host_tools.image.volume import BLOCK, FEWEST_BLOCKS, littlefs

_MOST_FILES = 4096
_LONGEST_SETTINGS = 4 * BLOCK
_READ_ONLY = -5  # LFS_ERR_IO


@dataclass(frozen=True)
class File:
    """A file: its path without the leading slash, and what it is to this checkout's firmware."""

    path: str
    size: int
    is_: str
    """"same" or "differs" for the firmware's own files, "settings", "other"; "unknown" without a firmware."""


@dataclass(frozen=True)
class Settings:
    """What is told of a node's settings; Wi-Fi names and passwords are not."""

    board: str
    sensors: tuple[str, ...]


@dataclass(frozen=True)
class Files:
    """A filesystem."""

    files: tuple[File, ...]
    missing: tuple[str, ...]
    """Files of this checkout's firmware that are not there."""
    settings: Settings | None
    size: int

    def count(self, is_: str) -> int:
        return sum(each.is_ == is_ for each in self.files)

    @property
    def firmware(self) -> str:
        """ "same", "differs" or "none": this checkout's firmware, another one, or no such files at all."""
        same, differs = self.count("same"), self.count("differs")
        if not same and not differs:
            return "none"
        return "differs" if differs or self.missing else "same"

    def text(self) -> str:
        total = sum(each.size for each in self.files)
        plural = "" if len(self.files) == 1 else "s"
        parts = [f"littlefs, {len(self.files)} file{plural} of {total} bytes"]
        if self.firmware == "same":
            parts.append("this checkout's firmware")
        elif self.firmware == "differs":
            parts.append("another firmware than this checkout's")
        if self.settings:
            parts.append(f"settings for board '{self.settings.board}'")
        elif self.firmware != "none" and not self.count("settings"):
            parts.append("no settings")
        return ", ".join(parts)

    def as_json(self) -> dict[str, Any]:
        return {
            "firmware": self.firmware,
            "missing": list(self.missing),
            "settings": self.settings
            and {"board": self.settings.board, "sensors": list(self.settings.sensors)},
            "files": [{"path": each.path, "bytes": each.size, "is": each.is_} for each in self.files],
        }


def filesystem(read: esp.Read, size: int, firmware: Mapping[str, bytes] | None) -> Holding:
    """The files in a partition of `size` bytes, held against those of `firmware`."""
    start = read(0, 512)
    # littlefs keeps its first directory in blocks 0 and 1 by turns, and erases one while the other counts.
    if all(each.count(0xFF) == len(each) for each in (start, read(BLOCK, 512))):
        return Plain("blank: MicroPython makes a filesystem when it starts")
    if start.endswith(b"\x55\xaa"):
        return Plain("a FAT filesystem")
    if size < FEWEST_BLOCKS * BLOCK or size % BLOCK:
        return Plain(f"no filesystem: {size} bytes are not two blocks or more")
    context = _Context(read)
    fs = littlefs(size, context)
    try:
        fs.mount()
        found: list[File] = []
        settings = None
        for path, length in _walk(fs):
            if len(found) == _MOST_FILES:
                return Plain(f"littlefs, with more than {_MOST_FILES} files")
            ours = None if firmware is None else firmware.get(path)
            if path == SETTINGS_NAME:
                settings = _settings(_content(fs, path)) if length <= _LONGEST_SETTINGS else None
                is_ = "settings"
            elif firmware is None:
                is_ = "unknown"
            elif ours is None:
                is_ = "other"
            else:
                is_ = "same" if length == len(ours) and _content(fs, path) == ours else "differs"
            found.append(File(path, length, is_))
    except (LittleFSError, OSError, ValueError) as error:
        context.raise_trouble()
        return Plain(f"damaged littlefs ({error})")
    context.raise_trouble()
    missing = sorted(set(firmware or ()) - {each.path for each in found})
    return Files(tuple(sorted(found, key=lambda each: each.path)), tuple(missing), settings, size)


class _Context(UserContext):
    """Reads blocks as littlefs asks for them, each once; writing is refused."""

    def __init__(self, read: esp.Read) -> None:
        self._read = read
        self._blocks: dict[int, bytes] = {}
        self._trouble: BaseException | None = None

    def read(self, cfg: Any, block: int, off: int, size: int) -> bytearray:
        # littlefs would swallow an exception, so it is kept for later.
        if block not in self._blocks and self._trouble is None:
            try:
                self._blocks[block] = self._read(block * BLOCK, BLOCK)
            except BaseException as error:
                self._trouble = error
        return bytearray(self._blocks.get(block, b"")[off : off + size].ljust(size, b"\xff"))

    def prog(self, cfg: Any, block: int, off: int, data: bytes) -> int:
        return _READ_ONLY

    def erase(self, cfg: Any, block: int) -> int:
        return _READ_ONLY

    def sync(self, cfg: Any) -> int:
        return 0

    def raise_trouble(self) -> None:
        """Raise what went wrong below littlefs."""
        if self._trouble is not None:
            raise self._trouble


def _walk(fs: Any) -> Iterator[tuple[str, int]]:
    """All files: path and size."""
    for folder, _, names in fs.walk("/"):
        for name in names:
            path = f"{folder.strip('/')}/{name}".lstrip("/")
            yield path, fs.stat(path).size


def _content(fs: Any, path: str) -> bytes:
    with fs.open(path, "rb") as file:
        return bytes(file.read())


def _settings(data: bytes) -> Settings | None:
    try:
        said = json.loads(data)
        return Settings(str(said["board"]), tuple(str(each["name"]) for each in said["sensors"]))
    except (ValueError, LookupError, TypeError):
        return None
