"""The ledger of runs: what is unsteady, and a quarantine that has a reason and an end."""

import multiprocessing
import sqlite3
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from host_tools.cli.hil import quarantine
from host_tools.errors import LimpetError, UsageError
from host_tools.hil.evidence.collect import Results
from host_tools.hil.evidence.flaky import (
    Ledger,
    Quarantine,
    Run,
    Tally,
    outcome_with_quarantine,
    with_quarantine,
)
from host_tools.hil.evidence.record import OUTCOMES
from tests.host.evidence_results import DESK, START, result

TEST = "tests/hil/test_a.py::test_one"
DAY = 86_400.0
HELD = Quarantine(TEST, "virtual", START, START + 7 * DAY, "the antenna is loose")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "ledger.db"


def runs(*outcomes: str, **changes) -> list:
    return [result(outcome=each, started=START + n, **changes) for n, each in enumerate(outcomes)]


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize(
    ("quarantine", "now", "holds"),
    [
        (None, START, False),
        (HELD, START - 1, False),
        (HELD, START, True),
        (HELD, START + 7 * DAY - 1, True),
        (HELD, START + 7 * DAY, False),
    ],
)
def test_only_a_failure_in_quarantine_counts_differently(outcome, quarantine, now, holds):
    counts = outcome_with_quarantine(outcome, quarantine, now)
    assert counts == ("quarantined" if holds and outcome == "failed" else outcome)


def test_a_quarantine_is_of_one_test_on_one_rig_and_tells_why():
    results = Results(
        (
            result(outcome="failed", why="assert 0"),
            result(DESK, outcome="failed"),
            result(outcome="failed", test="other"),
            result(outcome="failed", started=START + 8 * DAY),
            result(outcome="passed"),
        ),
        ("lost",),
    )
    judged = with_quarantine(results, [HELD])
    assert [each.outcome for each in judged] == ["quarantined", "failed", "failed", "failed", "passed"]
    assert judged[0].why == "assert 0\nIn quarantine until 2023-11-21: the antenna is loose"
    assert judged[1:] == results[1:]
    assert judged.lost == ("lost",)


def test_runs_are_remembered_once(path):
    with Ledger(path) as ledger:
        ledger.record(runs("passed", "flaky", attempts=2))
    with Ledger(path) as ledger:
        ledger.record(runs("passed", "flaky", "failed"))
        assert ledger.history(TEST, "virtual") == [
            Run(START + 2, "failed", 1),
            Run(START + 1, "flaky", 2),
            Run(START, "passed", 2),
        ]
        assert ledger.history(TEST, "desk") == []


def test_the_least_steady_test_comes_first(path):
    with Ledger(path) as ledger:
        ledger.record(runs("passed", "passed", "failed", "blocked", test="one of three"))
        ledger.record(runs("passed", "flaky", "quarantined", test="two of three"))
        ledger.record(runs("failed", "failed", "blocked", test="always fails"))
        ledger.record(runs("passed", "blocked", test="always passes"))
        ledger.record(runs("blocked", test="never ran"))
        ledger.record(runs("flaky", test="elsewhere", rig="desk"))
        assert ledger.unsteady() == [
            Tally("elsewhere", "desk", 1, 1, 0, START),
            Tally("two of three", "virtual", 3, 1, 1, START + 2),
            Tally("one of three", "virtual", 3, 0, 1, START + 2),
        ]


def test_a_quarantine_expires_by_itself(path):
    with Ledger(path) as ledger:
        made = ledger.quarantine(TEST, "virtual", 7, " the antenna is loose\n", now=START)
        assert made == HELD
        later = ledger.quarantine(TEST, "desk", 0.5, "x", now=START + 7 * DAY - 1)
        assert ledger.quarantines(START + 7 * DAY - 1) == [made, later]
        assert ledger.quarantines(START + 7 * DAY) == [later]
        assert ledger.quarantines() == []


def test_a_new_quarantine_replaces_the_old_one_and_can_be_ended(path):
    with Ledger(path) as ledger:
        ledger.quarantine(TEST, "virtual", 7, "first", now=START)
        second = ledger.quarantine(TEST, "virtual", 1, "second", now=START)
        assert ledger.quarantines(START) == [second]
        ledger.release(TEST, "virtual")
        assert ledger.quarantines(START) == []
        with pytest.raises(UsageError, match="is not in quarantine on 'virtual'"):
            ledger.release(TEST, "virtual")


@pytest.mark.parametrize("days", [0, -1, 90.5, float("nan"), float("inf")])
def test_a_quarantine_has_an_end(path, days):
    with Ledger(path) as ledger, pytest.raises(UsageError, match="more than 0 and at most 90"):
        ledger.quarantine(TEST, "virtual", days, "why")


def test_a_quarantine_has_a_reason(path):
    with Ledger(path) as ledger, pytest.raises(UsageError, match="say why"):
        ledger.quarantine(TEST, "virtual", 1, "  ")


_AT_ONCE = 4
_PATIENCE_S = 60.0  # when one of them dies, the others do not wait for ever


def _write(folder: Path, worker: int, start: Barrier) -> None:
    for number in range(8):
        start.wait(_PATIENCE_S)
        with Ledger(folder / f"{number}.db") as ledger:
            ledger.record([result(rig=f"rig{worker}")])
            ledger.record([result(rig=f"rig{worker}", started=START + 1)])


def test_several_processes_write_to_a_new_ledger(tmp_path):
    context = multiprocessing.get_context("fork")
    start = context.Barrier(_AT_ONCE)
    workers = [
        context.Process(target=_write, args=(tmp_path, n, start), daemon=True) for n in range(_AT_ONCE)
    ]
    for each in workers:
        each.start()
    for each in workers:
        each.join(2 * _PATIENCE_S)
    assert [each.exitcode for each in workers] == [0] * _AT_ONCE
    for number in range(8):
        with Ledger(tmp_path / f"{number}.db") as ledger:
            assert [len(ledger.history(TEST, f"rig{n}")) for n in range(_AT_ONCE)] == [2] * _AT_ONCE


def test_a_change_that_fails_leaves_nothing(path):
    with Ledger(path) as ledger:
        with pytest.raises(sqlite3.Error):
            ledger.record([result(), result(started=START + 1, attempts={})])
        assert ledger.history(TEST, "virtual") == []
        ledger.record([result()])
        assert len(ledger.history(TEST, "virtual")) == 1


def test_a_file_that_is_no_ledger_is_told_and_left_alone(path):
    path.parent.mkdir()
    path.write_text("dear diary, " * 100)
    with pytest.raises(LimpetError, match=r"ledger\.db is no ledger of test runs"):
        Ledger(path)
    assert path.read_text().startswith("dear diary")


def test_a_ledger_of_a_newer_limpet_is_refused(path):
    path.parent.mkdir()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 2")
    with pytest.raises(LimpetError, match="of a newer limpet"):
        Ledger(path)


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LimpetError, match=r"cannot be made .*name another file"):
        Ledger(tmp_path / "file" / "ledger.db")
    with pytest.raises(LimpetError, match="cannot be used"):
        Ledger(tmp_path)


def test_a_quarantine_of_what_never_ran_is_told(tmp_path, capsys):
    path = tmp_path / "hil.db"
    quarantine("t.py::tset", "desk", "issue 31", 14, path)
    assert f"{path} has no run of 't.py::tset' on 'desk': see that" in capsys.readouterr().err
