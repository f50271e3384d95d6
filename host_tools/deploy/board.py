"""One board: what it has, what it is sent, and the swap."""

import errno
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from host_tools import micropython
from host_tools.deploy.errors import DeployError
from host_tools.deploy.on_board import CODE
from host_tools.deploy.pieces import Place, cut
from host_tools.deploy.plan import STAGE, Plan, plan
from host_tools.deploy.steps import discard
from host_tools.errors import UnverifiedError
from host_tools.repl import BoardError, Repl

_ROUNDS = 3
_SWAP_S = 30.0  # for all renames, on a slow flash

Progress = Callable[[str, int, int], None]
"""Told what is being done, and how many bytes of how many are sent."""


@dataclass(frozen=True)
class Outcome:
    """What was done to a board, or would be."""

    plan: Plan
    sizes: Mapping[str, int]
    """Bytes of each file that the plan changes."""
    sent: int
    """Bytes that went to the board, before they were packed."""


def deploy(
    port: str,
    firmware: Callable[[], Mapping[str, bytes]],
    progress: Progress,
    stop: threading.Event,
    dry_run: bool = False,
) -> Outcome:
    """Make a board have these files and nothing else in our places; it restarts.

    The port is opened first, and the board is not touched before `firmware` has given the files.
    Raises LimpetError.
    """
    repl = Repl(port, CODE, stop)
    try:
        wanted = firmware()
    except BaseException:
        repl.close()
        raise
    progress("looking", 0, 0)
    with repl:
        try:
            return _Board(port, repl, progress).bring_up_to(wanted, dry_run)
        except BoardError as error:
            raise _explained(error, port) from None


class _Board:
    """A board in the raw REPL."""

    def __init__(self, port: str, repl: Repl, progress: Progress) -> None:
        self._port = port
        self._repl = repl
        self._progress = progress
        self._sent = 0

    def bring_up_to(self, wanted: Mapping[str, bytes], dry_run: bool) -> Outcome:
        places = {name.partition("/")[0] for name in wanted} | {STAGE}
        todo = first = plan(wanted, self._look(places))
        for _ in range(_ROUNDS):
            if dry_run or self._carry_out(todo):
                return Outcome(first, {name: len(wanted[name]) for name in first.changed}, self._sent)
            # What has not come right is sent again; and the end of a swap may have been done but not seen.
            todo = plan(wanted, self._look(places))
        raise UnverifiedError(
            f"{self._port}: what is written does not read back as it was sent; see to the board's flash, "
            "and deploy again."
        )

    def _look(self, places: set[str]) -> dict[str, str]:
        """The digests of what is in these places, "" for folders; what was cut off is ended first."""
        try:
            version, free, tree = self._repl.ask(f"report({sorted(places)!r})")
        except BoardError as error:
            if error.last_line.startswith("ImportError"):
                raise self._too_old("lacks what the firmware needs") from None
            raise
        if version < micropython.OLDEST:
            raise self._too_old(f"is {version[0]}.{version[1]}")
        self._repl.has_memory(free)
        return _flat(tree)

    def _too_old(self, how: str) -> DeployError:
        oldest = ".".join(map(str, micropython.OLDEST))
        return DeployError(
            f"{self._port}: the board's MicroPython {how}, but the firmware needs {oldest} or later: "
            "flash a newer one."
        )

    def _carry_out(self, todo: Plan) -> bool:
        """Whether the board has it all, as far as it was seen."""
        if todo.first:
            self._repl.ask(f"drop({todo.first!r})")
        if not todo.ending:
            return True
        size = sum(map(len, todo.stage.values()))
        try:
            if not self._send(todo.stage, size):
                return False
            self._progress("swapping", size, size)
            return bool(self._repl.ask_once(f"swap({todo.ending!r},{todo.room})", _SWAP_S) == todo.proof)
        except BoardError as error:
            # It goes on with its old firmware, and should have its room back for that.
            self._repl.ask(f"drop({discard(self._look({STAGE}))!r})")
            if error.errno == errno.ENOSPC:
                raise DeployError(
                    f"{self._port}: the board's filesystem has no room for {size} more bytes: remove files "
                    "of your own from it, and deploy again."
                ) from None
            raise

    def _send(self, files: Mapping[str, bytes], size: int) -> bool:
        """Send files to the stage; whether they read back right."""
        place = end = Place()
        wrong: list[Any] = []

        def piece(room: int) -> bytes:
            nonlocal end
            data, end = cut(files, place, room)
            return data

        while place.file < len(files):
            self._progress("sending", place.passed(files), size)
            wrong += self._repl.give("take", piece)
            self._sent += end.passed(files) - place.passed(files)
            place = end
        return not wrong


def _flat(tree: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Paths and digests out of folders in folders."""
    found = {}
    for name, what in tree.items():
        path = above + name
        found[path] = what if isinstance(what, str) else ""
        if not isinstance(what, str):
            found |= _flat(what, f"{path}/")
    return found


def _explained(error: BoardError, port: str) -> Exception:
    if error.errno == errno.EROFS:
        return DeployError(
            f"{port}: the board's filesystem is read-only: mount it writable (see its boot.py), "
            "and deploy again."
        )
    return error
