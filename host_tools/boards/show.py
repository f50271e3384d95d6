"""A board as people read it, and as JSON."""

from collections.abc import Iterator, Sequence
from typing import Any

from host_tools.boards.flash_map import KIB, Marks, areas, drawing
from host_tools.boards.model import MIB, Board

_CONSOLES = {
    "uart": "a USB bridge on GPIO {}; its DTR and RTS reset the chip",
    "usb-serial-jtag": "the chip's own USB port (USB Serial/JTAG) on GPIO {}",
}


def listed(boards: Sequence[Board]) -> list[str]:
    """A line for each board."""
    rows = [
        (
            each.name,
            each.features.esptool_name,
            f"{each.flash_size // MIB} MiB",
            each.console_kind,
            each.title,
        )
        for each in boards
    ]
    columns = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, columns, strict=True)).rstrip()
        for row in rows
    ]


def text(board: Board, width: int, marks: Marks) -> list[str]:
    """All there is to know of a board, at most `width` columns wide where its own texts allow it."""
    lines = [f"{board.name}: {board.title}"]
    lines += [f"  {key:<11}  {value}" for key, value in _facts(board)]
    lines += ["", f"Flash, in KiB of {board.flash_size // KIB}", *drawing(board, width, marks)]
    lines += ["", "Pins", *_pin_lines(board)]
    return lines


def as_json(board: Board) -> dict[str, Any]:
    """The board as one JSON object; docs/boards.md describes it."""
    chip = board.features
    return {
        **summary(board),
        "bootloader_offset": chip.bootloader_offset,
        "i2c": board.i2c and board.i2c.model_dump(),
        "spi": board.spi and board.spi.model_dump(),
        "micropython": board.micropython and board.micropython.model_dump(),
        "names": board.names,
        "pins": [{"gpio": gpio, "roles": list(_roles(board, gpio))} for gpio in sorted(board.gpios())],
        "partitions": [
            {"name": p.name, "type": p.type, "subtype": p.subtype, "offset": p.offset, "size": p.size}
            for p in board.partition_table()
        ],
        "flash": [
            {"name": area.name, "offset": area.offset, "size": area.size, "used": area.used}
            for area in areas(board)
        ],
    }


def summary(board: Board) -> dict[str, Any]:
    """What the list of boards tells of each, as JSON."""
    return {
        "name": board.name,
        "title": board.title,
        "chip": board.chip,
        "flash_size": board.flash_size,
        "console": board.console.model_dump(),
        "capabilities": board.capabilities,
    }


def _facts(board: Board) -> Iterator[tuple[str, str]]:
    yield "chip", f"{board.features.esptool_name}, {board.flash_size // MIB} MiB of flash"
    if board.capabilities:
        yield "has", ", ".join(board.capabilities)
    pins = " and ".join(map(str, board.console_pins))
    yield "console", _CONSOLES[board.console_kind].format(pins)
    for key, bus in (("I2C", board.i2c), ("SPI", board.spi)):
        if bus:
            yield key, ", ".join(f"{line} {board.label(pin)}" for line, pin in bus)
    image = board.micropython
    if image:
        yield "MicroPython", f"{image.version} at {image.offset:#x}: {image.name}"
        yield "", f"SHA-256 {image.sha256[:32]}"
        yield "", f"        {image.sha256[32:]}"
    else:
        yield "MicroPython", "none for a chip: the unix port runs in its place"


def _pin_lines(board: Board) -> list[str]:
    """A line for each pin that is brought out, and for each named one."""
    called: dict[int, list[str]] = {}
    for name, gpio in board.names.items():
        called.setdefault(gpio, []).append(name)
    rows = [
        (str(gpio), ", ".join(called.get(gpio, [])), ", ".join(_roles(board, gpio)))
        for gpio in sorted(board.gpios() | called.keys())
    ]
    named = max((len(names) for _, names, _ in rows), default=0)
    gap = "  " if named else ""
    return [f"{gpio:>4}  {names:<{named}}{gap}{roles}".rstrip() for gpio, names, roles in rows]


def _roles(board: Board, gpio: int) -> Iterator[str]:
    """What the pin is or can be, in a few words each."""
    chip = board.features
    if gpio not in board.gpios():
        yield "on the board"
    if gpio in board.console_pins:
        yield "console"
    elif gpio in chip.usb:
        yield "USB"
    for bus in (board.i2c, board.spi):
        for line, pin in bus or ():
            if pin == gpio:
                yield line
    if gpio in chip.input_only:
        yield "input only"
    if gpio in chip.adc:
        yield "analog"
    if gpio in chip.adc_without_wifi:
        yield "analog without Wi-Fi"
    if gpio in chip.strapping:
        yield "read at start"
