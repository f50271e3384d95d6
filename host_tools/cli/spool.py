"""`limpet spool dump`."""

from typing import Annotated

import typer

from host_tools.cli.app import AsJson, clean_up_when_ended, group, remark, show_json

spool = group("spool", "Spools: the readings that a node keeps in its flash.")


@spool.command("dump")
def dump(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|PORT",
            help="A flash image, an image of the partition 'spool', or a board's serial port.",
        ),
    ],
    as_json: AsJson = False,
    everything: Annotated[bool, typer.Option("--all", help="List all readings as well.")] = False,
) -> None:
    """Show what a spool holds. A board on a port stops for that, and restarts."""
    from host_tools.spool.dump import Dump
    from host_tools.spool.source import read

    clean_up_when_ended()
    shown = Dump(read(source, remark))
    if as_json:
        show_json(shown.as_json(everything))
    else:
        for line in shown.text(everything):
            typer.echo(line)
