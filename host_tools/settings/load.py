"""From a node file to checked settings, or to all its problems at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import PydanticCustomError

from host_tools import boards
from host_tools.boards import Board
from host_tools.settings import fields
from host_tools.settings.model import KINDS, Node, NodeFile, Sensor, WayIn
from host_tools.settings.pins import numbered
from host_tools.settings.rules import node_problems, profile_warnings, sensor_problems, spool_warnings
from host_tools.settings.wiring import wiring_problems, wiring_warnings
from host_tools.userfile import (
    KeyPath,
    Problem,
    UserFileError,
    check_table,
    describe,
    did_you_mean,
    not_a_table,
    problem,
    read,
    salvage,
)


@dataclass(frozen=True)
class Checked:
    """A node file without problems, its board, and what its writer should know all the same (a line each)."""

    node_file: NodeFile
    board: Board
    warnings: tuple[str, ...]


def load(path: Path) -> NodeFile:
    """The node file at `path`. Raises UserFileError with all its problems, one line each."""
    return check(path).node_file


def check(path: Path) -> Checked:
    """`load`, with the board and the warnings."""
    file = read(path)
    board, problems = _board(file.values.get("board"))
    values, unknown = _numbered(file.values, board)
    node, wrong = check_table(Node, values, secret=("wifi",))
    problems += _better_said(wrong, unknown)
    tables = file.values.get("sensors")
    sensors: dict[str, Sensor] = {}
    for name, table in tables.items() if isinstance(tables, dict) else ():
        sensor, wrong = _sensor(name, table, board)
        problems += wrong
        if sensor:
            sensors[name] = sensor
    known = node or salvage(Node, values)
    problems += [*node_problems(known), *sensor_problems(sensors)]
    way_in = getattr(known, "way_in", None)
    if board:
        problems += wiring_problems(sensors, way_in, board)
    if problems or not node or not board:
        raise UserFileError("\n".join(file.told(problems)))
    # Every part is checked by now, and holds milliseconds and the like, no longer what the file says.
    node_file = NodeFile.model_construct(**{**dict(node), "sensors": sensors})
    warnings = [
        *profile_warnings(node_file),
        *spool_warnings(node_file),
        *wiring_warnings(sensors, way_in, board),
    ]
    return Checked(node_file, board, tuple(file.told(warnings)))


def _sensor(name: str, table: object, board: Board | None) -> tuple[Sensor | None, list[Problem]]:
    """The sensor, or what can be salvaged of it, and its problems."""
    path = ("sensors", name)
    problems = _name_problems(name)
    if not isinstance(table, Mapping):
        return None, [*problems, not_a_table(path, table)]
    values: dict[str, Any] = dict(table)
    if name in KINDS:
        values.setdefault("kind", name)
    if "kind" not in values:
        text = f"this key is missing, and '{name}' is not a kind of sensor. {did_you_mean(name, KINDS)}"
        return None, [*problems, Problem((*path, "kind"), text, at=path)]
    kind = values["kind"]
    if not isinstance(kind, str) or kind not in KINDS:
        remedy = did_you_mean(kind if isinstance(kind, str) else "", KINDS)
        return None, [*problems, problem((*path, "kind"), f"unknown sensor {describe(kind)}. {remedy}")]
    values, unknown = numbered(values, board)
    said: dict[KeyPath, str] = {
        (*path, key): text for key, text in unknown.items() if key in KINDS[kind].model_fields
    }
    sensor, wrong = check_table(KINDS[kind], values, path)
    problems += _better_said(wrong, said)
    return sensor or salvage(KINDS[kind], values), problems


def _numbered(values: Mapping[str, Any], board: Board | None) -> tuple[dict[str, Any], dict[KeyPath, str]]:
    """The file's values with a GPIO number for the name of the way in's pin; what is wrong with that name."""
    table = values.get("way_in")
    if not isinstance(table, Mapping):
        return dict(values), {}
    way_in, unknown = numbered(table, board)
    said: dict[KeyPath, str] = {
        ("way_in", key): text for key, text in unknown.items() if key in WayIn.model_fields
    }
    return {**values, "way_in": way_in}, said


def _better_said(problems: list[Problem], said: Mapping[KeyPath, str]) -> list[Problem]:
    """The problems, in the words that are known to be better."""
    return [problem(each.path, said[each.path]) if each.path in said else each for each in problems]


def _name_problems(name: str) -> list[Problem]:
    try:
        fields.name(name)
    except PydanticCustomError as error:
        return [problem(("sensors", name), error.message())]
    return []


def _board(name: object) -> tuple[Board | None, list[Problem]]:
    """The board called `name`. A name that is missing or no text is told with the other keys."""
    if not isinstance(name, str):
        return None, []
    known = boards.known_boards()
    if name not in known:
        return None, [problem(("board",), f"unknown board {describe(name)}. {did_you_mean(name, known)}")]
    return boards.load_board(name), []
