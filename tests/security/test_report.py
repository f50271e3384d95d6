"""docs/security.md is what the tests say, and the report tells when a promise is not kept."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from host_tools import paths
from tests.security.marked import Marked, Mistake, marked
from tests.security.page import Result, read_results, render
from tests.security.promises import PROMISES
from tests.security.report import PAGE
from tests.security.rungs import rung


def test_the_page_is_up_to_date() -> None:
    """Names, sentences and clauses in docs/security.md are those of the marked tests."""
    page = PAGE.read_text()
    assert render(marked(), read_results(page)) == page, "run `make security`, and look at what changed"


def test_every_promise_is_shown_on_the_page() -> None:
    page = PAGE.read_text()
    assert page.count("| shown |") == len(PROMISES) == 12, "docs/security.md shows a gap or a failure"


ONE = Marked(3, "tests/host/test_x.py", 7, "test_x", ("IEC 62443-4-2 CR 1.8",), "It is shown.", False)
KEY = (ONE.file, ONE.name)


def test_a_result_is_read_back() -> None:
    for said in ("passed", "passed (8 cases)", "failed: 1 of 8 cases", "skipped", "not run"):
        results = {KEY: Result("virtual, vm" if said == "passed" else "host", said)}
        page = render([ONE], results)
        assert read_results(page) == results
        assert ("| 3 | Only the right peer | 1 | shown |" in page) is said.startswith("passed")
        assert "| 4 | Never in the clear | 0 | **not shown** |" in page


def test_soak_counts_neither_way() -> None:
    soak = replace(ONE, is_soak=True)
    assert "| 3 | Only the right peer | 1 | **not shown** |" in render([soak], {})
    other = replace(ONE, name="test_y")
    page = render([soak, other], {(ONE.file, "test_y"): Result("vm", "passed")})
    assert "| 3 | Only the right peer | 2 | shown |" in page
    assert render([soak, other], read_results(page)) == page


def a_tree(folder: Path, text: str) -> Path:
    """A folder with one file of tests, and a configuration of its own."""
    (folder / "tests").mkdir()
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n  security\n  soak\n")
    (folder / "tests" / "test_it.py").write_text("import pytest\n\n" + text)
    return folder / "tests"


@pytest.mark.parametrize(
    ("mark", "rest", "complaint"),
    [
        ("security(13, 'IEC 62443-4-2 CR 1.8')", '"""It."""', "no promise 13"),
        ("security(1, 'IEC 62443-4-2 CR 9.9')", '"""It."""', "CR 9.9' is not in"),
        ("security(1)", '"""It."""', "names no clause"),
        ("security(1, 'IEC 62443-4-2 CR 1.8')", "pass", "must begin with one sentence"),
        ("security(1, 'IEC 62443-4-2 CR 1.8')", '"""No end"""', "must begin with one sentence"),
        ("security(1, NAME)", '"""It."""', "for they are read"),
    ],
)
def test_a_wrong_mark_is_refused(tmp_path: Path, mark: str, rest: str, complaint: str) -> None:
    folder = a_tree(tmp_path, f"@pytest.mark.{mark}\ndef test_a():\n    {rest}\n")
    with pytest.raises(Mistake, match=f"^tests/test_it.py:4: test_a: .*{complaint}"):
        marked(folder)


def test_a_mark_for_a_whole_file_is_refused(tmp_path: Path) -> None:
    folder = a_tree(tmp_path, "pytestmark = pytest.mark.security(1, 'IEC 62443-4-2 CR 1.8')\n")
    with pytest.raises(Mistake, match=r"^tests/test_it\.py:3: mark each test by itself"):
        marked(folder)


EXAMPLES = """
@pytest.mark.security(1, "IEC 62443-4-2 CR 1.8")
def test_good():
    '''It is good.'''

@pytest.mark.security(2, "IEC 62443-4-2 CR 1.8")
@pytest.mark.parametrize("case", [1, 2, 3])
def test_bad(case):
    '''It is bad.'''
    assert case != 2

@pytest.mark.security(3, "IEC 62443-4-2 CR 1.8")
def test_absent():
    '''It is absent.'''
    pytest.skip("no reason")

@pytest.fixture
def ruin():
    yield
    raise OSError

@pytest.mark.security(4, "IEC 62443-4-2 CR 1.8")
def test_ruined(ruin):
    '''It is ruined.'''

@pytest.mark.soak
@pytest.mark.security(5, "IEC 62443-4-2 CR 1.8")
def test_long():
    '''It is long.'''
    assert False, "it is not run"

@pytest.fixture(scope="module")
def vm():
    import subprocess, sys
    subprocess.run([sys.executable, "-m", "micropython", "-c", "1"])

@pytest.mark.security(6, "IEC 62443-4-2 CR 1.8")
def test_vm(vm):
    '''It runs in MicroPython.'''

@pytest.mark.security(7, "IEC 62443-4-2 CR 1.8")
def test_vm_again(vm):
    '''It runs in what a test before it started.'''

@pytest.mark.parametrize("case", [pytest.param(1, marks=pytest.mark.security(8, "x"))])
def test_hidden(case):
    '''It is marked where nobody looks.'''

def test_other():
    assert False, "it is not run"
"""


def test_the_report_tells_what_is_not_shown(tmp_path: Path) -> None:
    """A failure, a skip, a broken teardown, a gap and a hidden mark are found; the rest is as it was."""
    tests, page = a_tree(tmp_path, EXAMPLES), tmp_path / "page.md"
    code = (
        "import sys; from pathlib import Path; from tests.security.report import run;"
        "print('FOUND', *run(Path(sys.argv[1]), Path(sys.argv[2]), '0'), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tests), str(page)],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = done.stdout.partition("FOUND\n")[2].splitlines()
    gaps = [line for line in found if line[:1].isdigit()]
    assert gaps == [
        "2 (Keys stay where they are): 1 of 1 did not pass.",
        "3 (Only the right peer): 1 of 1 did not pass.",
        "4 (Never in the clear): 1 of 1 did not pass.",
        *(f"{number} ({PROMISES[number][0]}): not shown." for number in (5, 8, 9, 10, 11, 12)),
    ], done.stdout + done.stderr
    assert [line.split(": ", 1)[1] for line in found if not line[0].isdigit()] == [
        "test_bad: failed: 1 of 3 cases.",
        "test_absent: skipped.",
        "test_ruined: failed.",
        "test_hidden is marked 8 where this report cannot read it.",
    ]
    results = read_results(page.read_text())
    assert {name: (result.ran_on, result.outcome) for (_, name), result in results.items()} == {
        "test_good": ("host", "passed"),
        "test_bad": ("host", "failed: 1 of 3 cases"),
        "test_absent": ("host", "skipped"),
        "test_ruined": ("host", "failed"),
        "test_long": ("", "`make soak`"),
        "test_vm": ("vm", "passed"),
        "test_vm_again": ("vm", "passed"),
    }


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["/usr/bin/python", "/x/host_tools/virtual/launch.py", "python", "-m", "micropython"], "virtual"),
        (["/x/bin/limpet", "virtual", "--log"], "virtual"),
        (["/x/bin/limpet", "provision", "--node", "virtual"], None),
        (["/x/bin/python", "-m", "micropython", "-c", "1"], "vm"),
        (["mosquitto", "-c", "x"], None),
    ],
)
def test_rungs(words: list[str], found: str | None) -> None:
    assert rung(words) == found
