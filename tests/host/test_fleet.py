"""The fleet record."""

import sqlite3
from pathlib import Path

import pytest

from host_tools.fleet import Fleet, FleetError

MAC = "24:0a:c4:00:00:01"


def test_what_is_recorded_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    with Fleet(path) as fleet:
        assert fleet.board_of(MAC) is None
        fleet.record(MAC, "virtual", "ab" * 32)
        fleet.record(MAC, "virtual", "cd" * 32)
        fleet.record("24:0a:c4:00:00:02", "lolin_d32", "ef" * 32)
    with Fleet(path) as fleet:
        assert fleet.board_of(MAC) == "virtual"
        assert fleet.board_of("24:0a:c4:00:00:02") == "lolin_d32"
    with sqlite3.connect(path) as db:
        rows = db.execute("SELECT mac, board, image FROM boards ORDER BY mac").fetchall()
    assert rows == [(MAC, "virtual", "cd" * 32), ("24:0a:c4:00:00:02", "lolin_d32", "ef" * 32)]


def test_two_may_use_it_at_once(tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    with Fleet(path) as one, Fleet(path) as other:
        one.record(MAC, "virtual", "")
        assert other.board_of(MAC) == "virtual"


def test_files_that_are_no_record(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello, this is no database at all\n" * 100)
    with sqlite3.connect(tmp_path / "other.db") as db:
        db.execute("CREATE TABLE boards (name TEXT)")
    for name in ("text", "other.db", "no/such/folder.db", "."):
        with pytest.raises(FleetError, match=r"cannot be used as a fleet record \(.+\): name another file"):
            Fleet(tmp_path / name)
    assert (tmp_path / "text").read_text().startswith("hello")
