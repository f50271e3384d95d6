"""What a deploy does to a board, as a pure function: from every state to the same end, cut off wherever."""

import hashlib
import itertools
from collections.abc import Mapping

import pytest

from host_tools.deploy import MAIN, STAGE, STAND_IN, Plan, plan

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
    return {p: "" if d is None else hashlib.sha256(d).hexdigest() for p, d in files.items()}


def step(files: Files, name: str, *paths: str) -> None:
    """One step as littlefs does it, its refusals included."""
    if name == "mkdir":
        assert paths[0] not in files
        assert_folder(files, paths[0])
        files[paths[0]] = None
    elif name == "rmdir":
        assert files[paths[0]] is None
        assert not [p for p in files if p.startswith(paths[0] + "/")], "not empty"
        del files[paths[0]]
    elif name == "remove":
        assert files.pop(paths[0]) is not None
    else:
        old, new = paths
        assert name == "rename"
        assert files[old] is not None
        assert files.get(new) is not None or new not in files, "a folder is in the way"
        assert_folder(files, new)
        files[new] = files.pop(old)


def assert_folder(files: Files, path: str) -> None:
    parent = path.rpartition("/")[0]
    assert not parent or files.get(parent, b"") is None, f"no folder {parent}"


def stage(files: Files, todo: Plan) -> None:
    if todo.stage:
        files.setdefault(STAGE, None)
    files.update(todo.stage)


def finish(files: Files, wanted: Mapping[str, bytes] = WANTED) -> Plan:
    todo = plan(wanted, seen(files))
    stage(files, todo)
    for each in todo.steps:
        step(files, *each)
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
    ],
)
def test_every_start_leads_to_the_same_end(start: Files) -> None:
    files = dict(start)
    finish(files)
    assert files == end()
    again = plan(WANTED, seen(files))
    assert again == Plan((), (), len(WANTED), {}, ())


def test_only_what_differs_is_staged() -> None:
    todo = plan(WANTED, seen({**end(), "limpet/node.mpy": b"node 1"}))
    assert (todo.changed, todo.removed, todo.same) == (("limpet/node.mpy",), (), 5)
    assert sorted(todo.stage.values()) == sorted([b"node 2", WANTED[MAIN], STAND_IN])


def test_two_files_of_one_content_are_both_written() -> None:
    files: Files = {}
    finish(files)
    assert files["limpet/__init__.mpy"] == files["limpet/sensors/__init__.mpy"] == b""


def test_what_is_not_ours_is_not_mentioned() -> None:
    # `present` has our places alone, and settings are among them only when they are wanted.
    todo = plan(WANTED, seen(OLD))
    assert not [path for each in todo.steps for path in each[1:] if path == "limpet.json"]
    assert todo.removed == ("limpet/gone/x.mpy",)


@pytest.mark.parametrize("start", [{}, OLD])
def test_cut_off_anywhere_it_never_runs_a_half_package_and_the_next_one_finishes(start: Files) -> None:
    todo = plan(WANTED, seen(start))
    staged = list(todo.stage.items())
    for arrived in range(len(staged) + 1):  # cut off while staging: the old firmware is whole
        files: Files = {**start, STAGE: None, **dict(staged[:arrived])}
        assert all(files.get(path, b"") == data for path, data in start.items())
        again = plan(WANTED, seen(files))
        assert len(again.stage) == len(staged) - arrived, "what has arrived is not sent again"
        finish(files)
        assert files == end()
    for done in range(len(todo.steps) + 1):
        files = dict(start)
        stage(files, todo)
        for each in itertools.islice(todo.steps, done):
            step(files, *each)
        package = {p: d for p, d in files.items() if p.startswith("limpet/")}
        whole = package in (
            {p: d for p, d in start.items() if p.startswith("limpet/")},
            {p: d for p, d in end().items() if p.startswith("limpet/")},
        )
        assert whole or files[MAIN] == STAND_IN
        assert MAIN in files or not done
        finish(files)
        assert files == end()


def test_a_torn_file_on_the_stage_is_sent_again() -> None:
    todo = plan(WANTED, seen(OLD))
    path = next(path for path, data in todo.stage.items() if data == b"node 2")
    assert plan(WANTED, seen({**OLD, STAGE: None, path: b"node"})).stage[path] == b"node 2"
