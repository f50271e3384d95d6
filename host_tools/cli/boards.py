"""`limpet boards`."""

import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from host_tools.cli.app import AsJson, app, show_json

if TYPE_CHECKING:
    from host_tools.boards import Board

boards = typer.Typer(help="Boards: what limpet knows of them, and their flash map.")
app.add_typer(boards, name="boards")

_WIDEST = 120
_MARKS = ("█", "▏", "·")
_PLAIN_MARKS = ("#", "|", ".")


@boards.callback(invoke_without_command=True)
def list_boards(context: typer.Context, as_json: AsJson = False) -> None:
    """List the boards."""
    if context.invoked_subcommand:
        return
    from host_tools.boards import known_boards, load_board, show
    from host_tools.userfile import UserFileError

    found: list[Board] = []
    troubles: list[str] = []
    for name in known_boards():
        try:
            found.append(load_board(name))
        except UserFileError as error:  # one of them must not hide the others
            troubles.append(str(error))
    if not as_json:
        for line in show.listed(found):
            typer.echo(line)
    if troubles:
        raise UserFileError("\n".join(troubles))
    if as_json:
        show_json({"boards": [show.summary(each) for each in found]})


@boards.command("show")
def show_board(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A board's name, or the path of its file (ends in .toml)."),
    ],
    as_json: AsJson = False,
) -> None:
    """Show a board: its console, its pins, its flash map."""
    from host_tools.boards import load_board, show

    board = load_board(name)
    if as_json:
        show_json(show.as_json(board))
        return
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    for line in show.text(board, width, _marks()):
        typer.echo(line)


def _marks() -> tuple[str, str, str]:
    """What the flash map is drawn with, as far as the terminal knows the characters."""
    try:
        "".join(_MARKS).encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return _PLAIN_MARKS
    return _MARKS
