"""Where a spool is read from: a flash image, an image of the partition alone, or a board on a serial port."""

import base64
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from host_tools import partitions
from host_tools.errors import LimpetError
from host_tools.pki import partition as identity
from host_tools.repl import BoardError, Repl
from host_tools.spool import format as spool_format
from host_tools.spool import ring
from host_tools.spool.format import HEADER_SIZE, MAGIC, PARTITION_NAME, SECTOR_SIZE, SpoolFormatError

T = TypeVar("T")

_MOST_BYTES = 64 * 1024 * 1024  # larger than any ESP32's flash
_HEADERS_AT_ONCE = 16
_PIECE = 512
_TRIES = 3
_TABLE_MAGIC = b"\xaa\x50"

# What the board does for us; the modules are those of the stock image.
_ON_BOARD = f"""
import binascii, esp32

found = esp32.Partition.find(esp32.Partition.TYPE_DATA, label="{PARTITION_NAME}")
buf = memoryview(bytearray({SECTOR_SIZE}))
blank = memoryview(bytes([255]) * {_PIECE})

def size():
    print(found[0].info()[3] if found else -1)

def node():
    try:
        from limpet import identity
        print(identity.load().node_id)
    except Exception:
        print()

def say(data):
    sent = b"" if data == blank[:len(data)] else data
    print(binascii.crc32(data), binascii.b2a_base64(sent).decode(), end="")

def headers(first, end):
    for n in range(first, end):
        found[0].readblocks(n, buf[:{HEADER_SIZE}], 0)
        say(buf[:{HEADER_SIZE}])

def sector(n):
    found[0].readblocks(n, buf, 0)
    for at in range(0, {SECTOR_SIZE}, {_PIECE}):
        say(buf[at : at + {_PIECE}])
"""


class SourceError(LimpetError):
    """There is no spool to be read."""


@dataclass(frozen=True)
class Source:
    """A whole spool partition, and the id of the node that it is in, where that can be told."""

    name: str
    partition: bytes
    node_id: str | None


def read(name: str, remark: Callable[[str], None]) -> Source:
    """Read the spool in the file or behind the serial port called `name`. Raises LimpetError."""
    path = Path(name)
    if "://" in name:
        return _from_port(name, remark)
    if path.is_dir():
        raise SourceError(f"{name} is a folder: name a flash image in it, or a board's port.")
    if not path.exists():
        raise SourceError(
            f"There is no file or serial port '{name}': name a flash image, or plug the board in."
        )
    return _from_file(path) if path.is_file() else _from_port(name, remark)


def _from_file(path: Path) -> Source:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise SourceError(
            f"{path} cannot be read ({error.strerror}): let it be read, or name another."
        ) from None
    return from_image(data, str(path))


def from_image(data: bytes, name: str) -> Source:
    """The spool in a flash image, or in an image of its partition alone. Raises SourceError."""
    if not data:
        raise SourceError(f"{name} is empty: name a flash image, or one of the spool partition.")
    if len(data) > _MOST_BYTES:
        raise SourceError(f"{name} has more than 64 MiB, so it is no ESP32's flash: name a flash image.")
    table = data[partitions.TABLE_OFFSET :]
    if table.startswith(_TABLE_MAGIC):
        return _from_flash(data, name)
    sectors = range(0, len(data), SECTOR_SIZE)
    if data.count(0xFF) < len(data) and not any(data.startswith(MAGIC, at) for at in sectors):
        raise SourceError(
            f"{name} is neither a flash image (no partition table at {partitions.TABLE_OFFSET:#x}) nor one "
            f"of a spool partition (no sector begins with {MAGIC.decode()}): name one of these."
        )
    try:
        spool_format.check_size(len(data))
    except SpoolFormatError as error:
        raise SourceError(f"{name} is cut short. {error}") from None
    return Source(name, data, None)


def _from_flash(data: bytes, name: str) -> Source:
    try:
        table = partitions.decode(data[partitions.TABLE_OFFSET :])
        place = partitions.find(table, PARTITION_NAME)
    except partitions.PartitionTableError as error:
        raise SourceError(f"{name}: {error}") from None
    if place.end > len(data):
        raise SourceError(
            f"{name} ends at {len(data):#x}, but its partition '{PARTITION_NAME}' at {place.end:#x}: it is "
            "cut short; read it again in full."
        )
    try:
        spool_format.check_size(place.size)
    except SpoolFormatError:
        raise SourceError(_too_small(name, place.size)) from None
    return Source(name, data[place.offset : place.end], _node_id(data, table))


def _node_id(data: bytes, table: Collection[partitions.Partition]) -> str | None:
    try:
        place = partitions.find(table, "identity")
        return identity.decode(data[place.offset : place.end]).identity.node_id
    except LimpetError:
        return None


def _too_small(name: str, size: int) -> str:
    return (
        f"{name}: the partition '{PARTITION_NAME}' has {size:#x} bytes, and a spool needs "
        f"{spool_format.FEWEST_SECTORS} sectors of {SECTOR_SIZE:#x}: flash an image with a larger one."
    )


def _from_port(port: str, remark: Callable[[str], None]) -> Source:
    with Repl(port, _ON_BOARD) as repl:
        board = _Board(port, repl)
        try:
            size = board.size()
        except BoardError as error:
            raise SourceError(
                f"{port}: this board has no flash partitions that MicroPython can read ({error.last_line}): "
                "name the port of an ESP32."
            ) from None
        node_id = repl.run("node()").strip() or None
        headers = board.headers(size // SECTOR_SIZE)
        wanted = _live(headers, node_id)
        remark(f"{port}: {len(headers)} sectors, {len(wanted)} of them in use; reading those")
        partition = bytearray()
        for index, header in enumerate(headers):
            # Of the others the header says all there is to know.
            partition += board.sector(index) if index in wanted else header.ljust(SECTOR_SIZE, b"\xff")
    return Source(port, bytes(partition), node_id)


def _live(headers: list[bytes], node_id: str | None) -> set[int]:
    """The sectors whose records may count, by their headers alone."""
    outline = b"".join(header.ljust(SECTOR_SIZE, b"\xff") for header in headers)
    spool = ring.decode(outline, node_id)
    return {each.index for each in spool.sectors if each.opening and each.opening.owner == spool.owner}


class _Board:
    """The spool partition of a board in the raw REPL. What arrives damaged is asked for again."""

    def __init__(self, port: str, repl: Repl) -> None:
        self._port = port
        self._repl = repl

    def size(self) -> int:
        size = self._ask("size()", lambda lines: int(*lines))
        if size < 0:
            raise SourceError(
                f"{self._port}: the board's partition table has no '{PARTITION_NAME}': flash an image made "
                "for this board."
            )
        try:
            spool_format.check_size(size)
        except SpoolFormatError:
            raise SourceError(_too_small(self._port, size)) from None
        return size

    def headers(self, count: int) -> list[bytes]:
        """The first bytes of each sector."""
        found: list[bytes] = []
        for first in range(0, count, _HEADERS_AT_ONCE):
            end = min(first + _HEADERS_AT_ONCE, count)

            def parse(lines: list[str], expected: int = end - first) -> Sequence[bytes]:
                return _exactly(expected, [_data(line, HEADER_SIZE) for line in lines])

            found += self._ask(f"headers({first}, {end})", parse)
        return found

    def sector(self, index: int) -> bytes:
        def parse(lines: list[str]) -> bytes:
            return b"".join(_exactly(SECTOR_SIZE // _PIECE, [_data(line, _PIECE) for line in lines]))

        return self._ask(f"sector({index})", parse)

    def _ask(self, call: str, parse: Callable[[list[str]], T]) -> T:
        """What the board prints, parsed; `parse` raises ValueError for what makes no sense."""
        for _ in range(_TRIES):
            try:
                return parse(self._repl.run(call).splitlines())
            except (ValueError, TypeError):
                continue
        raise SourceError(
            f"{self._port}: what the board sends arrives damaged; see to its cable, and try again."
        )


def _data(line: str, size: int) -> bytes:
    """The `size` bytes of a line; nothing stands for blank ones."""
    crc, _, text = line.partition(" ")
    data = base64.b64decode(text, validate=True) or b"\xff" * size
    if zlib.crc32(data) != int(crc) or len(data) != size:
        raise ValueError
    return data


def _exactly(count: int, items: Sequence[T]) -> Sequence[T]:
    if len(items) != count:
        raise ValueError
    return items
