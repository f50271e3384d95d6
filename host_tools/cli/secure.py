"""`limpet secure`."""

from pathlib import Path
from typing import Annotated

import typer

from host_tools.cli.app import AsJson, clean_up_when_ended, group, show_json

secure = group("secure", "Flash encryption and secure boot: the steps, and a rehearsal. It burns nothing.")

BoardName = Annotated[str, typer.Option("--board", "-b", help="What the board is: a name, or a .toml file.")]
NoDownload = Annotated[
    bool,
    typer.Option("--no-download-mode", help="At the end turn the serial download mode off altogether."),
]
_KEYS = Path("secure-keys")


@secure.command("plan")
def plan(
    board: BoardName,
    keys: Annotated[
        Path, typer.Option("--keys", metavar="DIR", help="Where the commands put the keys.")
    ] = _KEYS,
    no_download_mode: NoDownload = False,
    as_json: AsJson = False,
) -> None:
    """Print the steps, as commands, and what each takes away for ever."""
    from host_tools.boards import load_board
    from host_tools.secure.meaning import meaning
    from host_tools.secure.plan import plan as planned
    from host_tools.secure.told import plan_json, plan_text

    model = load_board(board)
    steps = planned(model, keys, no_download=no_download_mode)
    if as_json:
        show_json(plan_json(model, steps, meaning(model)))
    else:
        typer.echo("\n".join(plan_text(model, steps, meaning(model))))


@secure.command("rehearse")
def rehearse(board: BoardName, no_download_mode: NoDownload = False, as_json: AsJson = False) -> None:
    """Carry the steps out on virtual eFuses, with throwaway keys. No port is opened."""
    from host_tools.boards import load_board
    from host_tools.scratch import scratch_folder
    from host_tools.secure.plan import plan as planned
    from host_tools.secure.rehearse import rehearse as work
    from host_tools.secure.told import rehearsal_json, step_text, summary_text

    model = load_board(board)
    steps = planned(model, _KEYS, no_download=no_download_mode)
    clean_up_when_ended()
    done = []
    with scratch_folder("secure") as folder:
        for number, each in enumerate(work(model.chip, steps, folder), 1):
            done.append(each)
            if not as_json:
                typer.echo("\n".join(step_text(number, each)))
    if as_json:
        show_json(rehearsal_json(model, done))
    else:
        typer.echo("\n".join(summary_text(done[0].before, done[-1].after)))
