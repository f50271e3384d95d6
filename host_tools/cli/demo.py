"""`limpet demo`."""

from enum import StrEnum
from typing import Annotated

import typer

from host_tools.cli.app import app, clean_up_when_ended, remark


class BrokerChoice(StrEnum):
    """Which broker the demo runs."""

    mosquitto = "mosquitto"
    embedded = "embedded"


@app.command()
def demo(
    readings: Annotated[
        int | None, typer.Option("--readings", "-n", min=1, help="End after so many readings.")
    ] = None,
    broker: Annotated[
        BrokerChoice | None,
        typer.Option(help="Which broker; without it Mosquitto where it is installed, else the embedded one."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, the last the summary.")
    ] = False,
) -> None:
    """Show a virtual node that publishes recorded weather over mutual TLS."""
    from host_tools.demo.run import run

    clean_up_when_ended()
    summary = run(readings, broker.value if broker else None, remark, as_json=as_json)
    if summary.lost or summary.duplicates:
        raise typer.Exit(1)
