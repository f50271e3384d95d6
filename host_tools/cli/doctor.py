"""`limpet doctor`."""

from dataclasses import asdict

import typer

from host_tools.cli.app import AsJson, app, show_json


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say what is missing on this machine, and the command that mends it."""
    from host_tools import doctor as checks

    findings = list(checks.examine())
    good = not any(finding.is_missing for finding in findings)
    if as_json:
        show_json({"good": good, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            for line in finding.lines():
                typer.echo(line)
    if not good:
        raise typer.Exit(1)
