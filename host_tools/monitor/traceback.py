"""MicroPython's tracebacks, and the lines of the firmware's source that they mean.

The byte code on a board keeps the source's name, as `limpet/node.py`, and its line numbers.
"""

import functools
import re
from dataclasses import dataclass
from pathlib import Path

from host_tools.paths import FIRMWARE, ROOT

BEGINS = "Traceback (most recent call last):"
_FRAME = re.compile(r'  File "([^"]+)", line (\d+)')
_VERSION = re.compile(r'^__version__ = "([^"]+)"', re.MULTILINE)


@dataclass(frozen=True)
class Source:
    """A line of the source: where it is in this checkout, and what it says."""

    file: str
    line: int
    text: str


class Traceback:
    """Follows the lines of one board."""

    def __init__(self, firmware: Path = FIRMWARE) -> None:
        self._firmware = firmware
        self._inside = False

    def follow(self, line: str) -> tuple[bool, Source | None]:
        """Whether the line is of a traceback, and the source that it points to."""
        if line == BEGINS:
            self._inside = True
            return True, None
        if not self._inside:
            return False, None
        frame = _FRAME.match(line)
        if frame:
            return True, self._source(frame[1], int(frame[2]))
        self._inside = line.startswith("  ")  # a frame in a form of its own; else this is the exception
        return True, None

    def _source(self, name: str, number: int) -> Source | None:
        try:
            path = (self._firmware / name.lstrip("/")).resolve()
        except (OSError, ValueError):  # no name of a file
            return None
        if path.suffix != ".py" or not path.is_relative_to(self._firmware):
            return None
        lines = _lines(path)
        if not 0 < number <= len(lines):
            return None
        shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        return Source(str(shown), number, lines[number - 1].strip())


def checkout_version(firmware: Path = FIRMWARE) -> str | None:
    """The version of the firmware in this checkout."""
    found = _VERSION.search("\n".join(_lines(firmware / "limpet" / "__init__.py")))
    return found[1] if found else None


def _lines(path: Path) -> list[str]:
    try:
        changed = path.stat().st_mtime_ns
    except (OSError, ValueError):
        return []
    return _read(path, changed)


@functools.lru_cache(maxsize=64)
def _read(path: Path, _changed: int) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
