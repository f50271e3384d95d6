"""What switches a board's supply: the table `[power]`, a model a kind (drivers: `host_tools.hil.power`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PlainValidator

from host_tools.hil.rigs import fields
from host_tools.hil.rigs.table import Table
from host_tools.settings import fields as settings


class NoPower(Table):
    """Nothing can switch it."""

    kind: Literal["none"] = "none"


class VirtualPower(Table):
    """The board is a program, and its supply is a part of that. No file says so; the rung does."""

    kind: Literal["virtual"] = "virtual"


class CommandPower(Table):
    """Two programs of the user's, each with its arguments."""

    kind: Literal["command"] = "command"
    on: Annotated[tuple[str, ...], PlainValidator(fields.argv)] = Field(
        description='a list of a program and its arguments, such as ["relay", "on", "3"]'
    )
    off: Annotated[tuple[str, ...], PlainValidator(fields.argv)] = Field(
        description='a list of a program and its arguments, such as ["relay", "off", "3"]'
    )


class UhubctlPower(Table):
    """A port of a USB hub that can switch each of its ports, through the program uhubctl."""

    kind: Literal["uhubctl"] = "uhubctl"
    location: Annotated[str, PlainValidator(fields.hub)] = Field(
        description='the hub as uhubctl lists it, such as "1-1"'
    )
    port: int = Field(description="the number of the hub's port, 1 to 32", ge=1, le=32)
    program: Annotated[str, PlainValidator(fields.program)] = Field(
        description="the path of the program uhubctl in quotes", default="uhubctl"
    )


class RelayPower(Table):
    """A channel of a serial relay board of the LCUS kind."""

    kind: Literal["relay"] = "relay"
    port: Annotated[str, PlainValidator(fields.text)] = Field(
        description='the relay board\'s serial port in quotes, such as "/dev/ttyUSB3"'
    )
    channel: int = Field(description="the number of the relay, 1 to 8", ge=1, le=8, default=1)


class TasmotaPower(Table):
    """A Tasmota plug or relay, by way of an MQTT broker that it is at, over TLS with certificates."""

    kind: Literal["tasmota"] = "tasmota"
    host: Annotated[str, PlainValidator(settings.host)] = Field(
        description="the broker's name or IPv4 address in quotes"
    )
    port: int = Field(description="a whole number from 1 to 65535", ge=1, le=65535, default=8883)
    topic: Annotated[str, PlainValidator(settings.prefix)] = Field(
        description='the device\'s topic in quotes, such as "tasmota_1A2B3C"'
    )
    relay: int = Field(description="the number of the device's relay, 1 to 8", ge=1, le=8, default=1)
    ca: Annotated[Path, PlainValidator(fields.file)] = Field(
        description="the path of the authority's certificate (PEM) in quotes"
    )
    certificate: Annotated[Path, PlainValidator(fields.file)] = Field(
        description="the path of our own certificate (PEM) in quotes"
    )
    key: Annotated[Path, PlainValidator(fields.file)] = Field(
        description="the path of its private key (PEM) in quotes"
    )


class LabgridPower(Table):
    """What labgrid has for the place."""

    kind: Literal["labgrid"] = "labgrid"


Written = NoPower | CommandPower | UhubctlPower | RelayPower | TasmotaPower | LabgridPower
PowerSpec = Written | VirtualPower
KINDS: Mapping[str, type[Written]] = {
    "none": NoPower,
    "command": CommandPower,
    "uhubctl": UhubctlPower,
    "relay": RelayPower,
    "tasmota": TasmotaPower,
    "labgrid": LabgridPower,
}
