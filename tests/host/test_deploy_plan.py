"""What a deploy does to a board, decided by pure functions: from every state to the same end."""

import ast
import base64
import contextlib
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from host_tools.deploy.ending import MARK
from host_tools.deploy.pieces import Place, cut
from host_tools.deploy.plan import MAIN, STAGE, Plan, digest, plan
from host_tools.repl.envelope import squeezed

WANTED = {
    "boot.py": b"boot",
    "main.py": b"main",
    "limpet/__init__.mpy": b"",
    "limpet/node.mpy": b"node 2",
    "limpet/sensors/__init__.mpy": b"",
    "limpet/sensors/bme280.mpy": b"bme280",
}
OLD = {
    "boot.py": b"boot",
    "main.py": b"main",
    "limpet": None,
    "limpet/__init__.mpy": b"",
    "limpet/node.mpy": b"node 1",
    "limpet/gone": None,
    "limpet/gone/x.mpy": b"x",
}

Files = dict[str, bytes | None]
"""A board's filesystem: the content of files, None for folders."""


def seen(files: Mapping[str, bytes | None]) -> dict[str, str]:
    return {p: "" if d is None else digest(d) for p, d in files.items()}


class Board:
    """A board's filesystem as a folder of this machine; what a deploy does to it is done for real."""

    def __init__(self, folder: Path, files: Mapping[str, bytes | None]) -> None:
        self.folder = folder
        for path, data in sorted(files.items()):
            self.put(path, data)

    def put(self, path: str, data: bytes | None) -> None:
        place = self.folder / path
        if data is None:
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)

    def files(self) -> Files:
        return {
            path.relative_to(self.folder).as_posix(): None if path.is_dir() else path.read_bytes()
            for path in self.folder.rglob("*")
        }

    def stage(self, todo: Plan) -> None:
        for name, path in todo.first:
            getattr(os, name)(self.folder / path)
        for name, data in todo.stage.items():
            self.put(f"{STAGE}/{name}", data)

    def swap(self, todo: Plan) -> str:
        """The digest of what has come into place."""
        if not todo.ending:
            return ""
        (self.folder / STAGE / todo.ending).rename(self.folder / MAIN)
        scope: dict[str, Any] = {"__name__": ""}
        with contextlib.chdir(self.folder):
            exec((self.folder / MAIN).read_text(), scope)
        return digest(*((self.folder / path).read_bytes() for _, path in scope["moves"]))

    def finish(self, wanted: Mapping[str, bytes] = WANTED) -> Plan:
        todo = plan(wanted, seen(self.files()))
        self.stage(todo)
        assert self.swap(todo) == todo.proof
        return todo


def end(wanted: Mapping[str, bytes] = WANTED) -> Files:
    folders = {p.rpartition("/")[0] for p in wanted} - {""}
    return {**wanted, **dict.fromkeys(folders)}


@pytest.mark.parametrize(
    "start",
    [
        {},
        OLD,
        end(),
        {"limpet": b"a file where the package should be"},
        {**end(), "limpet/node.mpy": None, "limpet/node.mpy/x": b"a folder where a file should be"},
        {**end(), "limpet/node.py": b"stale source beside byte code"},
        {**end(), "limpet/empty": None},
        {**end(), STAGE: None, f"{STAGE}/0123": b"of another deploy", f"{STAGE}/f": None},
        {**OLD, STAGE: None, f"{STAGE}/0123": b"of another deploy", f"{STAGE}/f": None, f"{STAGE}/f/x": b"x"},
        {**OLD, STAGE: b"a file where the stage should be"},
    ],
)
def test_every_start_leads_to_the_same_end(start: Files, tmp_path: Path) -> None:
    board = Board(tmp_path, start)
    board.finish()
    assert board.files() == end()
    again = plan(WANTED, seen(board.files()))
    assert again == Plan((), (), len(WANTED), (), {}, "", "", 0)


def test_only_what_differs_is_staged() -> None:
    todo = plan(WANTED, seen({**end(), "limpet/node.mpy": b"node 1"}))
    assert (todo.changed, todo.removed, todo.same) == (("limpet/node.mpy",), (), 5)
    contents = {data for data in todo.stage.values() if not data.startswith(MARK.encode())}
    assert (contents, len(todo.stage)) == ({b"node 2", WANTED[MAIN]}, 3)


def test_two_files_of_one_content_are_both_written(tmp_path: Path) -> None:
    board = Board(tmp_path, {})
    board.finish()
    files = board.files()
    assert files["limpet/__init__.mpy"] == files["limpet/sensors/__init__.mpy"] == b""


def test_what_is_not_ours_is_not_mentioned() -> None:
    # `present` has our places alone, and settings are among them only when they are wanted.
    todo = plan(WANTED, seen(OLD))
    assert b"limpet.json" not in todo.stage[todo.ending]
    assert todo.removed == ("limpet/gone/x.mpy",)


@pytest.mark.parametrize("start", [{}, OLD])
def test_what_has_arrived_is_not_sent_again(start: Files, tmp_path: Path) -> None:
    staged = list(plan(WANTED, seen(start)).stage.items())
    for arrived in range(len(staged) + 1):
        board = Board(tmp_path / str(arrived), {**start, STAGE: None})
        for name, data in staged[:arrived]:
            board.put(f"{STAGE}/{name}", data)
        assert len(plan(WANTED, seen(board.files())).stage) == len(staged) - arrived
        board.finish()
        assert board.files() == end()


def test_a_torn_file_on_the_stage_is_sent_again() -> None:
    todo = plan(WANTED, seen(OLD))
    name = next(name for name, data in todo.stage.items() if data == b"node 2")
    assert plan(WANTED, seen({**OLD, STAGE: None, f"{STAGE}/{name}": b"node"})).stage[name] == b"node 2"


def test_room_is_asked_for_before_the_swap() -> None:
    assert plan(WANTED, seen({})).room == plan(WANTED, seen(end() | {MAIN: b"x"})).room + 2 * 2


def test_pieces_hold_all_bytes_once_and_fit() -> None:
    chance = random.Random(1)
    files = {f"{n:012x}": chance.randbytes(size) for n, size in enumerate((0, 1, 5000, 0, 300, 9000, 0))}
    for room in (1, 100, 1000, 8192, 100_000):
        got: dict[str, bytes] = {}
        place = Place()
        while place.file < len(files):
            piece, place = cut(files, place, room)
            head, _, data = piece.partition(b"\n")
            for name, at, size, whole in ast.literal_eval(head.decode()):
                assert at == len(got.get(name, b""))
                got[name] = got.get(name, b"") + data[:size]
                assert whole == (digest(files[name]) if got[name] == files[name] else "")
                data = data[size:]
            assert not data
            if room >= 1000:
                assert len(base64.b64encode(squeezed(piece))) <= room
        assert got == files
