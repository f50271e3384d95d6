"""What acts on a sensor, or measures beside it: the tables `[stimulus."SENSOR/QUANTITY"]`, one model a kind
(drivers: `host_tools.hil.stimulus`)."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, PlainValidator

from host_tools.hil.rigs import fields
from host_tools.hil.rigs.port import PortChoice
from host_tools.hil.rigs.table import Table


class VirtualStimulus(Table):
    """The virtual board's own sensor. No file says so; the rung does."""

    kind: Literal["virtual"] = "virtual"


class BoardStimulus(Table):
    """A second board with MicroPython, for instance with a DAC or a heater, that runs `code`."""

    kind: Literal["board"] = "board"
    port: PortChoice = Field(description='a table { mac = "…" }, { usb = "…" } or { url = "…" }')
    code: Annotated[str, PlainValidator(fields.code_with_value)] = Field(
        description=f"Python code in quotes, with {fields.VALUE} for the number"
    )
    """`{value}` stands for the number in the channel's unit."""
    reset_code: Annotated[str, PlainValidator(fields.text)] | None = Field(
        description="Python code in quotes", default=None
    )
    """Ends the stimulus."""


class CommandStimulus(Table):
    """A program of the user's, with `{value}` in its arguments."""

    kind: Literal["command"] = "command"
    set: Annotated[tuple[str, ...], PlainValidator(fields.argv_with_value)] = Field(
        description='a list such as ["oven", "--to", "{value}"]'
    )
    reset: Annotated[tuple[str, ...], PlainValidator(fields.argv)] | None = Field(
        description='a list such as ["oven", "--off"]', default=None
    )
    """Ends the stimulus."""


class ReferenceStimulus(Table):
    """A better sensor beside the board's. It is read, and cannot be set."""

    kind: Literal["reference"] = "reference"
    read: Annotated[tuple[str, ...], PlainValidator(fields.argv)] = Field(
        description='a list such as ["thermometer", "--celsius"], of a program that prints one number'
    )
    tolerance: Annotated[float, PlainValidator(fields.tolerance)] = Field(
        description="a number above 0, in the channel's unit"
    )
    """How far the two may be apart, in the channel's unit."""


Written = BoardStimulus | CommandStimulus | ReferenceStimulus
StimulusSpec = Written | VirtualStimulus
KINDS: Mapping[str, type[Written]] = {
    "board": BoardStimulus,
    "command": CommandStimulus,
    "reference": ReferenceStimulus,
}
