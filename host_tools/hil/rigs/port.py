"""Where a board is: how its serial port is told from others, or the place in a lab that has it."""

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, PlainValidator, model_validator

from host_tools.hil.rigs import fields
from host_tools.hil.rigs.table import Table
from host_tools.userfile import wrong


class PortChoice(Table):
    """A port by what stays the same: exactly one of these is not None."""

    mac: Annotated[str, PlainValidator(fields.mac)] | None = Field(
        description='a MAC address in quotes, such as "24:0a:c4:00:00:01"', default=None
    )
    """Of the chip behind it, lower-case with colons. Finding it resets the boards that are asked."""
    usb: Annotated[str, PlainValidator(fields.usb)] | None = Field(
        description='a USB socket as `limpet devices` shows it, such as "1-2.3"', default=None
    )
    url: Annotated[str, PlainValidator(fields.url)] | None = Field(
        description='a URL in quotes, such as "rfc2217://lab:4000"', default=None
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        named = [key for key, value in self if value is not None]
        if len(named) != 1:
            found = (
                f"and this names {' and '.join(named)}. Keep one."
                if named
                else "and this names nothing. Write one of them."
            )
            raise wrong(f"a port goes by one of mac, usb or url, {found}")
        return self

    @property
    def called(self) -> str:
        """For a sentence: `MAC …`, `USB 1-2.3`, `port lab:4000`; the same wherever it is named this way."""
        if self.url:
            return f"port {urlsplit(self.url).netloc.lower()}"
        return f"MAC {self.mac}" if self.mac else f"USB {self.usb}"

    @property
    def has_lines(self) -> bool:
        """Whether DTR and RTS reach the board, and with them its reset and its bootloader."""
        return not (self.url or "").startswith("socket:")


class Place(Table):
    """A place of a labgrid lab. What is None comes from the environment (docs/lab.md)."""

    name: Annotated[str, PlainValidator(fields.text)] = Field(description="the place's name in quotes")
    coordinator: Annotated[str, PlainValidator(fields.endpoint)] | None = Field(
        description='host and port of its coordinator, such as "lab.example:20408"', default=None
    )
    client: Annotated[str, PlainValidator(fields.program)] | None = Field(
        description="the path of the program labgrid-client in quotes", default=None
    )

    @property
    def called(self) -> str:
        """For a sentence: `place esp32-1 of lab.example:20408`."""
        return f"place {self.name}" + (f" of {self.coordinator}" if self.coordinator else "")
