"""`limpet flash`."""

import contextlib
import string
from pathlib import Path
from typing import Annotated

import typer

from host_tools.cli.app import AsJson, app, clean_up_when_ended, remark, show_json
from host_tools.cli.ports import Every, Ports, chosen
from host_tools.errors import UsageError


@app.command()
def flash(
    board: Annotated[
        str, typer.Option("--board", "-b", help="What the boards are: a name, or a .toml file.")
    ],
    port: Ports = None,
    every: Every = False,
    node: Annotated[
        Path | None, typer.Option("--node", help="The node file; without it there are no settings.")
    ] = None,
    image: Annotated[
        Path | None, typer.Option("--image", help="A flash image, instead of one made for this time.")
    ] = None,
    micropython: Annotated[
        Path | None, typer.Option(help="MicroPython's image as a file, instead of fetching it.")
    ] = None,
    any_micropython: Annotated[
        bool, typer.Option("--any-micropython", help="Take that file although it is not the pinned one.")
    ] = False,
    mac: Annotated[
        list[str] | None, typer.Option(help="Refuse boards with another MAC address than these.")
    ] = None,
    fleet: Annotated[
        Path | None,
        typer.Option(help="A record of your boards: refuse what contradicts it, note what is done."),
    ] = None,
    erase: Annotated[
        bool, typer.Option("--erase", help="Erase everything first, identity and readings too.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    baud: Annotated[
        int, typer.Option(help="The speed to begin with; slower ones follow.", min=9600)
    ] = 921600,
    as_json: AsJson = False,
) -> None:
    """Put MicroPython and the firmware on boards, side by side, and see that they start."""
    if image and (node or micropython):
        raise UsageError("--image is a whole flash: leave --node and --micropython out, or --image.")
    ports = chosen(port, every)
    macs = _macs(mac or [])
    from host_tools.flashing.crew import crew

    with contextlib.ExitStack() as stack:
        started = stack.enter_context(crew(ports))  # they load while the rest does

        from host_tools import boards
        from host_tools.cli.download import showing_progress
        from host_tools.flashing import run, source
        from host_tools.flashing.guards import Allowed
        from host_tools.flashing.job import bauds_from
        from host_tools.flashing.outcome import exit_code, told
        from host_tools.flashing.screen import shown
        from host_tools.fleet import Fleet
        from host_tools.image.build import build

        clean_up_when_ended()
        model = boards.load_board(board)
        if image:
            wanted = source.from_file(image, model)
        else:
            with showing_progress() as progress:
                built = build(model, node, micropython, progress, any_micropython=any_micropython)
            for warning in built.warnings:
                remark(warning)
            wanted = source.checked(built.flash, "The image", model)
        record = stack.enter_context(Fleet(fleet)) if fleet else None
        if erase and not dry_run:
            remark("--erase: the boards' identities, unsent readings and Wi-Fi calibration are lost.")
        order = run.Order(wanted, Allowed(model, macs, wanted.revisions), bauds_from(baud), erase, dry_run)
        with shown([worker.port for worker in started.workers], remark) as show:
            outcomes = run.flash(started, order, record, show)
    for each in outcomes:
        if each.error:
            remark(f"limpet: {each.error}")
        elif not as_json:
            typer.echo(told(each, dry_run))
    if as_json:
        show_json(run.told_as_json(outcomes, order))
    raise typer.Exit(exit_code(outcomes))


def _macs(words: list[str]) -> frozenset[str]:
    digits = [word.lower().replace(":", "").replace("-", "") for word in words]
    for word, each in zip(words, digits, strict=True):
        if len(each) != 12 or not set(each) <= set(string.hexdigits):
            raise UsageError(f"--mac '{word}' is no MAC address: write it like 24:0a:c4:01:02:03.")
    return frozenset(":".join(each[i : i + 2] for i in range(0, 12, 2)) for each in digits)
