"""From a rig's name, or the path of its file, to the rig, or to all problems of the file at once."""

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from host_tools import paths
from host_tools.boards import named_board
from host_tools.errors import UsageError
from host_tools.hil.rigs import power, stimulus
from host_tools.hil.rigs.channels import channels
from host_tools.hil.rigs.claims import see_no_conflict
from host_tools.hil.rigs.model import Rig, RigFile
from host_tools.hil.rigs.power import NoPower, PowerSpec, VirtualPower
from host_tools.hil.rigs.rules import power_problems, rig_problems, stimulus_problems
from host_tools.hil.rigs.stimulus import StimulusSpec, VirtualStimulus
from host_tools.hil.rigs.table import read_kind
from host_tools.settings.model import Sensor
from host_tools.settings.rules import sensor_problems
from host_tools.settings.sensors import better_said, read_sensors
from host_tools.settings.wiring import wiring_problems
from host_tools.userfile import (
    KeyPath,
    Problem,
    UserFileError,
    check_table,
    did_you_mean,
    problem,
    read,
    salvage,
)

FOLDER = Path("rigs")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_BETTER_SAID: Mapping[KeyPath, str] = {
    (
        "wifi",
        "password",
    ): "a rig file is shared, so it holds no password. Write the password into a file that "
    "only you can read, and password_file = with that file's path here.",
}


class UnknownRig(UsageError):
    """There is no rig of that name."""


def known_rigs(folder: Path = FOLDER) -> list[str]:
    """The names of the rigs in a folder, and of those that come with limpet."""
    found = {path.stem for each in (folder, paths.RIGS) for path in each.glob("*.toml")}
    return sorted(name for name in found if not name.startswith("."))  # an editor's, of a file that is open


def load_rig(name_or_path: str, folder: Path = FOLDER) -> RigFile:
    """A rig of a folder by its name, or any other by the path of its file (ends in `.toml`). Those that come
    with limpet are known everywhere; one of the folder with the same name comes first.

    Raises UnknownRig, or UserFileError with all problems of the file.
    """
    if name_or_path.endswith(".toml"):
        return _load(Path(name_or_path))
    names = known_rigs(folder)
    if name_or_path not in names:
        raise UnknownRig(
            f"There is no rig '{name_or_path}' in {folder}. {did_you_mean(name_or_path, names)} "
            "`limpet hil suggest` writes a rig file for what is plugged in."
        )
    own = folder / f"{name_or_path}.toml"
    return _load(own if own.exists() else paths.RIGS / own.name)


def load_all(folder: Path = FOLDER) -> list[RigFile]:
    """All known rigs, by name.

    Raises UserFileError with all problems of all files, and when two rigs claim one board, port or switch.
    """
    rigs, problems = [], []
    for name in known_rigs(folder):
        try:
            rigs.append(load_rig(name, folder))
        except UserFileError as error:
            problems.append(str(error))
    if problems:
        raise UserFileError("\n".join(problems))
    see_no_conflict(rigs)
    return rigs


def sound_rigs(folder: Path = FOLDER) -> list[RigFile]:
    """Those known rigs whose files are without mistakes, by name."""
    rigs = []
    for name in known_rigs(folder):
        with contextlib.suppress(UserFileError):
            rigs.append(load_rig(name, folder))
    return rigs


def _load(path: Path) -> RigFile:
    file = read(path)
    board, problems = named_board(file.values.get("board"))
    problems += _name_problems(path.stem)
    rig, wrong = check_table(Rig, file.values, secret=("wifi",))
    problems += better_said(wrong, _BETTER_SAID)
    sensors, wrong = read_sensors(file.values.get("sensors"), board)
    problems += wrong
    switch, wrong = _power(file.values)
    problems += wrong
    acting, wrong = _stimulus(file.values)
    problems += wrong
    known = rig or salvage(Rig, file.values)
    problems += [
        *rig_problems(known, file.values, board),
        *power_problems(switch, file.values),
        *sensor_problems(sensors),
    ]
    if getattr(known, "rung", None) == "bench":
        problems += stimulus_problems(known, acting, sensors, file.values.get("sensors", {}))
    if board:
        problems += wiring_problems(sensors, None, board)
    if problems or not rig or not board:
        raise UserFileError("\n".join(file.told(problems)))
    return RigFile(
        name=path.stem,
        path=path,
        rung=rig.rung,
        board=board,
        host=rig.host,
        port=rig.port,
        place=rig.place,
        power=_implied_power(rig, switch),
        stimulus=_implied_stimulus(rig, acting, sensors),
        sensors=sensors,
        wifi=rig.wifi,
        emulator=rig.emulator,
        capabilities=frozenset(rig.capabilities),
    )


def _name_problems(stem: str) -> list[Problem]:
    if _NAME.fullmatch(stem):
        return []
    text = "a rig's name has letters, digits, '_' and '-' alone, and begins with a letter or digit."
    return [problem((), f"{text} Give the file another name.")]


def _power(values: Mapping[str, Any]) -> tuple[PowerSpec | None, list[Problem]]:
    table = values.get("power", {"kind": "none"})
    if not isinstance(table, Mapping):  # told with the other keys
        return None, []
    return read_kind(table, ("power",), power.KINDS, "power")


def _stimulus(values: Mapping[str, Any]) -> tuple[dict[str, StimulusSpec | None], list[Problem]]:
    """By channel, None where a table is wrong; and what is wrong with those."""
    tables = values.get("stimulus")
    specs: dict[str, StimulusSpec | None] = {}
    problems: list[Problem] = []
    for name, table in tables.items() if isinstance(tables, Mapping) else ():
        specs[name], wrong = read_kind(table, ("stimulus", name), stimulus.KINDS, "stimulus")
        problems += wrong
    return specs, problems


def _implied_power(rig: Rig, written: PowerSpec | None) -> PowerSpec:
    return VirtualPower() if rig.rung == "virtual" else written or NoPower()


def _implied_stimulus(
    rig: Rig, written: Mapping[str, StimulusSpec | None], sensors: Mapping[str, Sensor]
) -> dict[str, StimulusSpec]:
    if rig.rung == "virtual":
        return dict.fromkeys(channels(sensors), VirtualStimulus())
    return {name: spec for name, spec in written.items() if spec}
