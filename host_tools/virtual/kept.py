"""The folders of virtual boards: what each of them keeps from one run to the next.

`DIR/1`, `DIR/2` and so on, each with `flash.bin`, `board.json` (which board it is, and its MAC) and, while it
runs, the socket `control`.
"""

import contextlib
import fcntl
import json
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from host_tools import boards, image
from host_tools.boards import Board
from host_tools.errors import LimpetError, UsageError
from host_tools.pki import files

FLASH = "flash.bin"
_BOARD = "board.json"
_ESPRESSIF = bytes.fromhex("240ac4")
_MAC = re.compile("240ac4[0-9a-f]{6}")
_DEFAULT = "virtual"


@dataclass(frozen=True)
class Kept:
    """One board's folder, ours as long as `open_boards` says."""

    number: int
    folder: Path
    board: Board
    mac: bytes

    @property
    def flash(self) -> Path:
        """Its flash file."""
        return self.folder / FLASH


@contextlib.contextmanager
def open_boards(root: Path, count: int, name: str | None, *, blank: bool) -> Iterator[list[Kept]]:
    """The first `count` boards of `root`, made where they are missing, and for nobody else meanwhile.

    `name` is the board to be; None: whatever it was, a new one is "virtual". New flash files hold the
    firmware and nothing else, or nothing at all when `blank`. Raises LimpetError when that cannot be.
    """
    if name and name.endswith(".toml"):
        name = str(Path(name).resolve())  # the next time may be in another folder
    folders = [root / str(number) for number in range(1, count + 1)]
    known = [_read(folder, name) for folder in folders]
    wanted = [found[0] if found else boards.load_board(name or _DEFAULT) for found in known]
    missing = [folder for folder in folders if not files.exists(folder / FLASH)]
    if blank and not missing:
        raise UsageError(
            f"--blank is for new boards, but {folders[0] / FLASH} is there already: remove it, or name "
            "another folder by --state."
        )
    with contextlib.ExitStack() as locks:
        made = []
        contents = None if blank or not missing else image.firmware_files()
        for number, (folder, board, found) in enumerate(zip(folders, wanted, known, strict=True), 1):
            files.make_private_folder(folder)
            mac = found[1] if found else _ESPRESSIF + secrets.token_bytes(3)
            if not found:
                text = json.dumps({"board": name or _DEFAULT, "mac": mac.hex()})
                files.write_private(folder / _BOARD, f"{text}\n".encode())
            if folder in missing:
                empty = b"\xff" * board.flash_size
                flash = empty if contents is None else image.compose(board, contents, stand_in=True)
                files.write_private(folder / FLASH, flash)
            locks.enter_context(_claim(folder / FLASH, board))
            made.append(Kept(number, folder, board, mac))
        yield made


def control_sockets(where: Path, socket: str) -> list[Path]:
    """The sockets called `socket` of the boards at `where`: one, a board's folder, or a folder of boards."""
    if where.is_dir():
        numbers = sorted((p for p in where.iterdir() if p.name.isdecimal()), key=lambda p: int(p.name))
        return [p / socket for p in numbers if (p / socket).exists()] or [where / socket]
    return [where]


def _read(folder: Path, name: str | None) -> tuple[Board, bytes] | None:
    """What a folder's board is, and its MAC; None when there is none yet."""
    path = folder / _BOARD
    if not files.exists(path):
        return None
    try:
        words = json.loads(files.read(path, "board's description"))
        kept, mac = words["board"], words["mac"]
        if not isinstance(kept, str) or not _MAC.fullmatch(mac):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise LimpetError(
            f"{path} does not say which board this is: remove it to get a new MAC, or name another folder."
        ) from None
    if name not in (None, kept):
        raise UsageError(
            f"{folder} is a board '{kept}', not '{name}': leave --board out, or name another folder by "
            "--state."
        )
    return boards.load_board(kept), bytes.fromhex(mac)


@contextlib.contextmanager
def _claim(path: Path, board: Board) -> Iterator[None]:
    """Keep a flash file for one board. Raises LimpetError when another has it, or it is not this one's."""
    with _opened(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LimpetError(
                f"{path} is the flash of a virtual board that runs: end that one, or name another folder by "
                "--state."
            ) from None
        size = path.stat().st_size
        if size != board.flash_size:
            raise LimpetError(
                f"{path} has {size} bytes, but the flash of '{board.name}' has {board.flash_size}: remove it "
                "to get a new one, or name another folder by --state."
            )
        yield


def _opened(path: Path) -> BinaryIO:
    if not path.is_file():
        raise LimpetError(f"{path} is not a file: remove it, or name another folder by --state.")
    try:
        return path.open("r+b")
    except OSError as e:
        raise LimpetError(
            f"{path} cannot be opened for reading and writing ({e.strerror}): let it be written, or name "
            "another folder by --state."
        ) from None
