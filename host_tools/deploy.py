"""Puts firmware and settings on a board over its raw REPL, with mpremote's transport.

Which files differ is asked in one round trip. What changed is written beside the old file and then takes its
place; what the firmware no longer has is removed from its package, and nothing else on the board is touched.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import serial
from mpremote.transport import TransportError
from mpremote.transport_serial import SerialTransport

from host_tools import image, settings
from host_tools.errors import LimpetError

_PATIENCE_S = 30.0
"""Seconds for one exchange with the board; the hashes of a whole firmware take an ESP32 two."""

_PACKAGE = "limpet/"

# Runs on the board: prints the SHA-256 of every file that is ours, by its path.
_HASHES = """
import os, json, hashlib, binascii
found = {}
def look(folder):
    for entry in os.ilistdir(folder):
        path = folder + "/" + entry[0]
        if entry[1] & 0x4000:
            look(path)
            continue
        digest = hashlib.sha256()
        with open(path, "rb") as f:
            while True:
                part = f.read(512)
                if not part:
                    break
                digest.update(part)
        found[path[1:]] = binascii.hexlify(digest.digest()).decode()
def hash_all(names, package):
    here = os.listdir("/")
    for name in names:
        if name in here:
            digest = hashlib.sha256()
            with open("/" + name, "rb") as f:
                digest.update(f.read())
            found[name] = binascii.hexlify(digest.digest()).decode()
    if package in here:
        look("/" + package)
    print(json.dumps(found))
hash_all(%s, "limpet")
"""


class DeployError(LimpetError):
    """The board could not be reached, or did not take a file."""


@dataclass(frozen=True)
class Plan:
    """What has to be done to a board. `write` is in the order in which it is written."""

    write: tuple[str, ...]
    remove: tuple[str, ...]
    same: int

    @property
    def empty(self) -> bool:
        return not self.write and not self.remove


def plan(wanted: Mapping[str, bytes], present: Mapping[str, str]) -> Plan:
    """Compare the files that a board should have with the hashes (SHA-256, hex) of those it has.

    Modules come before what starts them, so that an interrupted deploy leaves the old main.py to the last.
    """
    changed = [name for name, data in wanted.items() if present.get(name) != hashlib.sha256(data).hexdigest()]
    stale = [name for name in present if name.startswith(_PACKAGE) and name not in wanted]
    ordered = sorted(changed, key=lambda name: (not name.startswith(_PACKAGE), name))
    return Plan(tuple(ordered), tuple(sorted(stale)), len(wanted) - len(changed))


def deploy(port: str, node_file: Path | None, say: Callable[[str], None]) -> Plan:
    """Make the board on `port` have this firmware and, if given, the settings in `node_file`; then reset it.

    Everything is compiled and checked before the board is touched. Raises LimpetError.
    """
    wanted = image.firmware_files()
    if node_file is not None:
        checked = settings.check(node_file)
        wanted[image.SETTINGS_NAME] = settings.dump(settings.to_node_json(checked.node_file, checked.board))
    board = _connect(port)
    try:
        present = json.loads(_execute(board, _HASHES % sorted(n for n in wanted if "/" not in n)))
        todo = plan(wanted, present)
        _carry_out(board, todo, wanted, say)
        if todo.empty:
            say(f"{port}: nothing to do, all {todo.same} files are the same")
        else:
            say(f"{port}: {len(todo.write)} written, {len(todo.remove)} removed, {todo.same} the same")
        # Not waited for: the board is gone before it can answer.
        board.exec_raw_no_follow("import machine\nmachine.reset()")
    except (TransportError, OSError, serial.SerialException) as e:
        raise DeployError(
            f"{port}: the board stopped answering ({_last_line(e)}); deploy again, it goes on where it was."
        ) from None
    finally:
        _hang_up(board)
    return todo


def _carry_out(
    board: SerialTransport, todo: Plan, wanted: Mapping[str, bytes], say: Callable[[str], None]
) -> None:
    for folder in sorted({str(Path(name).parent) for name in todo.write} - {"."}):
        if not board.fs_exists(folder):
            board.fs_mkdir(folder)
    for name in todo.write:
        data = wanted[name]
        board.fs_writefile(f"{name}.new", data)
        if board.fs_hashfile(f"{name}.new", "sha256") != hashlib.sha256(data).digest():
            raise DeployError(f"{name} arrived damaged on the board; deploy again.")
        _execute(board, f"import os; os.rename({name + '.new'!r}, {name!r})")
        say(f"  {name}, {len(data)} bytes")
    for name in todo.remove:
        board.fs_rmfile(name)
        say(f"  {name} removed")


def _connect(port: str) -> SerialTransport:
    """Open the port and enter the raw REPL, with the firmware stopped by a soft reset."""
    _refuse_unusable(port)
    try:
        board = SerialTransport(port, baudrate=115200, timeout=_PATIENCE_S)
    except (TransportError, OSError, ValueError, serial.SerialException) as e:
        raise DeployError(f"{port} cannot be opened: {_why(e)}.") from None
    try:
        board.enter_raw_repl(soft_reset=True)
    except (TransportError, OSError, serial.SerialException) as e:
        _hang_up(board)
        raise DeployError(
            f"{port}: no MicroPython answers ({_last_line(e)}); check that it is the board's port and "
            "that the board runs MicroPython."
        ) from None
    return board


def _refuse_unusable(port: str) -> None:
    if "://" in port:
        return
    if not Path(port).exists():
        raise DeployError(f"{port} does not exist: plug the board in, or name its port.")
    if not os.access(port, os.R_OK | os.W_OK):
        raise DeployError(
            f"{port} may not be opened by you: join its group (on Debian: sudo usermod -aG dialout $USER) "
            "and log in again."
        )


def _why(error: Exception) -> str:
    text = str(error)
    if "in use" in text or "lock" in text:
        return "another program has it open, close that first"
    return text


def _execute(board: SerialTransport, code: str) -> str:
    output, error = board.exec_raw(code, timeout=_PATIENCE_S)
    if error:
        raise TransportError(error.decode(errors="replace").strip())
    return str(output.decode())


def _hang_up(board: SerialTransport) -> None:
    with contextlib.suppress(OSError, serial.SerialException):  # the port may be gone already
        board.close()


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
