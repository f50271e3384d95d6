"""`limpet monitor`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from host_tools.cli.app import AsJson, app, clean_up_when_ended, remark
from host_tools.errors import UsageError


@app.command()
def monitor(
    port: Annotated[
        list[str] | None,
        typer.Option("--port", "-p", help="A serial port, or pyserial URL. May be given several times."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every board that is plugged in, or comes to be.")
    ] = False,
    log: Annotated[Path | None, typer.Option(help="Append all lines to this file too.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what boards print, until Ctrl-C; they are neither stopped nor reset by that."""
    if not port and not everything:
        raise UsageError("Which board? Name its port, as in --port /dev/ttyUSB0, or say --all.")
    from host_tools.monitor.run import run

    clean_up_when_ended()
    run(port or [], everything=everything, log=log, as_json=as_json, out=sys.stdout, remark=remark)
