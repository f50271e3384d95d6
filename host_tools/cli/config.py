"""`limpet config check`."""

from pathlib import Path
from typing import Annotated

import typer

from host_tools.cli.app import AsJson, group, remark, show_json

config = group("config", "Node files: the settings of a node.")


@config.command("check")
def check(
    file: Annotated[Path, typer.Argument(help="The node file (TOML).")], as_json: AsJson = False
) -> None:
    """Check a node file, and say all that is wrong with it."""
    from host_tools import settings

    checked = settings.check(file)
    for warning in checked.warnings:
        remark(warning)
    sensors = len(checked.node_file.sensors)
    if as_json:
        names = sorted(checked.node_file.sensors)
        show_json({"file": str(file), "board": checked.board.name, "sensors": names})
    else:
        plural = "s" if sensors > 1 else ""
        typer.echo(f"{file}: good, {sensors} sensor{plural} on board '{checked.board.name}'")
