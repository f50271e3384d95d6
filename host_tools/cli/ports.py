"""The options of commands that work on boards: which ports."""

from typing import Annotated

import typer

from host_tools.errors import NoDeviceError, UsageError

Ports = Annotated[
    list[str] | None,
    typer.Option("--port", "-p", help="A serial port or pyserial URL; several boards: several."),
]
Every = Annotated[bool, typer.Option("--all", help="Every port that looks like a board's.")]


def chosen(ports: list[str] | None, every: bool) -> list[str]:
    """The ports that were named, or all. Raises UsageError, or NoDeviceError where no board is plugged in."""
    if bool(ports) == every:
        raise UsageError("Name the boards' ports by --port, or take them all by --all: one of the two.")
    if ports:
        if len(set(ports)) < len(ports):
            raise UsageError("A --port stands there twice: name each board once.")
        return ports
    from host_tools import devices

    found = [each.name for each in devices.ports() if each.may_be_a_board]
    if not found:
        raise NoDeviceError("No port looks like a board's: plug a board in, or name its --port.")
    return found
