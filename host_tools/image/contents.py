"""What the parts of a flash hold: programs, an identity, a spool. Never a secret."""

import re
from dataclasses import dataclass
from typing import Any, Protocol

from host_tools.errors import LimpetError
from host_tools.image import esp
from host_tools.image.volume import BLOCK
from host_tools.pki import partition as identity
from host_tools.spool import format as spool_format
from host_tools.spool import ring
from host_tools.spool.format import State

_BANNER = re.compile(rb"MicroPython v(\S+) on (\d{4}-\d\d-\d\d)\0+; ([ -~]*)\0")
_BANNER_SPAN = 192  # bytes that a banner and the board's name take at most
_BANNER_PIECE = 4096
_BANNER_WITHIN = 256 * 1024  # 1.27 has it in the first 32 KiB of its constants
_QUICK = 64 * 1024  # bytes that are soon read over a serial port


class Holding(Protocol):
    """What a part of a flash holds."""

    def text(self) -> str:
        """A line for people."""

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""


@dataclass(frozen=True)
class Plain:
    """What there is no more to say about."""

    what: str

    def text(self) -> str:
        return self.what

    def as_json(self) -> dict[str, Any]:
        return {}


BLANK = Plain("blank")


@dataclass(frozen=True)
class MicroPython:
    """What a program of MicroPython says of itself in its banner."""

    version: str
    date: str
    machine: str


@dataclass(frozen=True)
class Program:
    """A program for a chip: a bootloader, MicroPython, or anything else."""

    image: esp.EspImage
    micropython: MicroPython | None
    is_bootloader: bool
    is_checked: bool
    """Its checksum and its SHA-256 were seen to fit. A large one is not read in full over a serial port."""

    def text(self) -> str:
        said = self.image.description
        if self.micropython:
            what = f"MicroPython {self.micropython.version} of {self.micropython.date}"
        elif self.is_bootloader:
            what = "bootloader"
        elif said and said.project:
            what = f"{said.project} {said.version}".strip()
        else:
            what = "a program that does not say its name"
        made = f", ESP-IDF {said.idf}" if said and said.idf else ""
        checked = "" if self.is_checked else ", not read to its end"
        return f"{what} for the {self.image.chip}{made}, {self.image.size} bytes{checked}"

    def as_json(self) -> dict[str, Any]:
        said = self.image.description
        return {
            "program": {
                "chip": self.image.chip,
                "bytes": self.image.size,
                "project": said.project or None if said else None,
                "version": said.version or None if said else None,
                "esp_idf": said.idf or None if said else None,
                "checked": self.is_checked,
            }
        }


@dataclass(frozen=True)
class Identity:
    """Whose identity a partition holds; the key and the certificates are not told."""

    node_id: str
    slot: int
    trial: bool = False
    """Beside the one before it, until it has proved itself."""
    pending: bool = False
    """A key waits for its certificate in the other slot."""

    def text(self) -> str:
        more = ", on trial beside the older one" if self.trial else ""
        more += ", and a key waits for its certificate" if self.pending else ""
        return f"the identity of {self.node_id}, in slot {self.slot}{more}"

    def as_json(self) -> dict[str, Any]:
        return {"node": self.node_id, "slot": self.slot, "trial": self.trial, "pending": self.pending}


@dataclass(frozen=True)
class SpoolFill:
    """How full a spool is. Only a spool that was read whole tells its readings."""

    sectors: int
    in_use: int
    waiting: int | None
    held: int | None
    capacity: int
    foreign: int
    """Sectors of another node, which this one would erase."""

    def text(self) -> str:
        used = f"{self.in_use} in use" if self.in_use else "empty"
        if self.in_use and self.held is not None:
            used += f": {self.waiting} readings wait, {self.held} are held, about {self.capacity} fit"
        foreign = f", {self.foreign} of another node" if self.foreign else ""
        return f"a spool of {self.sectors} sectors, {used}{foreign}"

    def as_json(self) -> dict[str, Any]:
        return {
            "spool": {
                "sectors": self.sectors,
                "in_use": self.in_use,
                "waiting": self.waiting,
                "held": self.held,
                "capacity": self.capacity,
                "foreign": self.foreign,
            }
        }


def program(read: esp.Read, *, is_slow: bool, is_bootloader: bool = False) -> Holding:
    """The program that `read` begins with; the size of what can be read bounds it."""
    head = read(0, esp.HEADER_SIZE)
    if head.count(0xFF) == len(head):
        return BLANK
    try:
        image = esp.outline(read)
        is_checked = not is_slow or image.size <= _QUICK
        if is_checked:
            image = esp.parse(read(0, image.size))
    except esp.EspImageError as error:
        return Plain(f"no program that would start ({error})")
    banner = None if is_bootloader else _banner(read, image.segments[0])
    return Program(image, banner, is_bootloader, is_checked)


def identity_of(data: bytes) -> Holding:
    """The identity in the whole partition `data`."""
    try:
        found = identity.decode(data)
    except identity.IdentityDamagedError as error:
        slots = error.damage
        if slots == (identity.BLANK, identity.BLANK):
            return Plain("no identity, it is blank")
        if set(slots) <= {identity.BLANK, identity.PENDING}:
            return Plain("no identity, a key waits for its certificate")
        return Plain(f"no usable identity (slot 0: {slots[0]}; slot 1: {slots[1]})")
    except LimpetError:
        return Plain(f"no identity: the partition has {len(data)} bytes instead of {identity.PARTITION_SIZE}")
    return Identity(found.identity.node_id, found.slot, found.trial, found.pending)


def spool(read: esp.Read, size: int, node_id: str | None, *, is_slow: bool) -> Holding:
    """The spool in a partition of `size` bytes; of a slow source only the headers are read."""
    starts = range(0, size, spool_format.SECTOR_SIZE)
    if is_slow:
        heads = (read(start, spool_format.HEADER_SIZE) for start in starts)
        data = b"".join(head.ljust(spool_format.SECTOR_SIZE, b"\xff") for head in heads)
    else:
        data = read(0, size)
    try:
        found = ring.decode(data, node_id)
    except LimpetError:
        return Plain("too small for a spool, or cut short")
    waiting = sum(each.seq >= found.cursor for each in found.readings)
    return SpoolFill(
        sectors=len(found.sectors),
        in_use=found.count(State.LIVE),
        waiting=None if is_slow else waiting,
        held=None if is_slow else len(found.readings),
        capacity=found.capacity,
        foreign=sum(each.opening is not None and each.opening.owner != found.owner for each in found.sectors),
    )


def pages(read: esp.Read, size: int) -> Holding:
    """NVS, of which each page of 4096 bytes begins with its state."""
    used = sum(read(start, 4) != b"\xff" * 4 for start in range(0, size, BLOCK))
    return Plain(f"{used} of {size // BLOCK} pages in use") if used else BLANK


def unknown(read: esp.Read, size: int, *, is_slow: bool) -> Holding:
    """A partition that limpet has no use for."""
    data = read(0, min(size, BLOCK) if is_slow else size)
    return BLANK if data.count(0xFF) == len(data) else Plain("in use")


def _banner(read: esp.Read, constants: esp.Segment) -> MicroPython | None:
    """MicroPython's banner, among the constants that a program begins with."""
    end = min(constants.size, _BANNER_WITHIN)
    data = b""
    for start in range(0, end, _BANNER_PIECE):
        piece = read(constants.offset + start, min(_BANNER_PIECE, end - start))
        data = data[-_BANNER_SPAN:] + piece
        found = _BANNER.search(data)
        if found:
            return MicroPython(*(part.decode("ascii", "replace") for part in found.groups()))
    return None
