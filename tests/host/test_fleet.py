"""The fleet record: what it keeps, what it forbids, and what it survives."""

import itertools
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from host_tools.errors import LimpetError, RefusedError, UsageError
from host_tools.fleet import CLAIMED, IN_SERVICE, RETIRED, Entry, Fleet, FleetError, Node, Record, schema

MAC = "24:0a:c4:00:00:01"
OTHER = "24:0a:c4:00:00:02"
RECORD = Record(
    node_id="n01",
    mac=MAC,
    location="1-1.2",
    board="virtual",
    image="ab" * 32,
    serial="1f",
    fingerprint="cd" * 32,
    client_id="n01",
    first_publish="2026-11-01T10:00:00+00:00",
    expires="2029-02-01T10:00:00+00:00",
    settings="ef" * 32,
)
OLD_SCHEMA = (
    "CREATE TABLE boards (mac TEXT PRIMARY KEY, board TEXT NOT NULL, image TEXT NOT NULL, "
    "flashed_at TEXT NOT NULL)"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fleet.db"


def test_what_is_recorded_is_found_again(path: Path) -> None:
    with Fleet(path) as fleet:
        assert fleet.board_of(MAC) is None
        fleet.record(MAC, "virtual", "ab" * 32)
        fleet.record(MAC, "virtual", "cd" * 32)
        fleet.record(OTHER, "lolin_d32", "ef" * 32)
    with Fleet(path) as fleet:
        assert fleet.board_of(MAC) == "virtual"
        assert fleet.board_of(OTHER) == "lolin_d32"
        assert [entry.facts["image"] for entry in fleet.journal(MAC)] == ["ab" * 32, "cd" * 32]


def test_a_node_from_its_claim_to_its_end(path: Path) -> None:
    with Fleet(path) as fleet:
        fleet.claim(MAC, "n01")
        fleet.claim(MAC, "n01")  # a run that was killed asks again
        node = fleet.known("n01")
        assert (node.state, node.mac, node.fingerprint) == (CLAIMED, MAC, "")
        fleet.note(MAC, "n01", "key", born="node")
        fleet.in_service(RECORD)
        node = fleet.known("n01")
        assert node.state == IN_SERVICE and node.provisioned_at
        assert all(getattr(node, name) == getattr(RECORD, name) for name in Record.__slots__)
        fleet.rotated("n01", "20", "aa" * 32, "2030-01-01T00:00:00+00:00")
        assert fleet.known("n01").fingerprint == "aa" * 32
        fleet.retire("n01", "decommissioned")
        fleet.retire("n01", "once more")
        node = fleet.known("n01")
        assert (node.state, node.reason, fleet.node_of(MAC)) == (RETIRED, "decommissioned", None)
        steps = [entry.step for entry in fleet.journal(MAC)]
        assert steps == ["claimed", "key", "in service", "rotated", "retired"]
        assert fleet.journal(MAC)[1] == replace(fleet.journal_of("n01")[1], facts={"born": "node"})
        assert fleet.journal(MAC)[3].facts["before"] == RECORD.fingerprint


def test_never_two_nodes_with_one_id_nor_two_ids_for_one_board(path: Path) -> None:
    with Fleet(path) as fleet:
        fleet.claim(MAC, "n01")
        with pytest.raises(RefusedError, match=f"'n01' is the board {MAC}: take another id, or replace it"):
            fleet.claim(OTHER, "n01")
        for replaces in (False, True):
            with pytest.raises(RefusedError, match=f"board {MAC} is the node 'n01' already"):
                fleet.claim(MAC, "n02", replace=replaces)
        assert [node.node_id for node in fleet.nodes()] == ["n01"]
        fleet.retire("n01", "lost")
        with pytest.raises(RefusedError, match="'n01' was retired on 20"):
            fleet.claim(OTHER, "n01")
        fleet.claim(MAC, "n02")  # the board is free again


def test_a_broken_board_is_replaced_under_its_id(path: Path) -> None:
    with Fleet(path) as fleet:
        fleet.claim(MAC, "n01")
        fleet.in_service(RECORD)
        fleet.claim(OTHER, "n01", replace=True)
        node = fleet.known("n01")
        assert node == Node("n01", OTHER, CLAIMED, node.claimed_at)
        assert fleet.node_of(MAC) is None
        [replaced] = [entry for entry in fleet.journal(MAC) if entry.step == "replaced"]
        assert replaced.facts == {"by": OTHER, "fingerprint": RECORD.fingerprint}
        fleet.in_service(replace(RECORD, mac=OTHER, serial="2f", fingerprint="ee" * 32))


def test_a_chain_is_whole_and_its_own_or_it_is_not_recorded(path: Path) -> None:
    with Fleet(path) as fleet:
        with pytest.raises(RefusedError, match=f"'n01' is not claimed for the board {MAC}"):
            fleet.in_service(RECORD)
        fleet.claim(MAC, "n01")
        with pytest.raises(RefusedError, match=f"not claimed for the board {OTHER}"):
            fleet.in_service(replace(RECORD, mac=OTHER))
        for name in ("location", "image", "fingerprint", "settings"):
            with pytest.raises(FleetError, match=f"'n01' lacks {name}"):
                fleet.in_service(replace(RECORD, **{name: ""}))
        with pytest.raises(FleetError, match="'soon' is no time"):
            fleet.in_service(replace(RECORD, expires="soon"))
        with pytest.raises(RefusedError, match="has a link that is another node's"):
            fleet.in_service(replace(RECORD, client_id="n02"))
        fleet.in_service(RECORD)
        fleet.claim(OTHER, "n02")
        second = replace(RECORD, node_id="n02", client_id="n02", mac=OTHER, serial="2f")
        with pytest.raises(RefusedError, match=r"another node's \(UNIQUE .*fingerprint"):
            fleet.in_service(second)
        assert fleet.known("n02").state == CLAIMED
        fleet.in_service(replace(second, fingerprint="ee" * 32))


def test_seen_goes_forward_alone(path: Path) -> None:
    with Fleet(path) as fleet:
        fleet.claim(MAC, "n01")
        for day in (2, 3, 1):
            fleet.seen("n01", datetime(2026, 1, day, tzinfo=UTC))
        assert fleet.known("n01").last_seen == "2026-01-03T00:00:00+00:00"


@pytest.mark.parametrize(
    ("pattern", "first"),
    [("line3-{n:03}", "line3-002"), ("{n}", "2"), ("a{n:2}b", "a02b"), ("n{n:09}", "n000000002")],
)
def test_ids_of_a_pattern(path: Path, pattern: str, first: str) -> None:
    with Fleet(path) as fleet:
        taken = fleet.claim_next(MAC, pattern)
        fleet.retire(taken, "lost")
        assert fleet.next_id(pattern) == first  # an id is never used again
        assert fleet.claim_next(OTHER, pattern) == first
        assert fleet.claim_next(OTHER, "whatever{n}") == first  # it has one


@pytest.mark.parametrize(
    "pattern",
    ["n01", "{n}{n}", "-{n}", "{n.__class__}", "{n:3x}", "{x}", "a b{n}", "{n", "", "x" * 40 + "{n}"],
)
def test_patterns_that_make_no_ids(path: Path, pattern: str) -> None:
    with Fleet(path) as fleet, pytest.raises(UsageError, match=r"makes no node ids: write one place"):
        fleet.next_id(pattern)


def test_a_pattern_can_be_used_up(path: Path) -> None:
    pattern = "x" * 31 + "{n}"
    with Fleet(path) as fleet:
        for number in range(1, 10):
            fleet.claim_next(f"24:0a:c4:00:00:{number:02x}", pattern)
        with pytest.raises(RefusedError, match=r"All node ids of .* were used"):
            fleet.claim_next("24:0a:c4:00:00:ff", pattern)


@pytest.mark.parametrize("mac", ["", "24:0A:C4:00:00:01", "240ac4000001", "24:0a:c4:00:00"])
def test_a_board_without_a_mac_is_none(path: Path, mac: str) -> None:
    with Fleet(path) as fleet:
        for act in (lambda: fleet.claim(mac, "n01"), lambda: fleet.note(mac, "", "detect")):
            with pytest.raises(RefusedError, match="is no MAC address"):
                act()


def test_the_file_itself_forbids_what_must_not_be(path: Path) -> None:
    with Fleet(path) as fleet:
        fleet.claim(MAC, "n01")
    db = sqlite3.connect(path)
    for words in ("UPDATE journal SET step = 'x'", "DELETE FROM journal"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            db.execute(words)
    twice = f"INSERT INTO nodes (node_id, mac, state, claimed_at) VALUES ('n02', '{MAC}', 'claimed', '')"
    with pytest.raises(sqlite3.IntegrityError, match=r"UNIQUE .* nodes.mac"):
        db.execute(twice)
    for words in ("DELETE FROM nodes", "UPDATE nodes SET node_id = 'n02'"):
        with pytest.raises(sqlite3.IntegrityError, match=r"never deleted|keeps its id"):
            db.execute(words)
    db.close()


def test_an_old_record_is_carried_over(path: Path) -> None:
    old = sqlite3.connect(path)
    old.execute(OLD_SCHEMA)
    rows = [
        (MAC, "virtual", "ab" * 32, "2026-01-01T00:00:00+00:00"),
        (OTHER, "lolin_d32", "", "2025-01-01T00:00:00+00:00"),
    ]
    old.executemany("INSERT INTO boards VALUES (?, ?, ?, ?)", rows)
    old.commit()
    old.close()
    with Fleet(path) as fleet:
        assert (fleet.board_of(MAC), fleet.board_of(OTHER), fleet.nodes()) == ("virtual", "lolin_d32", [])
        fleet.claim(MAC, "n01")
    kept = sqlite3.connect(path)
    assert kept.execute("SELECT * FROM boards").fetchall() == rows
    assert kept.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
    kept.close()


def test_a_record_of_a_newer_limpet_is_left_alone(path: Path) -> None:
    Fleet(path).__exit__(None, None, None)
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    db.close()
    before = path.read_bytes()
    with pytest.raises(
        FleetError,
        match=f"newer limpet .its version is {schema.VERSION + 1}, this one knows {schema.VERSION}",
    ):
        Fleet(path)
    assert path.read_bytes() == before


def test_files_that_are_no_record(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello, this is no database at all\n" * 100)
    os.mkfifo(tmp_path / "pipe")
    for name, words in {
        "other.db": ["CREATE TABLE boards (name TEXT)"],
        "another.db": ["CREATE TABLE recipes (name TEXT)"],
        "later.db": ["CREATE TABLE x (y)", f"PRAGMA user_version = {schema.VERSION}"],
    }.items():
        db = sqlite3.connect(tmp_path / name)
        for each in words:
            db.execute(each)
        db.close()
    for name in ("text", "other.db", "another.db", "later.db", "pipe", "no/such/folder.db", "."):
        with pytest.raises(FleetError, match=r"cannot be used as a fleet record \(.+\): name another file"):
            Fleet(tmp_path / name)
    assert (tmp_path / "text").read_text().startswith("hello")
    with pytest.raises(FleetError, match=r"There is no fleet record .*: name it with --fleet"):
        Fleet(tmp_path / "none", create=False)
    assert not (tmp_path / "none").exists()


def test_it_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        for name in ("new", "old"):
            path = tmp_path / name
            if name == "old":
                path.touch(0o666)
            with Fleet(path) as fleet:
                fleet.claim(MAC, "n01")
            assert path.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)


def test_damage_is_one_sentence(path: Path) -> None:
    with Fleet(path) as fleet:
        for number in range(20):
            mac = f"24:0a:c4:00:00:{number:02x}"
            node_id = fleet.claim_next(mac, "n{n}")
            fleet.in_service(
                replace(
                    RECORD,
                    node_id=node_id,
                    mac=mac,
                    client_id=node_id,
                    serial=str(number),
                    fingerprint=f"{number:064x}",
                )
            )
    whole = path.read_bytes()
    dice = random.Random(5)
    refused = 0
    for round_ in range(120):
        damaged = bytearray(whole)
        if round_ % 4 == 0:
            del damaged[dice.randrange(len(damaged)) :]
        for _ in range(1 << round_ % 8):
            if damaged:
                damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
        path.write_bytes(damaged)
        try:
            with Fleet(path) as fleet:
                fleet.nodes()
                fleet.journal(MAC)
                fleet.journal_of("n3")
                fleet.claim_next("24:0a:c4:00:01:00", "n{n}")
                fleet.rotated("n4", "77", "77" * 32, RECORD.expires)
                fleet.retire("n5", "lost")
        except LimpetError as error:
            assert "\n" not in str(error)
            refused += 1
        path.with_name("fleet.db-journal").unlink(missing_ok=True)
    assert 10 < refused < 120


RACE = """
import sys
from pathlib import Path
from host_tools.fleet import Fleet
number = int(sys.argv[2])
sys.stdin.readline()
with Fleet(Path(sys.argv[1])) as fleet:
    for i in range(10):
        print(fleet.claim_next(f"24:0a:c4:00:{number:02x}:{i:02x}", "n{n:03}"))
"""


def child(script: str, *words: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_processes_side_by_side(path: Path) -> None:
    racers = [child(RACE, path, number) for number in range(3)]
    for each in racers:  # all have loaded, and none has opened the record
        assert each.stdin
        each.stdin.write("go\n")
        each.stdin.flush()
    said = [each.communicate(timeout=60)[0].split() for each in racers]
    assert [each.returncode for each in racers] == [0, 0, 0]
    assert sorted(itertools.chain(*said)) == [f"n{number:03}" for number in range(1, 31)]
    with Fleet(path) as fleet:
        assert len({node.mac for node in fleet.nodes()}) == 30


KILLED = """
import sys, time
from pathlib import Path
from host_tools.fleet import Fleet
fleet = Fleet(Path(sys.argv[1]))
fleet._db.execute("PRAGMA cache_size = 1")  # so that it writes into the file before it commits
fleet._db.execute("BEGIN IMMEDIATE")
fleet._db.execute("UPDATE nodes SET location = 'nowhere'")
for i in range(400):
    fleet._append("24:0a:c4:00:00:01", "n01", "x" * 500, {})
print("written", flush=True)
time.sleep(60)
"""


def test_killed_while_it_writes(path: Path) -> None:
    with Fleet(path) as fleet:
        fleet.claim(MAC, "n01")
        fleet.in_service(RECORD)
        before = fleet.nodes(), fleet.journal(MAC)
    size = path.stat().st_size
    writer = child(KILLED, path)
    assert writer.stdout and writer.stdout.readline() == "written\n"
    assert path.stat().st_size > size  # it is in the midst of it
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    with Fleet(path) as fleet:
        assert (fleet.nodes(), fleet.journal(MAC)) == before
        fleet.retire("n01", "lost")


def test_who_waits_too_long_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host_tools.fleet.database._PATIENCE_S", 0.1)
    with Fleet(path) as fleet:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(
            FleetError, match=r"was in use by another program for 0 s: end that one, and try again"
        ):
            fleet.claim(MAC, "n01")
        other.close()
        fleet.claim(MAC, "n01")


def test_what_fails_leaves_nothing(path: Path) -> None:
    with Fleet(path) as fleet:
        acts: list[Callable[[], None]] = [
            lambda: fleet.retire("n09", "lost"),
            lambda: fleet.rotated("n09", "1", "2", RECORD.expires),
            lambda: fleet.note(MAC, "n09", "key"),
        ]
        for act in acts:
            with pytest.raises(FleetError):
                act()
        fleet.claim(MAC, "n01")
        with pytest.raises(RefusedError, match="'n01' is not in service: it is claimed"):
            fleet.rotated("n01", "1", "2", RECORD.expires)
        assert [entry.step for entry in fleet.journal(MAC)] == ["claimed"]
        assert isinstance(fleet.journal(MAC)[0], Entry)
