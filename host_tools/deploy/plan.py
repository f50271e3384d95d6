"""What has to be done to a board, as a pure function of what it has and what it should have.

What differs is first staged in a folder of its own, and the old firmware stays whole meanwhile. Then one
rename puts a program (`ending`) in the place of `main.py`, which takes the new files into their places, the
real `main.py` last. A board whose power fails in between starts with it, and goes on where it was. So it
boots the old firmware or the new one, never half of each.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from host_tools.deploy import ending
from host_tools.deploy.steps import Step, discard

STAGE = "limpet.new"
"""The folder on the board where new files wait, under names made of their hashes."""

MAIN = "main.py"

DIGEST_SIZE = 12
"""Bytes of a SHA-256 that travel: 96 bits leave nothing to chance."""

_SPARE_BLOCKS = 8
_BLOCKS_A_FOLDER = 2  # littlefs keeps each in a pair


@dataclass(frozen=True)
class Plan:
    """What has to be done to a board."""

    changed: tuple[str, ...]
    """The files that are new, or have another content."""
    removed: tuple[str, ...]
    """The files that the firmware does not have."""
    same: int
    """How many files stay as they are."""
    first: tuple[Step, ...]
    """What must go before anything is staged."""
    stage: Mapping[str, bytes]
    """What the stage still lacks, by its name there."""
    ending: str
    """The name, on the stage, of the program that takes the files into place; empty: there is nothing to."""
    proof: str
    """The digest of all changed files, one after the other, once they are in place."""
    room: int
    """Blocks of the filesystem that must be free before the program begins: then it cannot stop for room."""


def digest(*data: bytes) -> str:
    """What the board says of these contents, one after the other."""
    sha = hashlib.sha256()
    for each in data:
        sha.update(each)
    return base64.b64encode(sha.digest()[:DIGEST_SIZE]).decode()


def plan(wanted: Mapping[str, bytes], present: Mapping[str, str]) -> Plan:
    """Compare the files that a board should have, `main.py` among them, with those it has.

    `present` has what is in our places on the board, the stage of a deploy that was cut off included: the
    digest of each file, and "" for each folder. What of it is not wanted goes.
    """
    waiting = {path: found for path, found in present.items() if path == STAGE or _is_staged(path)}
    placed = {path: found for path, found in present.items() if path not in waiting}
    folders = {str(parent) for name in wanted for parent in PurePosixPath(name).parents} - {"."}
    changed = sorted(name for name, data in wanted.items() if placed.get(name) != digest(data))
    stale = {path: found for path, found in placed.items() if path not in (wanted if found else folders)}
    removed = tuple(sorted(path for path, found in stale.items() if found))
    same = len(wanted) - len(changed)
    names = {path.partition("/")[2]: found for path, found in waiting.items()}
    if not changed and not stale:
        return Plan((), (), same, discard(waiting), {}, "", "", 0)

    moves = [(_staged(name, wanted[name]), name) for name in changed if name != MAIN]
    moves.append((_staged(MAIN, wanted[MAIN]), MAIN))
    contents = {staged: wanted[name] for staged, name in moves}
    made = sorted(path for path in folders if placed.get(path) != "")
    program = ending.program(STAGE, (*discard(stale), *(("mkdir", path) for path in made)), moves)
    contents[_staged("", program)] = program
    return Plan(
        tuple(changed),
        removed,
        same,
        discard({path: found for path, found in waiting.items() if not _may_wait(path, found)}),
        {name: data for name, data in contents.items() if names.get(name) != digest(data)},
        _staged("", program),
        digest(*(wanted[name] for _, name in moves)),
        _SPARE_BLOCKS + _BLOCKS_A_FOLDER * len(made),
    )


def _staged(name: str, data: bytes) -> str:
    return hashlib.sha256(name.encode() + b"\0" + data).hexdigest()[:12]


def _is_staged(path: str) -> bool:
    return path.startswith(f"{STAGE}/")


def _may_wait(path: str, found: str) -> bool:
    """Whether it is the stage, or a file on it, and no folder or file of somebody else's."""
    return not found if path == STAGE else bool(found) and path.count("/") == 1
