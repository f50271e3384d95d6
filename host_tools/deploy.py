"""Puts firmware and settings on a board: only what differs, and all of it or nothing.

What differs is first staged in a folder of its own, and the old firmware stays whole meanwhile. Then the
board takes it into place by a list of steps, which it has in full before the first one; each is atomic on
littlefs. A `main.py` that says so stands in for the real one until the last step, so a power cut between two
steps leaves no board that runs half of each firmware. Deploying again goes on where the last one was cut off.
"""

import base64
import errno
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from host_tools import image, micropython, settings
from host_tools.errors import LimpetError
from host_tools.repl import BoardError, Repl

STAGE = "limpet.new"
"""The folder on the board where new files wait, under names made of their hashes."""

MAIN = "main.py"
STAND_IN = b'print("limpet: a deploy was cut off; deploy again")\n'
"""The `main.py` for the time in which the package is not whole."""

_CHUNK = 768  # bytes of a file at once; 1 kB in base64, which any board has memory for

# What the board does for us; the modules are those of the stock image.
_ON_BOARD = """
import binascii, hashlib, json, os, sys

def digest(path):
    sha = hashlib.sha256()
    with open(path, "rb") as f:
        while True:
            part = f.read(512)
            if not part:
                return binascii.hexlify(sha.digest()).decode()
            sha.update(part)

def look(path, found):
    try:
        is_folder = os.stat(path)[0] & 0x4000
    except OSError:
        return
    found[path[1:]] = "" if is_folder else digest(path)
    if is_folder:
        for name in os.listdir(path):
            look(path + "/" + name, found)

def report(paths):
    found = {}
    for path in paths:
        look("/" + path, found)
    print(json.dumps([sys.implementation[1][:2], found]))

def take(path, mode, data):
    with open("/" + path, mode) as f:
        f.write(binascii.a2b_base64(data))

def carry_out(steps):
    for name, *paths in steps:
        getattr(os, name)(*["/" + path for path in paths])
"""

Step = tuple[str, ...]
"""A function of the board's module `os`, and its paths."""


class DeployError(LimpetError):
    """The board cannot take the firmware."""


@dataclass(frozen=True)
class Plan:
    """What has to be done to a board."""

    changed: tuple[str, ...]
    """The files that are new, or have another content."""
    removed: tuple[str, ...]
    """The files that the firmware does not have."""
    same: int
    """How many files stay as they are."""
    stage: Mapping[str, bytes]
    """What the stage still lacks, by path."""
    steps: tuple[Step, ...]
    """The way from a full stage to the new firmware, in order."""


def plan(wanted: Mapping[str, bytes], present: Mapping[str, str]) -> Plan:
    """Compare the files that a board should have, `main.py` among them, with those it has.

    `present` has what is in our places on the board, the stage of a deploy that was cut off included: the
    SHA-256 (hex) of each file, and "" for each folder. What of it is not wanted goes.
    """
    waiting = {path: digest for path, digest in present.items() if path == STAGE or _is_staged(path)}
    placed = {path: digest for path, digest in present.items() if path not in waiting}
    folders = {str(parent) for name in wanted for parent in PurePosixPath(name).parents} - {"."}
    changed = sorted(name for name, data in wanted.items() if placed.get(name) != _sha256(data))
    stale = {path: digest for path, digest in placed.items() if path not in (wanted if digest else folders)}
    removed = tuple(sorted(path for path, digest in stale.items() if digest))
    same = len(wanted) - len(changed)
    if not changed and not stale:
        return Plan((), (), same, {}, tuple(_discard(waiting)))

    stand_in = _staged(MAIN, STAND_IN)
    staged = {name: _staged(name, wanted[name]) for name in {*changed, MAIN}}
    contents = {path: wanted[name] for name, path in staged.items()} | {stand_in: STAND_IN}
    leftovers = {path: digest for path, digest in waiting.items() if path not in contents} | {STAGE: ""}
    steps: list[Step] = [
        ("rename", stand_in, MAIN),
        *_discard(stale),
        *(("mkdir", path) for path in sorted(folders) if placed.get(path) != ""),
        *(("rename", path, name) for name, path in sorted(staged.items()) if name != MAIN),
        ("rename", staged[MAIN], MAIN),
        *_discard(leftovers),
    ]
    missing = {path: data for path, data in contents.items() if waiting.get(path) != _sha256(data)}
    return Plan(tuple(changed), removed, same, missing, tuple(steps))


def deploy(port: str, node_file: Path | None, say: Callable[[str], None]) -> Plan:
    """Make the board on `port` have this firmware and, if given, the settings in `node_file`; it restarts.

    Everything is compiled and checked before the board is touched. Raises LimpetError.
    """
    wanted = image.firmware_files()
    if node_file is not None:
        checked = settings.check(node_file)
        wanted[image.SETTINGS_NAME] = settings.dump(settings.to_node_json(checked.node_file, checked.board))
    with Repl(port) as repl:
        repl.run(_ON_BOARD)
        todo = plan(wanted, _look(repl, port, {name.partition("/")[0] for name in wanted} | {STAGE}))
        try:
            _stage(repl, todo, port)
            repl.run(f"carry_out({todo.steps!r})")
        except BoardError as error:
            raise _explained(error, port, sum(map(len, todo.stage.values()))) from None
    for name in todo.changed:
        say(f"  {name}, {len(wanted[name])} bytes")
    for name in todo.removed:
        say(f"  {name} removed")
    if todo.changed or todo.removed:
        say(f"{port}: {len(todo.changed)} written, {len(todo.removed)} removed, {todo.same} the same")
    else:
        say(f"{port}: nothing to do, all {todo.same} files are the same")
    return todo


def _look(repl: Repl, port: str, places: set[str]) -> dict[str, str]:
    """What is in these places of the board. Raises DeployError when its MicroPython is too old."""
    try:
        version, found = json.loads(repl.run(f"report({sorted(places)!r})"))
        present: dict[str, str] = dict(found)
        major, minor = version
    except ValueError:
        raise DeployError(f"{port}: the board's answer makes no sense; try again.") from None
    if (major, minor) < micropython.OLDEST:
        oldest = ".".join(map(str, micropython.OLDEST))
        raise DeployError(
            f"{port}: the board runs MicroPython {major}.{minor}, but the firmware needs {oldest} or later: "
            "flash a newer one."
        )
    return present


def _stage(repl: Repl, todo: Plan, port: str) -> None:
    if not todo.stage:
        return
    present = _look(repl, port, {STAGE})
    if STAGE not in present:
        repl.run(f"carry_out([('mkdir', {STAGE!r})])")
    try:
        for path, data in todo.stage.items():
            for start in range(0, max(len(data), 1), _CHUNK):
                part = base64.b64encode(data[start : start + _CHUNK])
                repl.run(f"take({path!r}, {'ab' if start else 'wb'!r}, {part!r})")
        arrived = _look(repl, port, {STAGE})
    except BoardError:
        # It goes on with its old firmware, and should have its room back for that.
        repl.run(f"carry_out({_discard(_look(repl, port, {STAGE}))!r})")
        raise
    if any(arrived.get(path) != _sha256(data) for path, data in todo.stage.items()):
        raise DeployError(f"{port}: a file arrived damaged; deploy again.")


def _discard(paths: Mapping[str, str]) -> list[Step]:
    """The steps that remove files and folders, what is in a folder before the folder."""
    return [("remove" if paths[path] else "rmdir", path) for path in sorted(paths, reverse=True)]


def _staged(name: str, data: bytes) -> str:
    return f"{STAGE}/{_sha256(name.encode() + data)[:16]}"


def _is_staged(path: str) -> bool:
    return path.startswith(f"{STAGE}/")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _explained(error: BoardError, port: str, size: int) -> LimpetError:
    if error.errno == errno.ENOSPC:
        return DeployError(
            f"{port}: the board's filesystem has no room for {size} more bytes: remove files of your own "
            "from it, and deploy again."
        )
    if error.errno == errno.EROFS:
        return DeployError(
            f"{port}: the board's filesystem is read-only: mount it writable (see its boot.py), "
            "and deploy again."
        )
    return error
