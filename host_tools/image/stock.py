"""A stock image of MicroPython: one file from the bootloader on, with a partition table and the program."""

from dataclasses import dataclass

from host_tools import partitions
from host_tools.image import esp
from host_tools.image.errors import ImageError, ImageRefusedError
from host_tools.image.recognise import mistaken
from host_tools.partitions import Partition, PartitionTableError


@dataclass(frozen=True, slots=True)
class Programs:
    """The two programs of a flash: what the ROM starts, and what that one starts."""

    bootloader: bytes
    app: bytes


def split(data: bytes, name: str, chip: str, start: int) -> Programs:
    """The programs of the stock image `data`, called `name`, which goes to byte `start` of flash.

    `chip` is called as esptool does. Raises ImageRefusedError when that chip could not run the image.
    """
    wrong = mistaken(data)
    if wrong:
        raise ImageRefusedError(f"{name} is {wrong[0]}, no image of MicroPython: {wrong[1]}.")
    try:
        bootloader = _program(data, chip)
        table = partitions.decode(data[partitions.TABLE_OFFSET - start :])
        place = app_partition(table)
        app = _program(data[place.offset - start :], chip)
    except (esp.EspImageError, PartitionTableError, ImageError) as error:
        reason = str(error).rstrip(".")
        raise ImageRefusedError(
            f"{name} is no whole image of MicroPython for the {chip} ({reason}): fetch the right one again."
        ) from None
    return Programs(bootloader, app)


def app_partition(table: tuple[Partition, ...]) -> Partition:
    """The partition that the bootloader starts: `factory`, else the first OTA slot.

    Raises ImageError when there is none for a program.
    """
    apps = [each for each in table if each.type == partitions.TYPE_APP]
    if not apps:
        raise ImageError('there is no partition for a program: add one of type "app"')
    return min(apps, key=lambda each: each.subtype)


def _program(data: bytes, chip: str) -> bytes:
    problem = esp.validate(data, chip)
    if problem:
        raise esp.EspImageError(problem)
    return data[: esp.parse(data).size]
