"""Pins by the names that their board gives them. Everything after this knows GPIO numbers only."""

import re
from collections.abc import Mapping
from typing import Any

from host_tools.boards import Board
from host_tools.userfile import describe, did_you_mean

_KEYS = ("pin", "scl", "sda")
_NUMBER_IN_DISGUISE = re.compile(r"(?:GPIO|IO)?(?P<number>\d{1,2})", re.IGNORECASE | re.ASCII)


def numbered(table: Mapping[str, Any], board: Board | None) -> tuple[dict[str, Any], dict[str, str]]:
    """A sensor's table with GPIO numbers for the names of pins; and what is wrong with unknown names, by key.

    Without a board nobody can judge a name. The file has a problem already, and any number keeps quiet.
    """
    names = {key: name for key, name in table.items() if key in _KEYS and isinstance(name, str)}
    if not board:
        return {**table, **dict.fromkeys(names, 0)}, {}
    known = {key: board.names[name] for key, name in names.items() if name in board.names}
    unknown = {key: _unknown(name, board) for key, name in names.items() if key not in known}
    return {**table, **known}, unknown


def _unknown(name: str, board: Board) -> str:
    number = _NUMBER_IN_DISGUISE.fullmatch(name)
    if number:
        return f"a GPIO goes by its number, without quotes. Write {int(number['number'])}."
    if not board.names:
        return f"the board {describe(board.name)} has no names for its pins. Write the number of a GPIO."
    return f"the board {describe(board.name)} has no pin {describe(name)}. {did_you_mean(name, board.names)}"
