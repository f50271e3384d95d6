"""From a path to the values of a TOML file and the lines where they stand."""

import decimal
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from host_tools.userfile.lines import locate
from host_tools.userfile.problems import KeyPath, Problem, UserFileError, dotted

MAX_BYTES = 0x10000
"""The largest file that is read. A node file has a few hundred bytes."""

_TOMLLIB = re.compile(r"(?P<what>.*) \(at (?:line (?P<line>\d+), column \d+|end of document)\)", re.DOTALL)

# What tomllib says of the commonest slips, and what we say of them.
_SYNTAX = (
    (r"Invalid value", "there is no valid value here. Write text in quotes, and numbers without"),
    (r"Cannot overwrite a value", "this key stands in the table twice. Keep one of the two"),
    (r"Duplicate inline table key .*", "this key stands in the table twice. Keep one of the two"),
    (r"Cannot declare .* twice", "this table's header stands in the file twice. Join the two tables"),
    (r"Expected '=' after a key.*", "a key must be followed by '=' and its value"),
    (r"Illegal character '\\n'", "a text has no closing quote on its line. Close it"),
    (r"Unterminated string", "a text has no closing quote. Close it"),
    (r"Unclosed array", "a list has no closing ']', or two of its elements have no ',' between them"),
    (r"Unclosed inline table", "a table has no closing '}', or two of its keys have no ',' between them"),
)


@dataclass(frozen=True)
class UserFile:
    """A TOML file: its name as the user typed it, its values, and the line of each.

    Floating-point numbers come as Decimal, exactly as written.
    """

    name: str
    values: dict[str, Any]
    lines: dict[KeyPath, int]

    def line(self, path: KeyPath) -> int:
        """The line of a key, or else of the innermost table around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def told(self, problems: Iterable[Problem]) -> list[str]:
        """The problems as lines for the user, from the top of the file to its end."""
        placed = sorted(((self.line(each.at), each) for each in problems), key=lambda pair: pair[0])
        return [
            f"{self.name}:{line}: {dotted(each.path)}: {each.text}"
            if each.path
            else f"{self.name}:{line}: {each.text}"
            for line, each in placed
        ]


def read(path: Path) -> UserFile:
    """Read a TOML file.

    Raises UserFileError when it cannot be read, is empty, has more than MAX_BYTES, or is not TOML in UTF-8.
    """
    name = str(path)
    text = _decoded(name, _bytes(name, path))
    if not text.strip():
        raise UserFileError(f"{name}: the file is empty. Fill it in, or name another.")
    values = _parsed(name, text)
    return UserFile(name, values, locate(text))


def _bytes(name: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise UserFileError(f"{name}: there is no such file. Check the name and the folder.") from None
    except IsADirectoryError:
        raise UserFileError(f"{name}: this is a folder. Name the file in it.") from None
    except PermissionError:
        raise UserFileError(f"{name}: you may not read this file. Change its permissions or owner.") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserFileError(f"{name}: the file cannot be read: {reason}. Name another.") from None
    if len(data) > MAX_BYTES:
        raise UserFileError(f"{name}: the file has more than {MAX_BYTES // 1024} kB. Name the right one.")
    return data


def _decoded(name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
    raise UserFileError(f"{name}:{line}: this is not UTF-8 text. Save the file as UTF-8.")


def _parsed(name: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text, parse_float=_exact)
    except RecursionError:
        fault, line = "lists or tables are nested too deeply", 1
    except ValueError as error:
        fault, line = _syntax(str(error), text)
    raise UserFileError(f"{name}:{line}: not valid TOML: {fault}.")


def _syntax(message: str, text: str) -> tuple[str, int]:
    match = _TOMLLIB.fullmatch(message)
    if not match:  # int() refuses numbers of thousands of digits, and does not say where
        return "a number is too long", 1
    what = match["what"]
    line = int(match["line"]) if match["line"] else text.rstrip().count("\n") + 1
    for pattern, ours in _SYNTAX:
        if re.fullmatch(pattern, what):
            return ours, line
    return what[:1].lower() + what[1:], line


def _exact(number: str) -> Decimal:
    try:
        return Decimal(number)
    except decimal.InvalidOperation:  # an exponent beyond all bounds
        return Decimal("inf")
