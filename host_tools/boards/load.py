"""From a board's name, or the path of its file, to the board, or to all problems of the file at once."""

from pathlib import Path

from host_tools import paths
from host_tools.boards.model import Board
from host_tools.boards.rules import board_problems
from host_tools.errors import UsageError
from host_tools.userfile import (
    Problem,
    UserFileError,
    check_table,
    describe,
    did_you_mean,
    problem,
    read,
)


class UnknownBoard(UsageError):
    """There is no board of that name."""


def known_boards() -> list[str]:
    """The names of the boards that come with limpet."""
    return sorted(path.stem for path in paths.BOARDS.glob("*.toml"))


def load_board(name_or_path: str) -> Board:
    """A board that comes with limpet by its name, or any other by the path of its file (ends in `.toml`).

    Raises UnknownBoard, or UserFileError with all problems of the file.
    """
    if name_or_path.endswith(".toml"):
        return _load(Path(name_or_path))
    names = known_boards()
    if name_or_path not in names:
        raise UnknownBoard(f"There is no board '{name_or_path}'. {did_you_mean(name_or_path, names)}")
    return _load(paths.BOARDS / f"{name_or_path}.toml")


def named_board(name: object) -> tuple[Board | None, list[Problem]]:
    """The board that the key `board` of another file names. What is missing or no text is told with the
    other keys of that file."""
    if not isinstance(name, str):
        return None, []
    known = known_boards()
    if name not in known:
        return None, [problem(("board",), f"unknown board {describe(name)}. {did_you_mean(name, known)}")]
    return load_board(name), []


def _load(path: Path) -> Board:
    file = read(path)
    board, problems = check_table(Board, file.values)
    if board:
        problems = [*_name_problems(board, path.stem), *board_problems(board)]
    if problems or not board:
        raise UserFileError("\n".join(file.told(problems)))
    return board


def _name_problems(board: Board, stem: str) -> list[Problem]:
    if board.name == stem:
        return []
    return [problem(("name",), f"expected {describe(stem)} like its file, found {describe(board.name)}.")]
