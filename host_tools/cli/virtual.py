"""`limpet virtual`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from host_tools.cli.app import app, clean_up_when_ended, remark
from host_tools.errors import UsageError


@app.command()
def virtual(
    flash: Annotated[
        Path | None, typer.Option(help="Its flash file, which it keeps; without it a new one for this time.")
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="Make the file of --flash first, with the firmware alone.")
    ] = False,
    board: Annotated[str, typer.Option(help="The board to be.")] = "virtual",
    log: Annotated[
        bool, typer.Option("--log", help="Show what the board prints on its serial port.")
    ] = False,
) -> None:
    """Run a virtual board, print its serial port, and stay until Ctrl-C."""
    if new and flash is None:
        raise UsageError("--new makes the file of --flash: name it, as in --flash board.bin --new.")
    from host_tools.virtual.run import run

    clean_up_when_ended()
    run(flash, board, new=new, log=sys.stdout.buffer if log else None, say=typer.echo, remark=remark)
