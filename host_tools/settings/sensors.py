"""The tables `[sensors.NAME]` of a node file, which a rig file has too."""

from collections.abc import Mapping
from typing import Any

from pydantic_core import PydanticCustomError

from host_tools.boards import Board
from host_tools.settings import fields
from host_tools.settings.model import KINDS, Sensor
from host_tools.settings.pins import numbered
from host_tools.userfile import (
    KeyPath,
    Problem,
    check_table,
    describe,
    did_you_mean,
    not_a_table,
    problem,
    salvage,
)


def read_sensors(tables: object, board: Board | None) -> tuple[dict[str, Sensor], list[Problem]]:
    """The sensors by name, as far as they can be salvaged, and the problems within their tables.

    What is no table of tables is told with the other keys of the file. Pins are not judged here.
    """
    sensors: dict[str, Sensor] = {}
    problems: list[Problem] = []
    for name, table in tables.items() if isinstance(tables, dict) else ():
        sensor, wrong = _sensor(name, table, board)
        problems += wrong
        if sensor:
            sensors[name] = sensor
    return sensors, problems


def better_said(problems: list[Problem], said: Mapping[KeyPath, str]) -> list[Problem]:
    """The problems, in the words that are known to be better."""
    return [problem(each.path, said[each.path]) if each.path in said else each for each in problems]


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
    problems += better_said(wrong, said)
    return sensor or salvage(KINDS[kind], values), problems


def _name_problems(name: str) -> list[Problem]:
    try:
        fields.name(name)
    except PydanticCustomError as error:
        return [problem(("sensors", name), error.message())]
    return []
