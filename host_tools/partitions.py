"""The ESP32's partition table as bytes: what stands in flash at 0x8000.

The format is ESP-IDF's (API guide "Partition Tables", `gen_esp32part.py`): entries of 32 bytes, then
an entry with the MD5 of all entries before it, then 0xFF up to 0xC00 bytes. Little-endian throughout.
Pure functions: reading and writing flash is for the callers.
"""

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from host_tools.errors import LimpetError

TABLE_OFFSET = 0x8000
"""Where the table stands in flash (ESP-IDF's default, and MicroPython's)."""

TABLE_SIZE = 0xC00
"""Bytes of a whole table, its padding included."""

SECTOR = 0x1000
"""The flash's erase unit in bytes; every partition begins and ends on one."""

APP_ALIGNMENT = 0x10000
"""Programs run from flash through the cache, which maps pages of 64 KiB."""

TYPE_APP = 0x00
TYPE_DATA = 0x01

_ENTRY = struct.Struct("<2sBBII16sI")
_MAGIC = b"\xaa\x50"
_MD5_MAGIC = b"\xeb\xeb" + b"\xff" * 14
_BLANK_ENTRY = b"\xff" * _ENTRY.size
# One entry goes to the MD5, and ESP-IDF's tool leaves one more blank as the end mark.
MAX_PARTITIONS = TABLE_SIZE // _ENTRY.size - 2
MAX_NAME_BYTES = 15


class PartitionTableError(LimpetError):
    """A partition table that cannot be made, read, or that lacks what is asked for."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One entry. `offset` and `size` are bytes of flash; `flags` is 1 for an encrypted partition, else 0."""

    name: str
    type: int
    subtype: int
    offset: int
    size: int
    flags: int = 0

    @property
    def end(self) -> int:
        """The first byte of flash after the partition."""
        return self.offset + self.size


def encode(partitions: Sequence[Partition]) -> bytes:
    """The table as 0xC00 bytes.

    Raises PartitionTableError for more than 94 partitions, or a name or a number that an entry cannot hold.
    Overlap and alignment are the board's affair (`host_tools.boards`).
    """
    if len(partitions) > MAX_PARTITIONS:
        raise PartitionTableError(
            f"A partition table holds at most {MAX_PARTITIONS} partitions, not {len(partitions)}."
        )
    entries = b"".join(_encode_entry(partition) for partition in partitions)
    return (entries + _MD5_MAGIC + _md5(entries)).ljust(TABLE_SIZE, b"\xff")


def decode(data: bytes) -> tuple[Partition, ...]:
    """The partitions of a table; bytes after the first 0xC00 are not looked at.

    Raises PartitionTableError when the table is cut short, blank, not a table, or fails its MD5.
    """
    if len(data) < TABLE_SIZE:
        raise PartitionTableError(
            f"The partition table is cut short: {len(data)} bytes instead of {TABLE_SIZE}. "
            "Read or compose the image again."
        )
    table = bytes(data[:TABLE_SIZE])
    if table == b"\xff" * TABLE_SIZE:
        raise PartitionTableError("The partition table is blank: nothing was flashed. Flash a whole image.")
    found: list[Partition] = []
    for start in range(0, TABLE_SIZE, _ENTRY.size):
        entry = table[start : start + _ENTRY.size]
        if entry.startswith(_MAGIC):
            found.append(_decode_entry(entry, start))
        elif entry.startswith(_MD5_MAGIC):
            _check_md5(table[:start], entry[len(_MD5_MAGIC) :])
            return tuple(found)
        elif entry == _BLANK_ENTRY:
            break
        else:
            raise PartitionTableError(
                f"There is no partition table here: entry {start // _ENTRY.size} begins with "
                f"0x{entry[:2].hex()} instead of 0xaa50. Flash a whole image."
            )
    raise PartitionTableError(
        f"The partition table ends after {len(found)} entries without its MD5 checksum. Flash a whole image."
    )


def find(partitions: Iterable[Partition], name: str) -> Partition:
    """The partition called `name`; PartitionTableError names those that are there."""
    known = {partition.name: partition for partition in partitions}
    if name not in known:
        raise PartitionTableError(
            f"There is no partition '{name}' in the table: it has {', '.join(known) or 'none'}. "
            "Flash an image made for this board."
        )
    return known[name]


def _encode_entry(partition: Partition) -> bytes:
    label = partition.name.encode()
    if not label or len(label) > MAX_NAME_BYTES or b"\0" in label:
        raise PartitionTableError(
            f"A partition's name must have 1 to {MAX_NAME_BYTES} bytes, unlike '{partition.name}'."
        )
    try:
        return _ENTRY.pack(
            _MAGIC,
            partition.type,
            partition.subtype,
            partition.offset,
            partition.size,
            label,
            partition.flags,
        )
    except struct.error:
        raise PartitionTableError(
            f"A number of partition '{partition.name}' does not fit: type and subtype are 0 to 255, "
            "offset and size 0 to 0xffffffff."
        ) from None


def _decode_entry(entry: bytes, start: int) -> Partition:
    _, kind, subtype, offset, size, label, flags = _ENTRY.unpack(entry)
    try:
        name = label.partition(b"\0")[0].decode()
    except UnicodeDecodeError:
        raise PartitionTableError(
            f"Entry {start // _ENTRY.size} of the partition table has a name that is not text. "
            "Flash a whole image."
        ) from None
    return Partition(name, kind, subtype, offset, size, flags)


def _md5(entries: bytes) -> bytes:
    # A checksum against damage, as ESP-IDF defines it; not a safeguard against people.
    return hashlib.md5(entries, usedforsecurity=False).digest()


def _check_md5(entries: bytes, expected: bytes) -> None:
    if _md5(entries) != expected:
        raise PartitionTableError(
            "The partition table is damaged: its MD5 checksum does not fit its entries. Flash a whole image."
        )
