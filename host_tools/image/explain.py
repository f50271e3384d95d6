"""What an image is, and what is in it: a whole flash, a stock image, or a part of one."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from host_tools import boards, partitions
from host_tools.boards.model import type_name
from host_tools.errors import LimpetError
from host_tools.image import contents, esp
from host_tools.image.contents import Holding, Identity, Plain, Program
from host_tools.image.errors import ImageError
from host_tools.image.listing import Files, filesystem
from host_tools.image.recognise import mistaken
from host_tools.image.source import Source
from host_tools.partitions import TABLE_OFFSET, TABLE_SIZE, Partition, PartitionTableError

_TABLE_MAGIC = b"\xaa\x50"
_BOOTLOADERS = (0x1000, 0x0, 0x2000)  # where chips look for them
_BASES = sorted(_BOOTLOADERS)  # the byte of flash that a file begins with
_LITTLEFS_AT = 8
_LITTLEFS_MAGIC = b"littlefs"


@dataclass(frozen=True)
class Part:
    """A partition, and what it holds."""

    partition: Partition
    holding: Holding
    is_in_table: bool = True
    """Of the filesystem that MicroPython makes behind its own partitions the table knows nothing."""


@dataclass(frozen=True)
class Explanation:
    """What was found."""

    source: str
    kind: str
    """"flash", "stock", "program", "filesystem", "table" or "blank"."""
    size: int
    chip: str | None = None
    mac: str | None = None
    bootloader: Holding | None = None
    bootloader_offset: int = 0
    parts: tuple[Part, ...] = ()
    boards: tuple[str, ...] = ()
    """Those that have this chip, this much flash and this very partition table."""
    program: Holding | None = None
    files: Holding | None = None
    problems: tuple[str, ...] = field(default=())

    @property
    def application(self) -> Program | None:
        """The program that the bootloader starts, or the one that is all there is."""
        if isinstance(self.program, Program):
            return self.program
        programs = (each.holding for each in self.parts if each.partition.type == partitions.TYPE_APP)
        return next((each for each in programs if isinstance(each, Program)), None)

    @property
    def filesystem(self) -> Files | None:
        """The node's files."""
        holdings = [self.files, *(each.holding for each in self.parts)]
        return next((each for each in holdings if isinstance(each, Files)), None)

    @property
    def identity(self) -> Identity | None:
        """The node's identity."""
        return next((each.holding for each in self.parts if isinstance(each.holding, Identity)), None)


def explain(source: Source, firmware: Mapping[str, bytes] | None) -> Explanation:
    """Explain the image in `source`; its files are held against those of `firmware`, if that is known.

    Raises ImageError when it is no image at all.
    """
    head = source.read(0, esp.HEADER_SIZE)
    for base in _BASES:
        table = source.read(TABLE_OFFSET - base, TABLE_SIZE)
        if table.startswith(_TABLE_MAGIC) and (base == 0 or head[:1] == bytes([esp.MAGIC])):
            return _with_table(source, base, table, firmware)
    if head.startswith(_TABLE_MAGIC):
        return _table_alone(source)
    if head[_LITTLEFS_AT:].startswith(_LITTLEFS_MAGIC):
        files = filesystem(source.read, source.size, firmware)
        return Explanation(source.name, "filesystem", source.size, files=files)
    if _is_blank(source):
        return Explanation(source.name, "blank", source.size, source.chip, source.mac)
    if head[:1] == bytes([esp.MAGIC]):
        return _program_alone(source)
    return _whole_without_table(source)


def _with_table(source: Source, base: int, data: bytes, firmware: Mapping[str, bytes] | None) -> Explanation:
    """A flash, or a stock image that begins at byte `base` of one."""
    start = base or _bootloader_offset(source)
    is_slow = source.is_slow
    bootloader = contents.program(
        _window(source, start - base, TABLE_OFFSET - start), is_slow=is_slow, is_bootloader=True
    )
    problems = []
    table: tuple[Partition, ...] = ()
    try:
        table = partitions.decode(data)
    except PartitionTableError as error:
        problems.append(str(error))
    end = base + source.size
    apps = [each.end for each in table if each.type == partitions.TYPE_APP]
    is_stock = source.read(0, 1) == bytes([esp.MAGIC]) and end <= max(apps, default=0)
    chip = bootloader.image.chip if isinstance(bootloader, Program) else source.chip
    node_id = None
    parts = []
    for each in table:
        holding = _holding(source, each, base, firmware, node_id)
        if isinstance(holding, Identity):
            node_id = holding.node_id
        parts.append(Part(each, holding))
    if is_stock:
        kind = "stock"
    else:
        kind = "flash"
        parts += _behind(source, table, firmware)
        short = [each.name for each in table if each.end > end]
        if short:
            problems.append(
                f"It ends at {end:#x}, before the end of {_list(short)}: it is cut short, or the flash is "
                "smaller than the table says."
            )
    if not isinstance(bootloader, Program):
        problems.append("There is no bootloader that would start: a board does not boot from this.")
    if table and not any(isinstance(each.holding, Program) for each in parts):
        problems.append("There is no program that would start: a board does not boot from this.")
    return Explanation(
        source.name,
        kind,
        source.size,
        chip,
        source.mac,
        bootloader,
        start,
        tuple(parts),
        () if is_stock else _boards(chip, source.size, table),
        problems=tuple(problems),
    )


def _holding(
    source: Source, each: Partition, base: int, firmware: Mapping[str, bytes] | None, node_id: str | None
) -> Holding:
    start = each.offset - base
    size = min(each.size, source.size - start)
    if size <= 0:
        return Plain("not in this file")
    read = _window(source, start, size)
    if each.type == partitions.TYPE_APP:
        return contents.program(read, is_slow=source.is_slow)
    if each.name == "identity":
        return contents.identity_of(read(0, size))
    if each.name == "spool":
        return contents.spool(read, size, node_id, is_slow=source.is_slow)
    if each.name in ("vfs", "ffat"):
        return filesystem(read, size, firmware)
    if type_name(each) == "data nvs":
        return contents.pages(read, size)
    return contents.unknown(read, size, is_slow=source.is_slow)


def _behind(source: Source, table: tuple[Partition, ...], firmware: Mapping[str, bytes] | None) -> list[Part]:
    """The filesystem that stock MicroPython makes behind the last partition, where the table has none."""
    start = max((each.end for each in table), default=source.size)
    if any(each.name in ("vfs", "ffat") for each in table) or start >= source.size:
        return []
    vfs = Partition("vfs", partitions.TYPE_DATA, 0x81, start, source.size - start)
    return [Part(vfs, _holding(source, vfs, 0, firmware, None), is_in_table=False)]


def _bootloader_offset(source: Source) -> int:
    known = {each.esptool_name: each.bootloader_offset for each in boards.CHIPS.values()}
    if source.chip in known:
        return known[source.chip]
    starts = [start for start in _BOOTLOADERS if source.read(start, 1) == bytes([esp.MAGIC])]
    return next(iter(starts), _BOOTLOADERS[0])


def _boards(chip: str | None, size: int, table: tuple[Partition, ...]) -> tuple[str, ...]:
    found = []
    for name in boards.known_boards():
        try:
            board = boards.load_board(name)
        except LimpetError:
            continue  # a board file that is wrong is another command's affair
        if (board.features.esptool_name, board.flash_size, board.partition_table()) == (chip, size, table):
            found.append(name)
    return tuple(found)


def _table_alone(source: Source) -> Explanation:
    try:
        table = partitions.decode(source.read(0, TABLE_SIZE))
    except PartitionTableError as error:
        raise ImageError(f"{source.name}: {error}") from None
    parts = tuple(Part(each, Plain("not in this file")) for each in table)
    return Explanation(source.name, "table", source.size, parts=parts)


def _program_alone(source: Source) -> Explanation:
    holding = contents.program(_window(source, 0, source.size), is_slow=source.is_slow)
    if not isinstance(holding, Program):
        raise ImageError(f"{source.name} is {holding.text()}: fetch it again.")
    return Explanation(source.name, "program", source.size, holding.image.chip, program=holding)


def _whole_without_table(source: Source) -> Explanation:
    """A flash whose table is missing, or no image at all."""
    for start in _BOOTLOADERS:
        bootloader = contents.program(
            _window(source, start, TABLE_OFFSET - start), is_slow=source.is_slow, is_bootloader=True
        )
        if isinstance(bootloader, Program):
            problem = f"There is no partition table at {TABLE_OFFSET:#x}: a board does not boot from this."
            chip = bootloader.image.chip
            return Explanation(
                source.name, "flash", source.size, chip, source.mac, bootloader, start, problems=(problem,)
            )
    wrong = mistaken(source.read(0, min(source.size, 1 << 20)))
    if wrong:
        raise ImageError(f"{source.name} is {wrong[0]}, no image: {wrong[1]}.")
    start_hex = source.read(0, 4).hex(" ")
    raise ImageError(
        f"{source.name} is no image that limpet can read: it begins with {start_hex}, and there is no "
        f"partition table at {TABLE_OFFSET:#x}; name an image, or one of a whole flash."
    )


def _is_blank(source: Source) -> bool:
    if not source.is_slow:
        data = source.read(0, source.size)
        return bool(data) and data.count(0xFF) == len(data)
    pieces = [source.read(start, esp.HEADER_SIZE) for start in (*_BOOTLOADERS, TABLE_OFFSET)]
    return all(piece.count(0xFF) == len(piece) for piece in pieces)


def _window(source: Source, start: int, size: int) -> esp.Read:
    """Reads a part of the source, from byte 0 of it, and no further."""

    def read(offset: int, count: int) -> bytes:
        return source.read(start + offset, max(0, min(count, size - offset)))

    return read


def _list(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
