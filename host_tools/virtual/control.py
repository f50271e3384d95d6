"""Faults of a running board by name: for tests, and for other programs by a socket beside its flash file.

A program writes words on one line, such as `drop=0.01 slow=1`, and reads one line of JSON: the state of all
faults, or what was wrong with the words. The names are those of the table FAULTS.
"""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host_tools.errors import LimpetError, NoDeviceError, UsageError
from host_tools.userfile import did_you_mean
from host_tools.virtual.board import VirtualBoard

SOCKET = "control"
"""The socket's name in a board's folder."""
_PATIENCE = 10.0
"""Seconds to wait for a board's answer."""


class FaultError(UsageError):
    """A fault that does not exist, or a value that it cannot have."""


@dataclass(frozen=True)
class _Fault:
    read: Callable[[str], Any]
    """What the text of a value stands for; raises ValueError."""
    expects: str
    get: Callable[[VirtualBoard], Any] | None = None
    """None for what happens once, and is no state."""
    set: Callable[[VirtualBoard, Any], Any] = lambda board, value: None


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError
    return value


def _count_or_none(text: str) -> int | None:
    return None if text == "none" else _count(text)


def _switch(text: str) -> bool:
    return {"on": True, "off": False}[text]


def _power(text: str) -> str:
    if text not in ("on", "off", "reset"):
        raise ValueError
    return text


def _line(name: str, read: Callable[[str], Any], expects: str) -> _Fault:
    return _Fault(
        read,
        expects,
        lambda board: getattr(board.faults, name),
        lambda board, value: setattr(board.faults, name, value),
    )


def _flash(name: str, read: Callable[[str], Any], expects: str) -> _Fault:
    return _Fault(
        read,
        expects,
        lambda board: getattr(board.flash_chip, name),
        lambda board, value: setattr(board.flash_chip, name, value),
    )


FAULTS = {
    "drop": _line("drop", _fraction, "a fraction from 0 to 1, such as 0.01"),
    "garble": _line("garble", _fraction, "a fraction from 0 to 1, such as 0.01"),
    "chatter": _line("chatter", _count, "how many times, such as 1"),
    "deaf": _line("deaf", _switch, "on or off"),
    "max_baud": _line("max_baud", _count_or_none, "a baud rate such as 460800, or none"),
    "read_only": _flash("read_only", _switch, "on or off"),
    "slow": _flash("slow", _positive, "a factor: 0 for no time at all, 1 for a real chip's"),
    "brownout": _flash("brownout", _count_or_none, "a number of bytes, or none"),
    "vanish": _Fault(_positive, "a number of seconds, such as 3", set=VirtualBoard.vanish),
    "power": _Fault(
        _power,
        "on, off or reset",
        lambda board: "on" if board.is_on else "off",
        lambda board, value: board.switch(value),
    ),
}


def set_fault(board: VirtualBoard, name: str, value: Any) -> None:
    """Set a fault to a Python value. Call it in the board's loop. Raises FaultError for an unknown name."""
    _known(name).set(board, value)


def state(board: VirtualBoard) -> dict[str, Any]:
    """All faults that are a state, by name."""
    return {name: fault.get(board) for name, fault in FAULTS.items() if fault.get}


def clear(board: VirtualBoard) -> None:
    """No faults any more; the power stays as it is."""
    board.faults.clear()
    board.flash_chip.read_only, board.flash_chip.slow, board.flash_chip.brownout = False, 0.0, None


def obey(board: VirtualBoard, words: list[str]) -> None:
    """Do what the words say: `NAME=VALUE` sets a fault, `none` clears all.

    Raises FaultError before any of them is done.
    """
    todo = [_understood(word) for word in words]
    for each in todo:
        each(board)


def _understood(word: str) -> Callable[[VirtualBoard], Any]:
    if word == "none":
        return clear
    name, equals, text = word.partition("=")
    fault = _known(name)
    if not equals:
        raise FaultError(f"'{word}' has no value: write {name}= and {fault.expects}.")
    try:
        value = fault.read(text)
    except (ValueError, KeyError):
        raise FaultError(f"'{word}' is not possible: {name} takes {fault.expects}.") from None
    return lambda board: fault.set(board, value)


def _known(name: str) -> _Fault:
    if name not in FAULTS:
        raise FaultError(f"There is no fault '{name}'. {did_you_mean(name, [*FAULTS, 'none'])}")
    return FAULTS[name]


async def serve(board: VirtualBoard, folder: Path) -> asyncio.Server:
    """Listen at `folder`/control, for the folder's owner alone, until the server is closed."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError):
            line = await reader.readline()
            try:
                obey(board, line.decode(errors="replace").split())
                said = state(board)
            except LimpetError as e:
                said = {"error": str(e)}
            writer.write(json.dumps(said).encode() + b"\n")
            await writer.drain()

    path = folder / SOCKET
    path.unlink(missing_ok=True)
    with _short(path) as name:
        server = await asyncio.start_unix_server(answer, name)
    path.chmod(0o600)
    return server


def ask(path: Path, words: list[str]) -> dict[str, Any]:
    """Say something to the board whose control socket this is; the state of its faults afterwards.

    Raises NoDeviceError when no board is there, FaultError when it does not understand.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection, _short(path) as name:
            connection.settimeout(_PATIENCE)
            connection.connect(name)
            connection.sendall(" ".join(words).encode() + b"\n")
            with connection.makefile("rb") as answers:
                line = answers.readline()
    except OSError as e:
        raise NoDeviceError(
            f"No virtual board answers at {path} ({e.strerror or 'it is silent'}): start it, or name the "
            "folder of one that runs."
        ) from None
    said: dict[str, Any] = json.loads(line or b'{"error": "The board has just ended."}')
    if "error" in said:
        raise FaultError(said["error"])
    return said


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name for a socket that fits into the hundred bytes that a system has for it, if there is a way."""
    by_number = Path("/proc/self/fd")
    if len(os.fsencode(path)) < 100 or not by_number.exists():
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"{by_number}/{folder}/{path.name}"
    finally:
        os.close(folder)
