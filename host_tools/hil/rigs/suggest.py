"""A rig file for a board that is plugged in: what can be seen is filled in, the rest waits as comments."""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from string import Template

from pydantic import ValidationError

from host_tools import boards
from host_tools.boards import CHIPS, Board
from host_tools.devices.identify import Found
from host_tools.errors import LimpetError, RefusedError
from host_tools.hil.rigs.model import RigFile
from host_tools.hil.rigs.port import PortChoice

_CHIP = re.compile(r"\bESP32(?:-?(?P<kind>[A-Z]\d+))?\b")
_USB_OF_CHIP = (0x303A, 0x1001)
_SOCKET = re.compile(r"(?P<hub>.+)[-.](?P<port>\d+)")

_TEMPLATE = Template("""\
# $device: $what.
# docs/rigs.md explains all keys. What only you know stands behind a '#': correct it, and take the '#' away.
# A run on this rig writes its own firmware, settings and identity over those of the board.

rung = "bench"
$notes
board = $board
$port

# This machine as the board reaches it, where it has several addresses.
# host = "192.168.7.2"

# The network that the board joins; without one, many tests are blocked. The file holds the password and
# nothing else, and only you may read it. An open network has none.
# [wifi]
# ssid = "bench"
# password_file = "~/.config/limpet/bench.wifi"

# What cuts its supply, if anything does: a USB hub that `uhubctl` lists, or a command, relay or Tasmota plug.
# [power]
# kind = "uhubctl"
# location = $hub
# port = $number

# What is wired to it: the tables of a node file (docs/node-file.md).
# [sensors.bme280]
# period = "1s"

# What acts on a sensor, if anything does.
# [stimulus."bme280/temperature"]
# kind = "command"
# set = ["oven", "--celsius", "{value}"]
""")


@dataclass(frozen=True)
class Suggestion:
    """A rig file that `load_rig` takes as it is; `name` is not taken yet."""

    name: str
    text: str

    def write(self, folder: Path) -> Path:
        """Put it into a folder. Raises RefusedError when the file is there, LimpetError when that fails."""
        path = folder / f"{self.name}.toml"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LimpetError(f"The folder {folder} cannot be made: {error.strerror}.") from None
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(self.text)
        except FileExistsError:
            raise RefusedError(
                f"{path} is there already, and stays as it is: rename one of the two."
            ) from None
        except OSError as error:
            raise LimpetError(f"{path} cannot be written: {error.strerror}.") from None
        return path


def suggestions(
    found: Iterable[Found], taken: Collection[str] = (), rigs: Iterable[RigFile] = ()
) -> tuple[list[Suggestion], list[str]]:
    """One for each board that none of the `rigs` has, with names beside those that are `taken`; and for each
    port without one a sentence that says why."""
    theirs = {rig.port.called: rig for rig in rigs if rig.port}
    names = set(taken)
    made, why_not = [], []
    for each in found:
        try:
            _see_it_is_free(each, theirs)
            suggestion = suggest(each, names)
        except LimpetError as error:
            why_not.append(str(error))
            continue
        names.add(suggestion.name)
        made.append(suggestion)
    return made, why_not


def suggest(found: Found, taken: Collection[str] = ()) -> Suggestion:
    """A rig file for what is behind one port.

    Raises LimpetError when nobody may open the port, limpet knows no board with such a chip, or nothing tells
    the port from others tomorrow.
    """
    if found.what.kind in ("closed", "not asked"):
        raise LimpetError(f"{found.port.name}: {found.what.text}")
    board, guessed = _board(found)
    text = _text(found, board, guessed, _choices(found))
    return Suggestion(_name(board, taken), text)


def _see_it_is_free(found: Found, rigs: Mapping[str, RigFile]) -> None:
    """Raises LimpetError when a rig has this board: two that claim one are refused."""
    for choice in _told_by(found):
        socket = choice.usb.partition(":")[0] if choice.usb else None  # a file may leave the interface out
        rig = rigs.get(choice.called) or rigs.get(f"USB {socket}")
        if rig:
            raise LimpetError(f"{found.port.name}: it is the board of the rig '{rig.name}', in {rig.path}.")


def _text(found: Found, board: Board, guessed: bool, choices: list[PortChoice]) -> str:
    port, *others = map(_as_toml, choices)
    notes = [f"The same chip is on: {', '.join(_others(board))}."]
    if guessed:
        notes.insert(0, "A guess, for the chip was not asked. With --probe it is, and the board restarts.")
    socket = _SOCKET.fullmatch((found.port.location or "").partition(":")[0])
    hub, number = (socket["hub"], socket["port"]) if socket else ("1-1", "4")
    return _TEMPLATE.substitute(
        device=_printable(found.port.name),
        what=_printable(found.what.text),
        notes="\n".join(f"# {each}" for each in notes),
        board=json.dumps(board.name),
        port="\n".join(
            [f"port = {port}", *(f"# … or, whatever socket it is in: port = {each}" for each in others)]
        ),
        hub=json.dumps(hub),
        number=number,
    )


def _board(found: Found) -> tuple[Board, bool]:
    """The board to begin with, and whether its chip is a guess."""
    says = found.chip.name if found.chip else found.what.text
    named = _CHIP.findall(says)
    if named:
        chip = "esp32" + named[-1].lower()
        fitting = _with_chip(chip)
        if not fitting:
            raise LimpetError(
                f"{found.port.name}: limpet has no board with this chip ({_printable(says)}): "
                "describe yours in boards/ (docs/boards.md)."
            )
    else:
        own_usb = (found.port.vid, found.port.pid) == _USB_OF_CHIP
        chip = next(name for name, each in CHIPS.items() if bool(each.usb) == own_usb and _with_chip(name))
        fitting = _with_chip(chip)
    # Those for any board of the chip have no parts and no pins' names that could be wrong.
    best = min(fitting, key=lambda each: not each.name.endswith("_generic"))
    return best, not named


def _others(board: Board) -> list[str]:
    return [each.name for each in _with_chip(board.chip) if each.name != board.name] or ["no other board"]


def _with_chip(chip: str) -> list[Board]:
    known = map(boards.load_board, boards.known_boards())
    return [each for each in known if each.chip == chip and each.micropython]


def _choices(found: Found) -> list[PortChoice]:
    """How to find the port again, the best way first."""
    choices = _told_by(found)
    if not choices:
        raise LimpetError(
            f"{found.port.name} has neither a USB socket nor a URL by which a rig file could name it: with "
            "--probe the board tells its MAC."
        )
    return choices


def _told_by(found: Found) -> list[PortChoice]:
    port = found.port
    keys = (
        ("usb", port.location),
        ("url", port.name if port.is_url else None),
        ("mac", found.chip.mac if found.chip else None),
    )
    choices = []
    for key, value in keys:
        if value:
            try:
                choices.append(PortChoice.model_validate({key: value}))
            except ValidationError:  # a location or URL of a kind that no rig file names
                continue
    return choices


def _name(board: Board, taken: Collection[str]) -> str:
    numbered = (f"{board.name}-{number}" for number in count(2))
    return next(name for name in chain([board.name], numbered) if name not in taken)


def _as_toml(choice: PortChoice) -> str:
    [(key, value)] = choice.model_dump(exclude_none=True).items()
    return f"{{ {key} = {json.dumps(value)} }}"


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
