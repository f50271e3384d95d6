"""Cuts the files for a board's stage into pieces that its memory has room for. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from host_tools.deploy.plan import digest
from host_tools.repl import envelope

_LEAST = 32  # bytes of files in a piece: smaller ones are more header than content
_TIGHTER = 0.95


@dataclass(frozen=True)
class Place:
    """How far the files have been sent: this far into the `file`-th of them."""

    file: int = 0
    offset: int = 0

    def passed(self, files: Mapping[str, bytes]) -> int:
        """How many bytes of the files lie before it."""
        return sum(map(len, list(files.values())[: self.file])) + self.offset


def cut(files: Mapping[str, bytes], start: Place, room: int) -> tuple[bytes, Place]:
    """The next piece, and where the one after it begins.

    It starts with a line for the board: name, offset, size, and the digest of the file if it ends here.
    `room` is how many characters it may have in its envelope; a piece of a few bytes may have more.
    """
    left = sum(map(len, files.values())) - start.passed(files)
    most = min(left, room * 4)  # byte code does not shrink to a quarter
    while True:
        piece, end = _take(files, start, most)
        size = -(-len(envelope.squeezed(piece)) // 3) * 4
        if size <= room or most <= _LEAST:
            return piece, end
        most = max(_LEAST, int(most * room / size * _TIGHTER))


def _take(files: Mapping[str, bytes], start: Place, most: int) -> tuple[bytes, Place]:
    names = list(files)
    parts: list[tuple[str, int, int, str]] = []
    data = b""
    place = start
    while place.file < len(names) and (len(data) < most or not files[names[place.file]]):
        name = names[place.file]
        part = files[name][place.offset : place.offset + most - len(data)]
        data += part
        end = place.offset + len(part)
        is_whole = end == len(files[name])
        parts.append((name, place.offset, len(part), digest(files[name]) if is_whole else ""))
        place = Place(place.file + 1) if is_whole else Place(place.file, end)
    return repr(parts).replace(" ", "").encode() + b"\n" + data, place
