"""`limpet devices`."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from host_tools.cli.app import AsJson, app, clean_up_when_ended, show_json
from host_tools.errors import NO_DEVICE, NoDeviceError, UsageError

if TYPE_CHECKING:
    from host_tools.devices import Port


@app.command()
def devices(
    port: Annotated[
        list[str] | None,
        typer.Option("--port", "-p", help="Only this port, or pyserial URL. May be given several times."),
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Ask the chips too: kind, MAC, flash. That resets the boards.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Stay, and show what comes and goes, until Ctrl-C.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the serial ports and what is behind them, without resetting it."""
    if watch and probe:
        raise UsageError("--watch resets nothing: leave --probe out, or --watch.")
    from host_tools.devices.identify import look
    from host_tools.devices.screen import lines

    clean_up_when_ended()
    if watch:
        _watch(port, as_json)
        return
    found = look(_ports(port), reset=probe)
    if as_json:
        show_json({"devices": [each.as_json() for each in found]})
    else:
        for each in found:
            typer.echo("\n".join(lines(each)))
    failed = [each for each in found if each.what.kind == "closed" or each.why_no_chip]
    if failed and (port or probe):
        raise typer.Exit(NO_DEVICE)


def _ports(names: list[str] | None) -> "list[Port]":
    from host_tools.devices.port import describe, ports

    there = ports()
    if names:
        return [describe(name, there) for name in dict.fromkeys(names)]
    if not there:
        raise NoDeviceError("There is no serial port: plug a board in, or name a port by --port.")
    return there


def _watch(names: list[str] | None, as_json: bool) -> None:
    from host_tools.devices.port import describe, ports
    from host_tools.devices.screen import lines
    from host_tools.devices.watch import watch

    def listed() -> "list[Port]":
        there = ports()
        return [describe(name, there) for name in dict.fromkeys(names)] if names else there

    try:
        for change in watch(listed):
            if as_json:
                about = change.found.as_json() if change.found else {"port": change.port.name}
                typer.echo(json.dumps({"event": "came" if change.found else "gone", **about}))
            elif change.found:
                typer.echo("\n".join(lines(change.found, "+ ")))
            else:
                typer.echo(f"- {change.port.name}")
    except (KeyboardInterrupt, BrokenPipeError):
        return
