"""`limpet doctor`."""

import typer

from host_tools.cli.app import app


@app.command()
def doctor() -> None:
    """Say what is missing on this machine, and the command that mends it."""
    from host_tools import doctor as checks

    if not checks.report(typer.echo):
        raise typer.Exit(1)
