"""`limpet deploy`."""

from pathlib import Path
from typing import Annotated

import typer

from host_tools.cli.app import app, clean_up_when_ended


@app.command()
def deploy(
    port: Annotated[str, typer.Option("--port", "-p", help="The board's serial port, or any pyserial URL.")],
    node: Annotated[
        Path | None, typer.Option("--node", help="The node file; without it the settings stay as they are.")
    ] = None,
) -> None:
    """Put the firmware and a node's settings on a board: only what changed, nothing stale left behind."""
    from host_tools.deploy import deploy as put

    clean_up_when_ended()
    put(port, node, typer.echo)
