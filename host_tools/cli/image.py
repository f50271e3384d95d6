"""`limpet image`."""

from pathlib import Path
from typing import Annotated

import typer

from host_tools.cli.app import AsJson, clean_up_when_ended, group, remark, show_json

image = group("image", "Images: what stands in a board's flash.")


@image.command("build")
def build(
    board: Annotated[str, typer.Option("--board", "-b", help="The board, by name or file.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The image to write.")],
    node: Annotated[
        Path | None, typer.Option("--node", metavar="FILE", help="The node file, for its settings.")
    ] = None,
    micropython: Annotated[
        Path | None,
        typer.Option("--micropython", metavar="FILE", help="Its image of MicroPython; without it, fetched."),
    ] = None,
    any_micropython: Annotated[
        bool,
        typer.Option("--any-micropython", help="Take that file even if it is not the pinned one."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compose the whole flash of a board: MicroPython, partition table, firmware, settings."""
    from host_tools import boards
    from host_tools.cli.download import showing_progress
    from host_tools.image import build as work
    from host_tools.image.told import built_as_json, built_text

    clean_up_when_ended()
    chosen = boards.load_board(board)
    work.check_target(output)
    with showing_progress() as progress:
        built = work.build(chosen, node, micropython, progress, any_micropython=any_micropython)
    for warning in built.warnings:
        remark(warning)
    work.write(output, built)
    if as_json:
        show_json(built_as_json(built, output))
    else:
        typer.echo(built_text(built, output))


@image.command("show")
def show(
    source: Annotated[
        str,
        typer.Argument(metavar="FILE|PORT", help="An image, or a part of one, or a board's serial port."),
    ],
    as_json: AsJson = False,
) -> None:
    """Explain an image: what is in it, and whose. A board on a port stops for that, and restarts."""
    from host_tools.image import firmware_files
    from host_tools.image.explain import explain
    from host_tools.image.source import open_source
    from host_tools.image.told import as_json as told
    from host_tools.image.told import text

    clean_up_when_ended()
    with open_source(source) as opened:
        if opened.is_slow:
            remark(f"{source}: reading what is needed of its flash, which takes some seconds")
        found = explain(opened, firmware_files())
    if as_json:
        show_json(told(found))
    else:
        for line in text(found):
            typer.echo(line)
