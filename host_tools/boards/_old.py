"""Boards: one TOML file each in `boards/`, and what their chips' pins can do.

A board file says what differs from board to board: flash size, partitions, the pins that the module
brings out, its console and its buses.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationInfo

from host_tools import partitions, paths
from host_tools.errors import LimpetError
from host_tools.partitions import Partition
from host_tools.userfile import (
    Problem,
    UserFileError,
    check_table,
    describe,
    did_you_mean,
    problem,
    read,
    wrong,
)

_TYPES = {"app": partitions.TYPE_APP, "data": partitions.TYPE_DATA}
# ESP-IDF's names (esp_partition.h); types and subtypes of one's own are numbers.
_SUBTYPES: dict[int, dict[str, int]] = {
    partitions.TYPE_APP: {
        "factory": 0x00,
        "test": 0x20,
        **{f"ota_{slot}": 0x10 + slot for slot in range(16)},
    },
    partitions.TYPE_DATA: {
        "ota": 0x00,
        "phy": 0x01,
        "nvs": 0x02,
        "coredump": 0x03,
        "nvs_keys": 0x04,
        "efuse": 0x05,
        "undefined": 0x06,
        "fat": 0x81,
        "spiffs": 0x82,
        "littlefs": 0x83,
    },
}
_FIRST_PARTITION = partitions.TABLE_OFFSET + partitions.SECTOR
_MIB = 0x100000


class UnknownBoard(LimpetError):
    """There is no board of that name."""


@dataclass(frozen=True)
class Chip:
    """What the GPIOs of a chip can do."""

    gpios: frozenset[int]
    """All that exist."""
    flash: frozenset[int]
    """Wired to the flash chip inside the module."""
    input_only: frozenset[int]
    """Without an output driver, and without pull-ups."""
    adc: frozenset[int]
    """Analog inputs that work while Wi-Fi is on."""
    adc_without_wifi: frozenset[int]
    """Analog inputs of the converter that Wi-Fi takes for itself."""
    strapping: frozenset[int]
    """Read at reset to choose how the chip boots."""


CHIPS = {
    # ESP32 Series Datasheet: "Pin Overview", "Strapping Pins", "Analog Functions" (ADC1 and ADC2 channels).
    "esp32": Chip(
        gpios=frozenset({*range(20), *range(21, 24), *range(25, 28), *range(32, 40)}),
        flash=frozenset(range(6, 12)),
        input_only=frozenset(range(34, 40)),
        adc=frozenset(range(32, 40)),
        adc_without_wifi=frozenset({0, 2, 4, *range(12, 16), *range(25, 28)}),
        strapping=frozenset({0, 2, 5, 12, 15}),
    ),
}


class _Table(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


def _byte(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 0xFF:
        raise ValueError
    return value


def _type(value: object) -> int:
    return _TYPES[value] if isinstance(value, str) and value in _TYPES else _byte(value)


def _subtype(value: object, info: ValidationInfo) -> int:
    if not isinstance(value, str):
        return _byte(value)
    if "type" not in info.data:  # it is wrong, and told; nobody can judge the name
        return 0
    names = _SUBTYPES.get(info.data["type"])
    if names is None:
        raise wrong('only "app" and "data" have subtypes with names. Write a number from 0 to 255.')
    if value not in names:
        raise wrong(f"there is no subtype {describe(value)} of this type. {did_you_mean(value, names)}")
    return names[value]


def _no_repeats(pins: list[int]) -> list[int]:
    if len(set(pins)) < len(pins):
        raise wrong("a GPIO stands in the list twice. Keep it once.")
    return pins


_Pin = Annotated[int, Field(ge=0)]


class I2CBus(_Table):
    """The two pins of an I2C bus."""

    scl: _Pin = Field(description="the GPIO number of the clock line")
    sda: _Pin = Field(description="the GPIO number of the data line")


class BoardPartition(_Table):
    """A partition; the names of its type and subtype are numbers already."""

    name: str = Field(description="a name of 1 to 15 letters, digits and _", pattern=r"^[A-Za-z0-9_]{1,15}$")
    type: Annotated[int, PlainValidator(_type)] = Field(description='"app", "data" or a number up to 255')
    subtype: Annotated[int, PlainValidator(_subtype)] = Field(description="a name or a number up to 255")
    offset: int = Field(description="the byte of flash where the partition begins", ge=0)
    size: int = Field(description="a number of bytes above 0", gt=0)


class Board(_Table):
    """A board. All its partitions lie in its flash, side by side, aligned and with names of their own."""

    name: str = Field(description="the board's name, that of its file", pattern=r"^[a-z0-9][a-z0-9_-]*$")
    title: str = Field(description="what people call the board", min_length=1)
    chip: Literal["esp32"] = Field(description=f"one of: {', '.join(CHIPS)}")
    flash_size: int = Field(description="bytes of flash, in whole MiB", ge=_MIB, multiple_of=_MIB)
    pins: Annotated[list[_Pin], AfterValidator(_no_repeats)] = Field(description="a list of GPIO numbers")
    console: list[_Pin] = Field(description="a list of GPIO numbers", default=[])
    i2c: I2CBus | None = Field(description="a table with scl and sda", default=None)
    partition: list[BoardPartition] = Field(description="at least one table [[partition]]", min_length=1)

    @property
    def features(self) -> Chip:
        """What the chip's pins can do."""
        return CHIPS[self.chip]

    def gpios(self) -> frozenset[int]:
        """The GPIOs that the module brings out."""
        return frozenset(self.pins)

    def partition_table(self) -> tuple[Partition, ...]:
        """The partitions as `host_tools.partitions.encode` takes them, in the order of the file."""
        return tuple(
            Partition(each.name, each.type, each.subtype, each.offset, each.size) for each in self.partition
        )


def known_boards() -> list[str]:
    """The names of the boards that come with limpet."""
    return sorted(path.stem for path in paths.BOARDS.glob("*.toml"))


def load_board(name_or_path: str) -> Board:
    """A board that comes with limpet by its name, or any other by the path of its file (ends in `.toml`).

    Raises UnknownBoard, or UserFileError with all problems of the file.
    """
    if name_or_path.endswith(".toml"):
        return _load(Path(name_or_path))
    names = known_boards()
    if name_or_path not in names:
        raise UnknownBoard(f"There is no board '{name_or_path}'. {did_you_mean(name_or_path, names)}")
    return _load(paths.BOARDS / f"{name_or_path}.toml")


def _load(path: Path) -> Board:
    file = read(path)
    board, problems = check_table(Board, file.values)
    if board:
        problems = [*_name_problems(board, path.stem), *_pin_problems(board), *_partition_problems(board)]
    if problems or not board:
        raise UserFileError("\n".join(file.told(problems)))
    return board


def _name_problems(board: Board, stem: str) -> Iterator[Problem]:
    if board.name != stem:
        yield problem(("name",), f"expected {describe(stem)} like its file, found {describe(board.name)}.")


def _pin_problems(board: Board) -> Iterator[Problem]:
    chip = board.features
    for index, pin in enumerate(board.pins):
        if pin not in chip.gpios:
            yield problem(("pins", index), f"the {board.chip} has no GPIO {pin}. Take it out.")
        if pin in chip.flash:
            yield problem(("pins", index), f"GPIO {pin} is wired to the flash chip. Take it out.")
    for index, pin in enumerate(board.console):
        if pin not in board.pins:
            yield problem(("console", index), f"GPIO {pin} is not among the board's pins. Add it there.")
    for name, pin in board.i2c or ():
        if pin not in board.pins or pin in chip.input_only:
            yield problem(("i2c", name), f"GPIO {pin} of this board cannot be an output. Use another.")


def _partition_problems(board: Board) -> Iterator[Problem]:
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
