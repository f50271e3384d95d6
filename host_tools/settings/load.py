"""From a node file to checked settings, or to all its problems at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host_tools.boards import Board, named_board
from host_tools.settings.model import Node, NodeFile, WayIn
from host_tools.settings.pins import numbered
from host_tools.settings.rules import node_problems, profile_warnings, sensor_problems, spool_warnings
from host_tools.settings.sensors import better_said, read_sensors
from host_tools.settings.wiring import wiring_problems, wiring_warnings
from host_tools.userfile import (
    KeyPath,
    UserFileError,
    check_table,
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
    board, problems = named_board(file.values.get("board"))
    values, unknown = _numbered(file.values, board)
    node, wrong = check_table(Node, values, secret=("wifi",))
    problems += better_said(wrong, unknown)
    sensors, wrong = read_sensors(file.values.get("sensors"), board)
    problems += wrong
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
