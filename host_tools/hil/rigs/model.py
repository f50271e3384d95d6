"""What a rig file says, checked value by value. `host_tools.hil.rigs.rules` checks what goes together.

Each field's description is the phrase of its error message: "expected <description>, found …".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator

from host_tools.boards import Board
from host_tools.hil.rigs import fields
from host_tools.hil.rigs.channels import channels
from host_tools.hil.rigs.port import Place, PortChoice
from host_tools.hil.rigs.power import PowerSpec
from host_tools.hil.rigs.stimulus import StimulusSpec
from host_tools.hil.rigs.table import Table
from host_tools.settings import fields as settings
from host_tools.settings.model import Sensor

Rung = Literal["virtual", "emulator", "bench"]


class WifiSpec(Table):
    """The network that the rig's board joins; without a file an open one."""

    ssid: Annotated[str, PlainValidator(settings.ssid)] = Field(description="the network's name in quotes")
    password_file: Annotated[Path, PlainValidator(fields.file)] | None = Field(
        description="the path of a file that holds the password, in quotes", default=None
    )


class EmulatorSpec(Table):
    """The program that plays the chip; without a path the one that the search path finds."""

    kind: Literal["qemu", "esp-emu"] = Field(description='"qemu" or "esp-emu"')
    program: Annotated[str, PlainValidator(fields.program)] | None = Field(
        description="the path of the emulator in quotes", default=None
    )


class Rig(Table):
    """The rig file but for what its tables of several kinds hold."""

    rung: Rung = Field(description='"virtual", "emulator" or "bench"')
    board: str = Field(description="the name of a board in quotes")
    host: Annotated[str, PlainValidator(settings.host)] | None = Field(
        description="this machine's name or IPv4 address as the board reaches it, in quotes", default=None
    )
    port: PortChoice | None = Field(
        description='a table { mac = "…" }, { usb = "…" } or { url = "…" }', default=None
    )
    place: Place | None = Field(description='a table such as { name = "esp32-1" }', default=None)
    power: dict[str, Any] = Field(description="a table [power]", default={})
    stimulus: dict[str, Any] = Field(description='tables [stimulus."SENSOR/QUANTITY"]', default={})
    sensors: dict[str, Any] = Field(description="tables [sensors.NAME]", default={})
    wifi: WifiSpec | None = Field(description="a table [wifi]", default=None)
    emulator: EmulatorSpec | None = Field(description="a table [emulator]", default=None)
    capabilities: list[Annotated[str, PlainValidator(fields.capability)]] = Field(
        description='a list of words in quotes, such as ["rf-chamber"]', default=[]
    )


@dataclass(frozen=True)
class RigFile:
    """A whole rig file, without problems."""

    name: str
    """That of its file."""
    path: Path
    rung: Rung
    board: Board
    host: str | None
    """This machine's address as the node reaches it; None: whatever leads to the node."""
    port: PortChoice | None
    place: Place | None
    power: PowerSpec
    stimulus: Mapping[str, StimulusSpec]
    """By channel: `bme280/temperature`."""
    sensors: Mapping[str, Sensor]
    """What is wired to the board, with times in milliseconds, as in a node file."""
    wifi: WifiSpec | None
    emulator: EmulatorSpec | None
    capabilities: frozenset[str]
    """What the file declares on top of what its tables say; `host_tools.hil.rigs.capabilities` has all."""

    @property
    def channels(self) -> tuple[str, ...]:
        """What its sensors measure: `bme280/temperature`, …"""
        return channels(self.sensors)

    @property
    def whereabouts(self) -> str:
        """Where its board is, for a person: `USB 1-2.3`, or how it comes to be."""
        if self.port:
            return self.port.called
        if self.place:
            return self.place.called
        return f"started by {self.emulator.kind}" if self.emulator else "made for each run"
