"""What is wrong with a file, and how it is said."""

import datetime
import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from host_tools.errors import LimpetError

KeyPath = tuple[str | int, ...]
"""A place in a TOML file: names of keys, and numbers of array elements counted from 0."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_QUOTED_AT_MOST = 40
_LARGEST_PRINTED = 10**20


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong at `path`. Its line is that of `at`: the table around it when the key is missing."""

    path: KeyPath
    text: str
    at: KeyPath


def problem(path: KeyPath, text: str) -> Problem:
    """A problem with a key that is there."""
    return Problem(path, text, path)


class UserFileError(LimpetError):
    """A file that cannot be used. The text has one line for each of its problems."""

    names_its_place = True


def dotted(path: KeyPath) -> str:
    """A path as TOML writes it: `sensors.probe.pin`, `wifi[0].ssid`, `sensors."a.b".pin`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if _BARE_KEY.fullmatch(part) else _quoted(part)
            text += f".{name}" if text else name
    return text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The remedy for an unknown word: the nearest known one, or else all of them."""
    names = list(known)
    folded = {name.casefold(): name for name in reversed(names)}
    near = difflib.get_close_matches(word.casefold(), folded, n=1)
    if near:
        return f"Did you mean '{folded[near[0]]}'?"
    return f"Known are: {', '.join(names)}."


def describe(value: object) -> str:
    """What was found, short: a quoted text, a number, or what kind of thing it is."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _quoted(value if len(value) <= _QUOTED_AT_MOST else value[:_QUOTED_AT_MOST] + "…")
    if isinstance(value, int):
        return str(value) if abs(value) < _LARGEST_PRINTED else "a very large number"
    if isinstance(value, Decimal):
        return str(value) if len(str(value)) <= _QUOTED_AT_MOST else "a very long number"
    return kind_of(value)


def kind_of(value: object) -> str:
    """What kind of thing was found, without saying it: for values that may be secret."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, str):
        return "text"
    if isinstance(value, int | Decimal):
        return "a number"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, dict):
        return "a table" if value else "an empty table"
    if isinstance(value, datetime.date | datetime.time):
        return "a date or time"
    raise TypeError(f"TOML has no {type(value).__name__}")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
