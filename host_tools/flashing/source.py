"""The image of a whole flash that boards shall have, checked before any of them is touched."""

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path

from littlefs import LittleFSError

from host_tools import image, partitions
from host_tools.boards import Board
from host_tools.errors import RefusedError
from host_tools.flashing.plan import Span
from host_tools.image import ImageError, esp, files, stock, volume
from host_tools.image.recognise import mistaken
from host_tools.partitions import Partition

# Where an image's header has the least and the last revision of its chip (ESP-IDF, esp_image_header_t).
_REVISIONS = struct.Struct("<HH")
_REVISIONS_AT = 15
_ANY_REVISION = (0, 0xFFFF)


@dataclass(frozen=True)
class Image:
    """An image that its board would start."""

    flash: bytes
    """All of it, as long as the board's flash."""
    spans: tuple[Span, ...]
    """What of it is written; the rest of the flash stays the board's own."""
    sha256: str
    has_firmware: bool
    """The node's firmware is in its filesystem; else MicroPython alone."""
    revisions: tuple[int, int]
    """The least and the last revision of the chip that it starts on."""


def from_file(path: Path, board: Board) -> Image:
    """The image in a file that `limpet image build` made.

    Raises ImageError, or RefusedError when it is for another board.
    """
    flash = files.read(path, "flash image")
    if wrong := mistaken(flash):
        raise ImageError(f"{path} is no flash image but {wrong[0]}: {wrong[1]}.")
    return checked(flash, str(path), board)


def checked(flash: bytes, name: str, board: Board) -> Image:
    """The image `flash`, called `name`. Raises ImageError, or RefusedError when it is for another board."""
    chip = board.features.esptool_name
    bootloader = flash[board.features.bootloader_offset : partitions.TABLE_OFFSET]
    if other := _other_chip(flash, chip):
        raise RefusedError(
            f"{name} is for the {other}, but board '{board.name}' has an {chip}: name another "
            "image or --board."
        )
    if len(flash) != board.flash_size:
        raise ImageError(
            f"{name} has {len(flash)} bytes, but the flash of '{board.name}' has {board.flash_size}: name an "
            "image of the whole flash, as 'limpet image build' makes it."
        )
    table = _table(flash, name, board)
    app = stock.app_partition(table)
    for what, program in (("bootloader", bootloader), ("program", flash[app.offset : app.end])):
        if problem := esp.validate(program, chip):
            raise ImageError(f"{name} has no {what} that starts ({problem}): build it again.")
    vfs = partitions.find(table, "vfs")
    return Image(
        flash=flash,
        spans=tuple(Span(region.offset, len(region.data)) for region in image.regions(board, flash)),
        sha256=hashlib.sha256(flash).hexdigest(),
        has_firmware=_has_firmware(flash[vfs.offset : vfs.end], name),
        revisions=_revisions(bootloader),
    )


def _table(flash: bytes, name: str, board: Board) -> tuple[Partition, ...]:
    """The partition table, which must be the board's."""
    wanted = board.partition_table()
    try:
        found = partitions.decode(flash[partitions.TABLE_OFFSET :])
    except partitions.PartitionTableError as error:
        raise ImageError(f"{name} cannot boot: {error}") from None
    if set(found) != set(wanted):
        raise RefusedError(
            f"{name} has other partitions than board '{board.name}': build it for this board, or name "
            "another --board."
        )
    return wanted


def _other_chip(flash: bytes, chip: str) -> str | None:
    """The chip whose image this is, when it is not `chip`."""
    for offset in (0x0, 0x1000):
        try:
            found = esp.parse(flash[offset : partitions.TABLE_OFFSET]).chip
        except esp.EspImageError:
            continue
        if found != chip:
            return found
    return None


def _revisions(bootloader: bytes) -> tuple[int, int]:
    least, last = _REVISIONS.unpack_from(bootloader, _REVISIONS_AT)
    return (least, last) if last else _ANY_REVISION  # an image from before these fields


def _has_firmware(area: bytes, name: str) -> bool:
    fs = volume.littlefs(len(area))
    fs.context.buffer[:] = area
    try:
        fs.mount()
        return {"main.py", "limpet"} <= set(fs.listdir("/"))
    except (LittleFSError, OSError, ValueError) as error:
        if not area.strip(b"\xff"):
            return False  # MicroPython makes a new one where there is nothing
        raise ImageError(
            f"{name} has a damaged littlefs in partition 'vfs' ({error}): build it again."
        ) from None
