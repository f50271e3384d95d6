"""Programs for Espressif's chips as bytes: what the ROM and the second-stage bootloader load and check.

The format is that of ESP-IDF's esp_app_format.h and esptool's "Firmware Image Format": a header, segments,
padding with a checksum, and mostly the SHA-256 of all before it. Little-endian throughout. Pure functions.
"""

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass

from host_tools.errors import LimpetError

Read = Callable[[int, int], bytes]
"""Gives the bytes from an offset on, as many as are asked for; fewer where the source ends."""

MIB = 0x100000
MAGIC = 0xE9
HEADER_SIZE = 24
"""Bytes of the header and its extension."""

CHIPS = {
    0x0000: "ESP32",
    0x0002: "ESP32-S2",
    0x0005: "ESP32-C3",
    0x0009: "ESP32-S3",
    0x000C: "ESP32-C2",
    0x000D: "ESP32-C6",
    0x0010: "ESP32-H2",
    0x0012: "ESP32-P4",
    0x0014: "ESP32-C61",
    0x0017: "ESP32-C5",
    0x0019: "ESP32-H21",
    0x001C: "ESP32-H4",
}
"""Names by the number in the header (esp_chip_id_t)."""

# magic, segments, flash mode, flash size and frequency, entry point; the extension: WP pin, drive strengths,
# chip, least revision in its old form, least and last revision, reserved, whether a SHA-256 follows
_HEADER = struct.Struct("<BBBBIB3sHBHH4sB")
_SEGMENT = struct.Struct("<II")
_SIZE_AT = 3
_CHECKSUM_SEED = 0xEF
_DIGEST_SIZE = 32
_MOST_SEGMENTS = 16  # ESP_IMAGE_MAX_SEGMENTS
# esp_app_desc_t: magic, secure version, reserved, version, project, time, date, ESP-IDF
_APP = struct.Struct("<II8s32s32s16s16s32s")
_APP_MAGIC = 0xABCD5432
APP_DESCRIPTION_SIZE = 256
# esp_bootloader_desc_t: magic, reserved, bootloader version, ESP-IDF, date and time
_BOOTLOADER = struct.Struct("<B3sI32s24s")
_BOOTLOADER_MAGIC = 0x50
BOOTLOADER_DESCRIPTION_SIZE = 80


class EspImageError(LimpetError):
    """Bytes that no chip would start."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece that is loaded or mapped to `address`; its `size` bytes begin at `offset` in the image."""

    address: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Description:
    """What a program says of itself; the bootloader names no project, so that is empty there."""

    project: str
    version: str
    idf: str
    built: str


@dataclass(frozen=True, slots=True)
class EspImage:
    """A program that a chip would start."""

    chip_id: int
    entry: int
    flash_size: int
    """Bytes of flash that a bootloader believes in."""
    segments: tuple[Segment, ...]
    checksum_at: int
    """Where the checksum of the segments stands; a SHA-256 of all bytes up to here may follow."""
    size: int
    """Bytes of the image, its checksum and SHA-256 included."""
    description: Description | None

    @property
    def chip(self) -> str:
        """The chip's name, as esptool says it."""
        return CHIPS.get(self.chip_id, f"chip number {self.chip_id}")


def outline(read: Read) -> EspImage:
    """What an image says of itself, without the check of checksum and SHA-256: little of it is read.

    Raises EspImageError when it is no image, or when it ends too early.
    """
    header = read(0, HEADER_SIZE)
    if not header or header[0] != MAGIC:
        raise EspImageError(f"it begins with {f'0x{header[0]:02x}' if header else 'nothing'} instead of 0xe9")
    if len(header) < HEADER_SIZE:
        raise EspImageError(f"it is cut short, after {len(header)} bytes")
    _, count, _, size_and_speed, entry, _, _, chip_id, _, _, _, _, hashed = _HEADER.unpack(header)
    if not 1 <= count <= _MOST_SEGMENTS:
        raise EspImageError(f"it claims to have {count} segments")
    segments = []
    at = HEADER_SIZE
    for number in range(1, count + 1):
        head = read(at, _SEGMENT.size)
        if len(head) < _SEGMENT.size:
            raise EspImageError(f"it is cut short, before segment {number} of {count}")
        address, size = _SEGMENT.unpack(head)
        at += _SEGMENT.size
        segments.append(Segment(address, at, size))
        at += size
        if size and not read(at - 1, 1):
            raise EspImageError(f"it is cut short, within segment {number} of {count}")
    checksum_at = at | 0xF  # the last byte of 16
    end = checksum_at + 1 + (_DIGEST_SIZE if hashed else 0)
    if not read(end - 1, 1):
        raise EspImageError(f"it is cut short, and should have {end} bytes")
    return EspImage(
        chip_id=chip_id,
        entry=entry,
        flash_size=MIB << (size_and_speed >> 4),
        segments=tuple(segments),
        checksum_at=checksum_at,
        size=end,
        description=_description(read(segments[0].offset, min(segments[0].size, APP_DESCRIPTION_SIZE))),
    )


def parse(data: bytes) -> EspImage:
    """Read the image that `data` begins with, and check it as the chip's own loader does.

    Raises EspImageError when it is no image, cut short, or fails its checksum or SHA-256.
    """
    found = outline(lambda offset, size: data[offset : offset + size])
    checksum = _CHECKSUM_SEED
    for each in found.segments:
        checksum ^= _xor(data[each.offset : each.offset + each.size])
    if data[found.checksum_at] != checksum:
        raise EspImageError("its checksum does not fit its bytes")
    hashed = found.checksum_at + 1
    if found.size > hashed and hashlib.sha256(data[:hashed]).digest() != data[hashed : found.size]:
        raise EspImageError("its SHA-256 does not fit its bytes")
    return found


def chip_id(chip: str) -> int:
    """The number in the header of an image for `chip`, called as esptool does ("ESP32-S3")."""
    return next(number for number, name in CHIPS.items() if name == chip)


def validate(data: bytes, chip: str) -> str | None:
    """Why `chip`, called as esptool does ("ESP32-S3"), would not start the image; None when it would."""
    try:
        found = parse(data)
    except EspImageError as error:
        return str(error)
    return None if found.chip == chip else f"it is for the {found.chip}, not for the {chip}"


def with_flash_size(data: bytes, flash_size: int) -> bytes:
    """The image `data`, its header telling `flash_size` (bytes), its SHA-256 made anew.

    Raises EspImageError when no header can tell that size, or when `data` is no whole image.
    """
    found = parse(data)
    patched = bytearray(data[: found.size])
    patched[_SIZE_AT] = _size_code(flash_size) << 4 | patched[_SIZE_AT] & 0xF
    hashed = found.checksum_at + 1
    if found.size > hashed:
        patched[hashed:] = hashlib.sha256(patched[:hashed]).digest()
    return bytes(patched)


def build(chip_id: int, flash_size: int, address: int, content: bytes) -> bytes:
    """An image of one segment, `content`, that is loaded to `address`, where it starts as well.

    `flash_size` is bytes of flash. Raises EspImageError when no header can tell it.
    """
    content += bytes(-len(content) % 4)
    size_and_speed = _size_code(flash_size) << 4
    header = _HEADER.pack(
        MAGIC, 1, 2, size_and_speed, address, 0xEE, bytes(3), chip_id, 0, 0, 0xFFFF, bytes(4), 1
    )
    body = header + _SEGMENT.pack(address, len(content)) + content
    body = body.ljust(len(body) | 0xF, b"\0") + bytes([_CHECKSUM_SEED ^ _xor(content)])
    return body + hashlib.sha256(body).digest()


def app_description(project: str, version: str) -> bytes:
    """What a program begins its first segment with, so that tools can tell what it is."""
    packed = _APP.pack(_APP_MAGIC, 0, bytes(8), version.encode(), project.encode(), b"", b"", b"")
    return packed.ljust(APP_DESCRIPTION_SIZE, b"\0")


def bootloader_description() -> bytes:
    """What a bootloader begins its first segment with."""
    return _BOOTLOADER.pack(_BOOTLOADER_MAGIC, bytes(3), 1, b"", b"").ljust(
        BOOTLOADER_DESCRIPTION_SIZE, b"\0"
    )


def _size_code(flash_size: int) -> int:
    sizes = {MIB << code: code for code in range(8)}
    if flash_size not in sizes:
        raise EspImageError(f"no header can tell a flash of {flash_size:#x} bytes: it is 1, 2, 4, … 128 MiB")
    return sizes[flash_size]


def _description(area: bytes) -> Description | None:
    if len(area) >= _APP.size and area.startswith(_APP_MAGIC.to_bytes(4, "little")):
        _, _, _, version, project, time, date, idf = _APP.unpack_from(area)
        return Description(_text(project), _text(version), _text(idf), f"{_text(date)} {_text(time)}".strip())
    if len(area) >= _BOOTLOADER.size and area[0] == _BOOTLOADER_MAGIC:
        _, _, version, idf, built = _BOOTLOADER.unpack_from(area)
        return Description("", str(version), _text(idf), _text(built))
    return None


def _text(field: bytes) -> str:
    """A C string that may hold anything, made fit to be shown."""
    text = field.partition(b"\0")[0].decode("ascii", "replace")
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def _xor(data: bytes) -> int:
    """All bytes by exclusive or, a few big steps instead of many small ones."""
    padded = data + bytes(-len(data) % 8)
    width = 1
    value = int.from_bytes(padded, "little")
    bits = len(padded) * 8
    while width * 8 < bits:
        width *= 2
    while width > 1:
        width //= 2
        value = (value & ((1 << width * 8) - 1)) ^ (value >> width * 8)
    return value
