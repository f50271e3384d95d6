"""What must go together in a board file: pins with the chip, partitions with the flash and one another."""

from collections.abc import Iterator

from host_tools import partitions
from host_tools.boards.model import Board, type_name
from host_tools.partitions import Partition
from host_tools.pki.partition import PARTITION_SIZE as IDENTITY_SIZE
from host_tools.spool.format import FEWEST_SECTORS, SECTOR_SIZE
from host_tools.spool.format import PARTITION_NAME as SPOOL
from host_tools.userfile import Problem, describe, problem

_FIRST_PARTITION = partitions.TABLE_OFFSET + partitions.SECTOR
_DATA = partitions.TYPE_DATA

STOCK = (
    Partition("nvs", _DATA, 0x02, 0x9000, 0x6000),
    Partition("phy_init", _DATA, 0x01, 0xF000, 0x1000),
    Partition("factory", partitions.TYPE_APP, 0x00, 0x10000, 0x1F0000),
)
"""The partition table inside MicroPython's images, the same for all chips. Its bootloader starts `factory`
where it stands, and a board that goes back to stock MicroPython finds its NVS again."""

OWN = (
    (Partition("identity", _DATA, 0x40, 0x200000, IDENTITY_SIZE), "keeps the node's keys"),
    (
        Partition(SPOOL, _DATA, 0x41, 0x204000, FEWEST_SECTORS * SECTOR_SIZE),
        "keeps the readings until a broker has them",
    ),
    (Partition("vfs", _DATA, 0x81, 0x284000, 0x40000), "holds the firmware and the settings"),
)
"""What limpet needs beside them, each with what it is for. Sizes are the least, offsets a proposal."""


def board_problems(board: Board) -> Iterator[Problem]:
    """What is wrong with a board whose values are right one by one."""
    yield from _pin_problems(board)
    yield from _console_problems(board)
    yield from _bus_problems(board)
    yield from _image_problems(board)
    yield from _each_partition(board)
    yield from _overlaps(board)
    yield from _needed_partitions(board)


def _pin_problems(board: Board) -> Iterator[Problem]:
    for index, pin in enumerate(board.pins):
        fault = _no_pin(board, pin)
        if fault:
            yield problem(("pins", index), f"{fault} Take it out.")
    for name, pin in board.names.items():
        fault = _no_pin(board, pin)
        if fault:
            yield problem(("names", name), f"{fault} Name another, or take the name out.")


def _no_pin(board: Board, pin: int) -> str | None:
    """Why no board with this chip can have a pin, as a sentence."""
    if pin not in board.features.gpios:
        return f"the {board.features.esptool_name} has no GPIO {pin}."
    if pin in board.features.flash:
        return f"GPIO {pin} is wired to the flash chip."
    return None


def _console_problems(board: Board) -> Iterator[Problem]:
    chip = board.features
    if board.console_kind == "usb-serial-jtag":
        expected = sorted(chip.usb)
        if not expected:
            text = f'the {chip.esptool_name} has no USB port of its own. Write kind = "uart".'
            yield problem(("console", "kind"), text)
        elif sorted(board.console_pins) != expected:
            text = f"the USB port of the {chip.esptool_name} is on other pins. Write pins = {expected}."
            yield problem(("console", "pins"), text)
        return
    for index, pin in enumerate(board.console_pins):
        fault = _no_pin(board, pin)
        if fault:
            yield problem(("console", "pins", index), f"{fault} Use another.")


def _bus_problems(board: Board) -> Iterator[Problem]:
    outputs = board.gpios() - board.features.input_only - board.taken()
    lines = (("i2c", board.i2c, ()), ("spi", board.spi, ("miso",)))
    for key, bus, inputs in lines:
        for name, pin in bus or ():
            if pin not in (board.gpios() - board.taken() if name in inputs else outputs):
                needed = "an input" if name in inputs else "an output"
                yield problem((key, name), f"GPIO {pin} of this board cannot be {needed}. Use another.")


def _image_problems(board: Board) -> Iterator[Problem]:
    image = board.micropython
    if image and image.offset != board.features.bootloader_offset:
        yield problem(
            ("micropython", "offset"),
            f"the ROM of the {board.features.esptool_name} looks for the image at "
            f"{board.features.bootloader_offset:#x}, not at {image.offset:#x}. Write that.",
        )


def _each_partition(board: Board) -> Iterator[Problem]:
    names: set[str] = set()
    for index, each in enumerate(board.partition_table()):
        path = ("partition", index)
        if each.name in names:
            yield problem((*path, "name"), f"there are two partitions {describe(each.name)}. Rename one.")
        names.add(each.name)
        if each.offset < _FIRST_PARTITION:
            yield problem(
                (*path, "offset"),
                f"{each.offset:#x} lies on the bootloader or the partition table. "
                f"Begin at {_FIRST_PARTITION:#x} or above.",
            )
        app = each.type == partitions.TYPE_APP
        for key, number, unit in (
            ("offset", each.offset, partitions.APP_ALIGNMENT if app else partitions.SECTOR),
            ("size", each.size, partitions.SECTOR),
        ):
            if number % unit:
                yield problem(
                    (*path, key),
                    f"{number:#x} is not a multiple of {unit:#x}. "
                    f"The next one is {-(-number // unit) * unit:#x}.",
                )
        if each.end > board.flash_size:
            yield problem(
                (*path, "size"),
                f"the partition ends at {each.end:#x}, beyond the flash of {board.flash_size:#x} bytes. "
                "Make it smaller.",
            )


def _overlaps(board: Board) -> Iterator[Problem]:
    in_place = sorted(enumerate(board.partition_table()), key=lambda pair: pair[1].offset)
    highest = in_place[0][1]
    for index, each in in_place[1:]:
        if each.offset < highest.end:
            yield problem(
                ("partition", index, "offset"),
                f"{describe(each.name)} begins at {each.offset:#x}, inside {describe(highest.name)}, "
                f"which ends at {highest.end:#x}. Move one of them.",
            )
        highest = max(highest, each, key=lambda partition: partition.end)


def _needed_partitions(board: Board) -> Iterator[Problem]:
    found = {each.name: (index, each) for index, each in reversed([*enumerate(board.partition_table())])}
    for stock in STOCK:
        if stock.name in found:
            yield from _moved(*found[stock.name], stock)
        else:
            yield _missing(stock, "is one of MicroPython's own")
    for own, purpose in OWN:
        if own.name in found:
            yield from _unfit(*found[own.name], own, purpose)
        else:
            yield _missing(own, purpose)


def _missing(needed: Partition, why: str) -> Problem:
    kind, subtype = (word if word.startswith("0x") else f'"{word}"' for word in type_name(needed).split())
    return problem(
        ("partition",),
        f"there is no partition {describe(needed.name)}, which {why}. Add {{ name = {describe(needed.name)}, "
        f"type = {kind}, subtype = {subtype}, offset = {needed.offset:#x}, size = {needed.size:#x} }}.",
    )


def _moved(index: int, partition: Partition, stock: Partition) -> Iterator[Problem]:
    name = describe(stock.name)
    for key in ("offset", "size"):
        number, expected = getattr(partition, key), getattr(stock, key)
        if number != expected:
            yield problem(
                ("partition", index, key),
                f"{name} is one of MicroPython's own partitions, and its {key} is {expected:#x}, "
                f"not {number:#x}. Leave it as it is.",
            )
    if type_name(partition) != type_name(stock):
        yield problem(
            ("partition", index, "subtype"),
            f"{name} is one of MicroPython's own partitions, of the kind {type_name(stock)}, "
            f"not {type_name(partition)}. Leave it as it is.",
        )


def _unfit(index: int, partition: Partition, own: Partition, purpose: str) -> Iterator[Problem]:
    name = describe(own.name)
    if partition.type != own.type:
        yield problem(
            ("partition", index, "type"),
            f'{name} {purpose}, and the node finds it only as one of type "data". Write that.',
        )
    if partition.size < own.size:
        yield problem(
            ("partition", index, "size"),
            f"{name} {purpose}, and {partition.size:#x} bytes are too few for that. "
            f"Give it {own.size:#x} or more.",
        )
