"""`limpet deploy`."""

from pathlib import Path
from typing import Annotated

import typer

from host_tools.cli.app import AsJson, app, clean_up_when_ended, remark, show_json
from host_tools.cli.ports import Every, Ports, chosen


@app.command()
def deploy(
    port: Ports = None,
    every: Every = False,
    node: Annotated[
        Path | None, typer.Option("--node", help="The node file; without it the settings stay as they are.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put the firmware and a node's settings on boards: only what changed, nothing stale left behind."""
    ports = chosen(port, every)

    from host_tools.deploy.run import deploy_all, firmware
    from host_tools.deploy.screen import shown
    from host_tools.deploy.told import exit_code, lines, values

    clean_up_when_ended()
    with shown(ports) as show:
        results = deploy_all(ports, lambda: firmware(node), show, dry_run)
    code = exit_code(results)
    if as_json:
        errors = [str(result.error) for result in results if result.error]
        show_json(
            {
                **({"error": " ".join(errors)} if errors else {}),
                "exit_code": code,
                "dry_run": dry_run,
                "boards": [values(result) for result in results],
            }
        )
    for result in results:
        if result.error:
            remark(f"limpet: {result.error}")
        elif not as_json:
            typer.echo("\n".join(lines(result, dry_run)))
    raise typer.Exit(code)
