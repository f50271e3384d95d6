"""What a board file says, checked value by value. `host_tools.boards.rules` checks what goes together.

Each field's description is the phrase of its error message: "expected <description>, found …".
"""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationInfo

from host_tools import partitions
from host_tools.boards.chips import CHIPS, Chip
from host_tools.partitions import Partition
from host_tools.userfile import describe, did_you_mean, wrong

MIB = 0x100000

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
_PIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,15}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CAPABILITIES = ("wifi", "bluetooth", "thread", "psram", "ethernet", "battery", "sdcard")


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


def type_name(partition: Partition) -> str:
    """Type and subtype as a board file writes them: "data nvs", "app factory", "data 0x40"."""
    types = {number: name for name, number in _TYPES.items()}
    names = {number: name for name, number in _SUBTYPES.get(partition.type, {}).items()}
    kind = types.get(partition.type, f"{partition.type:#04x}")
    return f"{kind} {names.get(partition.subtype, f'{partition.subtype:#04x}')}"


def _chip(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    if value not in CHIPS:
        raise wrong(f"limpet does not know the chip {describe(value)}. {did_you_mean(value, CHIPS)}")
    return value


def _no_repeats(pins: list[int]) -> list[int]:
    if len(set(pins)) < len(pins):
        raise wrong("a GPIO stands in the list twice. Keep it once.")
    return pins


def _named(value: object) -> int:
    # Names are no fields of a model, so the sentence comes from here.
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise wrong(f"expected a GPIO number, found {describe(value)}.")
    return value


def _pin_names(names: dict[str, int]) -> dict[str, int]:
    for name in names:
        if not _PIN_NAME.fullmatch(name):
            raise wrong(
                f"{describe(name)} cannot be the name of a pin. Use up to 16 letters, digits, '_', '+' and "
                "'-', and begin with a letter."
            )
    return names


def _capability(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    if value not in _CAPABILITIES:
        raise wrong(f"unknown capability {describe(value)}. {did_you_mean(value, _CAPABILITIES)}")
    return value


def _sha256(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    if not _SHA256.fullmatch(value.lower()):
        raise wrong(
            f"a SHA-256 has 64 hex digits, and this text has {len(value)} characters. "
            "Copy it again, from `sha256sum FILE` of an image that you trust."
            if len(value) != 64
            else "a SHA-256 has hex digits only, and this text has others. Copy it again."
        )
    return value.lower()


_Pin = Annotated[int, Field(ge=0)]


class Console(_Table):
    """The serial console, through which the board is flashed and deployed to."""

    kind: Literal["uart", "usb-serial-jtag"] = Field(
        description='"uart" (a USB bridge with the classic DTR/RTS circuit) or "usb-serial-jtag"'
    )
    pins: Annotated[list[_Pin], AfterValidator(_no_repeats)] = Field(description="a list of GPIO numbers")


class I2CBus(_Table):
    """The two pins of an I2C bus."""

    scl: _Pin = Field(description="the GPIO number of the clock line")
    sda: _Pin = Field(description="the GPIO number of the data line")


class SPIBus(_Table):
    """The three pins of an SPI bus; chip selects are the parts' own."""

    sck: _Pin = Field(description="the GPIO number of the clock line")
    mosi: _Pin = Field(description="the GPIO number of the line to the parts")
    miso: _Pin = Field(description="the GPIO number of the line from the parts")


class MicroPythonImage(_Table):
    """The stock image that runs on the board, and the only one that is trusted."""

    version: str = Field(
        description='a version in quotes, such as "1.27.0"', pattern=r"^[0-9]+(\.[0-9]+){1,2}$"
    )
    name: str = Field(
        description='the name of the file on the download page, such as "ESP32_GENERIC-20251209-v1.27.0.bin"',
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*\.bin$",
    )
    sha256: Annotated[str, PlainValidator(_sha256)] = Field(description="64 hex digits in quotes")
    offset: int = Field(description="the byte of flash where the image goes", ge=0)


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
    chip: Annotated[str, PlainValidator(_chip)] = Field(description="the name of a chip in quotes")
    flash_size: Literal[0x400000, 0x800000, 0x1000000] = Field(
        description="bytes of flash: 0x400000, 0x800000 or 0x1000000 (4, 8 or 16 MiB)"
    )
    """MicroPython's program alone ends at 2 MiB; beyond 16 MiB flash chips need addresses of four bytes."""
    capabilities: list[Annotated[str, PlainValidator(_capability)]] = Field(
        description=f"a list of any of {', '.join(_CAPABILITIES)}, in quotes", default=[]
    )
    pins: Annotated[list[_Pin], AfterValidator(_no_repeats)] = Field(description="a list of GPIO numbers")
    partition: list[BoardPartition] = Field(
        description="a list of partitions, each { name, type, subtype, offset, size }", min_length=1
    )
    console: Console = Field(description="a table [console] with kind and pins")
    names: Annotated[dict[str, Annotated[int, PlainValidator(_named)]], AfterValidator(_pin_names)] = Field(
        description="a table [names] of names and GPIO numbers", default={}
    )
    """What people call the pins, those of parts on the board too, which need not be brought out."""
    i2c: I2CBus | None = Field(description="a table with scl and sda", default=None)
    spi: SPIBus | None = Field(description="a table with sck, mosi and miso", default=None)
    micropython: MicroPythonImage | None = Field(
        description="a table [micropython] with version, name, sha256 and offset", default=None
    )

    @property
    def features(self) -> Chip:
        """What the board's chip can do."""
        return CHIPS[self.chip]

    @property
    def console_kind(self) -> Literal["uart", "usb-serial-jtag"]:
        """How the console reaches the host."""
        return self.console.kind

    @property
    def console_pins(self) -> tuple[int, ...]:
        """The GPIOs that the console takes."""
        return tuple(self.console.pins)

    def called(self, gpio: int) -> str:
        """What to call a pin in a sentence: "GPIO 7 (D5)", or "GPIO 7" where it has no name."""
        return f"GPIO {self.label(gpio)}"

    def label(self, gpio: int) -> str:
        """The same for a list of pins: "7 (D5)" or "7"."""
        name = next((name for name, number in self.names.items() if number == gpio), None)
        return f"{gpio} ({name})" if name else str(gpio)

    def taken(self) -> frozenset[int]:
        """The GPIOs that no part can have: those of the console, and those of the chip's own USB port.

        MicroPython's stock images keep the USB port for themselves, also where the console is another one.
        """
        return frozenset(self.console_pins) | self.features.usb

    def gpios(self) -> frozenset[int]:
        """The GPIOs that the board brings out."""
        return frozenset(self.pins)

    def partition_table(self) -> tuple[Partition, ...]:
        """The partitions as `host_tools.partitions.encode` takes them, in the order of the file."""
        return tuple(
            Partition(each.name, each.type, each.subtype, each.offset, each.size) for each in self.partition
        )
