"""`limpet hil run`: what it makes of an order, and runs of real pytest processes that pass, fail, die and are
interrupted. Their tests need no rig: what a rig does is the matter of other tests."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from host_tools.errors import LimpetError, UsageError
from host_tools.hil import run as hil
from host_tools.hil import screen
from host_tools.hil.children import Ended, Job, Watch, collected, complaint, run_all
from host_tools.hil.evidence import Outcome, Result
from host_tools.hil.evidence.flaky import Ledger
from host_tools.hil.evidence.record import Line
from host_tools.hil.run import Order, Wanted, chosen, exit_code, plan, suite
from host_tools.hil.screen import told
from tests.host.stand import wait_until

BENCH = """
rung = "bench"
board = "esp32_devkitc"
port = {{ {port} }}
host = "192.168.7.2"
[wifi]
ssid = "bench"
[sensors.bme280]
period = "1s"
"""
SUITE = """
import os, pathlib, signal
import pytest
from host_tools.hil.blocked import Blocked

pytestmark = pytest.mark.rung("vm")
HERE = pathlib.Path(__file__).parent

def test_passes(request):
    assert request.config.getoption("--rig")[0].endswith("virtual.toml")

def test_fails():
    assert not "good"

def test_is_blocked():
    raise Blocked("there is no crane")

def test_passes_at_last(request):
    mark = HERE / f"{os.getpid()}.tried"
    tried = mark.exists()
    mark.touch()
    assert tried

def test_is_in_quarantine():
    assert not "steady"

def test_dies_once():
    try:
        (HERE / "died").mkdir()
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)

def test_comes_after_that():
    pass
"""
ENDLESS = """
import pathlib, time
import pytest

pytestmark = pytest.mark.rung("vm")

@pytest.fixture
def bench():
    yield
    (pathlib.Path(__file__).parent / "taken down").touch()

def test_never_ends(bench):
    time.sleep(600)
"""


class Seen(Watch):
    """Everything that is told of a run."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.lines: list[str] = []
        self._lines = screen.Lines(self.lines.append)
        self.ends: dict[str, Ended] = {}

    def started(self, job: Job) -> None:
        self._lines.started(job)

    def collected(self, job: Job, count: int) -> None:
        self.counts[job.name] = count
        self._lines.collected(job, count)

    def line(self, job: Job, line: Line) -> None:
        self._lines.line(job, line)

    def ended(self, ended: Ended) -> None:
        self.ends[ended.job.name] = ended
        self._lines.ended(ended)


@pytest.fixture
def rigs(tmp_path: Path) -> Path:
    folder = tmp_path / "rigs"
    folder.mkdir()
    (folder / "desk.toml").write_text(BENCH.format(port='mac = "24:0a:c4:00:00:01"'))
    return folder


def _result(outcome: Outcome) -> Result:
    return Result(rung="virtual", rig="virtual", test="t.py::t", outcome=outcome, started=0, seconds=1)


# What is made of an order


def test_the_rigs_of_an_order(rigs):
    def names(*words: str, rungs: tuple[str, ...] = ()) -> list[tuple[str, int]]:
        return [(e.rig.name, e.count) for e in chosen(Order(rigs=words, rungs=rungs, folder=rigs))]

    assert names() == [("virtual", 1)]
    assert names("desk", "virtual:3") == [("desk", 1), ("virtual", 3)]
    assert names(f"{rigs / 'desk.toml'}:1") == [("desk", 1)]
    assert names(rungs=("bench",)) == [("desk", 1)]
    assert names("desk", "virtual", rungs=("virtual",)) == [("virtual", 1)]


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (Order(rigs=("dsk",)), "There is no rig 'dsk' in {rigs}. Did you mean 'desk'?"),
        (Order(rigs=("desk:2",)), "--rig desk:2: 'desk' is one real board: leave ':2' out."),
        (Order(rigs=("virtual:0",)), "--rig virtual:0: write a number of boards from 1 to 64."),
        (Order(rigs=("virtual:65",)), "--rig virtual:65: write a number of boards from 1 to 64."),
        (
            Order(rigs=("virtual", "virtual:2")),
            "The rig 'virtual' stands there twice: name it once, and with ':2' for two boards of it.",
        ),
        (Order(rungs=("vitual",)), "There is no rung 'vitual'. Did you mean 'virtual'?"),
        (
            Order(rigs=("virtual",), rungs=("bench",)),
            "None of the rigs virtual is of the rung bench: name another rung, or write a rig file.",
        ),
        (
            Order(rungs=("emulator",)),
            "No rig in {rigs} is of the rung emulator: name another rung, or write a rig file.",
        ),
    ],
)
def test_an_order_that_makes_no_sense(rigs, order, said):
    with pytest.raises(UsageError) as caught:
        chosen(Order(**{**order.__dict__, "folder": rigs}))
    assert str(caught.value).startswith(said.format(rigs=rigs))


def test_two_rigs_with_one_board(rigs):
    (rigs / "shelf.toml").write_text((rigs / "desk.toml").read_text())
    with pytest.raises(LimpetError, match="the rigs 'desk' and 'shelf' both claim"):
        chosen(Order(rigs=("desk", "shelf"), folder=rigs))


def test_tests_that_are_not_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"^There is no folder tests/hil here: name the tests to run\.$"):
        suite(())
    (tmp_path / "tests/hil").mkdir(parents=True)
    assert suite(()) == ("tests/hil",)
    assert suite(("a.py", "b.py::t")) == ("a.py", "b.py::t")
    with pytest.raises(UsageError, match=r"^There is no folder tests/firmware here"):
        plan(Order(rungs=("vm",)), [])


def _value(job: Job, word: str) -> list[str]:
    return [each.removeprefix(f"{word}=") for each in job.words if each.startswith(f"{word}=")]


def test_the_processes_of_an_order(rigs, tmp_path):
    desk, virtual = chosen(Order(rigs=("desk", "virtual"), folder=rigs))
    order = Order(("t",), folder=rigs, out=tmp_path, retries=2)

    [alone] = plan(order, [desk])
    assert (alone.name, alone.folder) == ("desk", tmp_path)
    assert _value(alone, "--rig") == [str(rigs / "desk.toml")]
    assert _value(alone, "--evidence") == [str(tmp_path)]
    assert _value(alone, "--reruns") == ["2"]
    assert alone.words[-1] == "t"

    side_by_side = plan(order, [desk, Wanted(virtual.rig, 2)])
    assert [each.name for each in side_by_side] == ["desk", "virtual-1", "virtual-2"]
    assert all(each.folder == tmp_path / each.name for each in side_by_side)
    assert all(_value(each, "--evidence") == [str(each.folder)] for each in side_by_side)
    assert not any(_value(each, "-n") for each in side_by_side)


def test_the_rung_without_rigs(rigs, tmp_path):
    assert chosen(Order(rungs=("vm",), folder=rigs)) == []
    [vm] = plan(Order(("t",), rungs=("vm",), folder=rigs, out=tmp_path), [])
    assert (vm.name, vm.folder, _value(vm, "--rig"), vm.words[-1]) == ("vm", tmp_path, [], "t")

    beside = Order(("t",), rungs=("vm", "bench"), folder=rigs, out=tmp_path)
    assert [each.name for each in plan(beside, chosen(beside))] == ["desk", "vm"]


def test_rigs_that_share_the_tests(rigs, tmp_path):
    desk, virtual = chosen(Order(rigs=("desk", "virtual"), folder=rigs))
    order = Order(("t",), folder=rigs, out=tmp_path, split=True)
    [job] = plan(order, [desk, Wanted(virtual.rig, 2)])
    assert (job.name, job.folder) == ("desk + virtual:2", tmp_path)
    assert [Path(each).stem for each in _value(job, "--rig")] == ["desk", "virtual", "virtual"]
    assert (_value(job, "-n"), _value(job, "--dist")) == (["3"], ["worksteal"])
    [one] = plan(order, [desk])
    assert not _value(one, "-n")


@pytest.mark.parametrize(
    ("outcomes", "broken", "strict", "code"),
    [
        ("passed", (), False, 0),
        ("flaky blocked", (), False, 0),
        ("passed quarantined", (), True, 0),
        ("passed failed", (), False, 1),
        ("passed", ("it died",), False, 1),
        ("passed blocked", (), True, 5),
        ("blocked", (), False, 5),
        ("quarantined", (), False, 5),
        ("", (), False, 5),
        ("failed blocked", (), True, 1),
    ],
)
def test_the_exit_code(outcomes, broken, strict, code):
    assert exit_code([_result(each) for each in outcomes.split()], broken, strict) == code


@pytest.mark.parametrize(
    ("log", "count"),
    [
        ("", None),
        ("collecting ... ", None),
        ("collected 1 item\n", 1),
        ("collected 40 items\n", 40),
        ("collected 40 items / 30 deselected / 10 selected\n", 10),
        ("created: 4/4 workers\n4 workers [41 items]\n", 41),
    ],
)
def test_how_many_tests_pytest_has(log, count):
    assert collected(log) == count


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("", "it gave no reason"),
        ("ERROR: file or directory not found: nowhere.py\n\n", "file or directory not found: nowhere.py"),
        ("E   ImportError: no module\n==== 1 error in 0.1s ====\n", "ImportError: no module"),
        ("\nkilled in the cradle\n", "killed in the cradle"),
    ],
)
def test_why_pytest_runs_nothing(log, said):
    assert complaint(log) == said


# Real runs


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[hil.Outcome, Seen, Path]:
    """Two processes side by side; one of them kills itself in the last test but one."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "test_it.py").write_text(SUITE)
    (folder / "pytest.ini").write_text("[pytest]\n")
    out = folder / "out"
    for old in (out / "results/gone.jsonl", out / "virtual-1/results/main.jsonl"):
        old.parent.mkdir(parents=True)
        old.write_text("of an earlier run\n")
    with Ledger(folder / "hil.db") as ledger:
        ledger.quarantine("test_it.py::test_is_in_quarantine", "vm", 3, "a loose cable")
    seen = Seen()
    order = Order(tests=(str(folder),), rigs=("virtual:2",), out=out, ledger=folder / "hil.db")
    return hil.run(order, seen), seen, out


def test_results_of_all_processes_come_together(ran):
    outcome, seen, _ = ran
    by_test = {each.test.rpartition("::")[2]: each for each in outcome.results}
    assert {name: each.outcome for name, each in by_test.items()} == {
        "test_passes": "passed",
        "test_fails": "failed",
        "test_is_blocked": "blocked",
        "test_passes_at_last": "flaky",
        "test_is_in_quarantine": "quarantined",
        "test_dies_once": "flaky",
        "test_comes_after_that": "passed",
    }
    assert by_test["test_is_blocked"].why == "there is no crane"
    assert outcome.results.lost == ()  # nothing of the earlier run is there any more
    assert seen.counts == {"virtual-1": 7, "virtual-2": 7}


def test_a_process_that_was_killed_is_told(ran):
    outcome, seen, out = ran
    [sentence] = outcome.broken
    [dead] = [each for each in seen.ends.values() if each.broken]
    name = dead.job.name
    assert sentence == f"{name}: pytest was killed by SIGKILL after 5 tests: see {out / name / 'pytest.log'}."
    assert dead.code == -signal.SIGKILL
    assert outcome.exit_code == 1
    assert f"{name}: 1 passed, 2 failed, 1 blocked, 1 flaky, broke off" in seen.lines


def test_progress_is_told_test_by_test(ran):
    _, seen, _ = ran
    for name in ("virtual-1", "virtual-2"):
        assert seen.lines.count(f"{name}: 7 tests") == 1
        [blocked] = [line for line in seen.lines if line.startswith(f"{name}: blocked ")]
        assert blocked.endswith("::test_is_blocked: there is no crane")


@pytest.mark.parametrize(
    ("why", "said"),
    [
        (
            ">       assert n\nE       AssertionError: not within 90 s\nE       assert 0\n\nt.py:3: it",
            "AssertionError: not within 90 s",
        ),
        (
            "E       ValueError: first\n\nt.py:3: ValueError\n\nE       OSError: then\n\nt.py:4: OSError",
            "OSError: then",
        ),
        ("The port is gone: plug it in.", "The port is gone: plug it in."),
        ("", "(1.0 s)"),
    ],
)
def test_a_line_of_progress_has_the_error_and_not_its_place_alone(why, said):
    assert told(replace(_result("failed"), why=why)).endswith(said)


def test_one_report_of_all(ran):
    outcome, _, out = ran
    document = json.loads((out / "results.json").read_text())
    assert len(document["results"]) == len(outcome.results)
    cases = ElementTree.parse(out / "junit.xml").getroot().iter("testcase")
    assert len(list(cases)) == len(outcome.results)
    assert "test_comes_after_that" in (out / "report.html").read_text()


def test_what_the_ledger_has_of_it(ran):
    _, _, out = ran
    with Ledger(out.parent / "hil.db") as ledger:
        told = {
            name: ledger.history(f"test_it.py::{name}", "vm")[0] for name in ("test_fails", "test_passes")
        }
    assert {name: each.outcome for name, each in told.items()} == {
        "test_fails": "failed",
        "test_passes": "passed",
    }


def test_a_run_that_shares_its_tests(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import pytest\n\n@pytest.mark.rung('vm')\n@pytest.mark.parametrize('n', range(4))\n"
        "def test_one(n, request):\n    assert len(request.config.getoption('--rig')) == 2\n"
    )
    seen = Seen()
    order = Order(tests=(str(tmp_path),), rigs=("virtual:2",), out=tmp_path / "out", split=True)
    outcome = hil.run(order, seen)
    assert (outcome.exit_code, outcome.broken) == (0, ())
    assert len(outcome.results) == 4
    assert seen.counts == {"virtual:2": 4}


def test_tests_that_are_not_there(tmp_path):
    outcome = hil.run(Order(tests=(str(tmp_path / "nowhere.py"),), out=tmp_path / "out"), Watch())
    [sentence] = outcome.broken
    assert "virtual: pytest broke off (file or directory not found: " in sentence
    assert outcome.exit_code == 1


def test_evidence_that_cannot_be_written(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(LimpetError, match=r"cannot be written to .*out .*: name another folder"):
        hil.run(Order(tests=(str(tmp_path),), out=tmp_path / "out"), Watch())


# Ended from outside


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    file = tmp_path / "test_it.py"
    file.write_text(ENDLESS)
    return file


def test_ctrl_c_takes_down_what_the_tests_have_built_and_still_writes_the_reports(endless):
    folder = endless.parent

    class Impatient(Watch):
        def line(self, job: Job, line: Line) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hil.run(Order(tests=(str(endless),), out=folder / "out", ledger=folder / "hil.db"), Impatient())
    assert (folder / "taken down").exists()
    with Ledger(folder / "hil.db") as ledger:  # it was not the test's fault
        assert not ledger.history("test_it.py::test_never_ends", "vm")
    [result] = json.loads((folder / "out/results.json").read_text())["results"]
    assert (result["test"].rpartition("::")[2], result["outcome"]) == ("test_never_ends", "failed")


def test_no_run_stays_when_its_parent_is_killed(endless):
    folder = endless.parent
    code = (
        "import sys; from pathlib import Path; from host_tools.hil.run import Order, run\n"
        "from host_tools.hil.children import Watch\n"
        "run(Order(tests=(sys.argv[1],), out=Path(sys.argv[2])), Watch())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(endless), str(folder / "out")])
    try:
        results = folder / "out/results/main.jsonl"
        wait_until(lambda: results.exists() and b"test_never_ends" in results.read_bytes(), "the test")
    finally:
        parent.kill()
        parent.wait()
    wait_until((folder / "taken down").exists, "the end of the test")


def test_a_job_that_takes_too_long(endless):
    folder = endless.parent / "out"
    words = ("--evidence", str(folder), str(endless))
    [ended] = run_all([Job("slow", words, folder, patience_s=0.2)], Watch())
    assert ended.code is None
    assert ended.broken == f"slow: pytest did not end within 0.2 s: see {folder / 'pytest.log'}."
