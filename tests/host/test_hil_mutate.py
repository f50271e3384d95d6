"""`limpet hil mutate`: the file of the mutants, their firmware, and real tests on one of two functions."""

import re
from pathlib import Path

import pytest

from host_tools import paths
from host_tools.errors import LimpetError, UsageError
from host_tools.hil.children import Ended, Job
from host_tools.hil.evidence import Outcome, Result
from host_tools.hil.mutate import Mutant, Order, Report, Verdict, load, mutate, screen, table
from host_tools.hil.mutate.catalogue import with_catches
from host_tools.hil.mutate.plant import mutated, plant_all
from host_tools.hil.mutate.run import better_hints, node_ids
from host_tools.hil.mutate.verdict import judge, named_by
from host_tools.userfile import UserFileError

OURS = paths.ROOT / "tests/hil/mutants.toml"
MUTANT = Mutant("no-will", "limpet/mqtt.py", "will", "won't", "It stays up.", ("t.py::test_will",))

FIRMWARE = 'def answer():\n    return 41 + 1\n\n\ndef name():\n    return "limpet"\n'
SUITE = """
import pytest

pytestmark = pytest.mark.rung("vm")

@pytest.fixture
def firmware(request):
    names = {}
    with open(request.config.getoption("--firmware") + "/main.py") as file:
        exec(file.read(), names)
    return names

def test_answer(firmware):
    assert firmware["answer"]() == 42

@pytest.mark.parametrize("kind", [str, object])
def test_name(firmware, kind):
    assert isinstance(firmware["name"](), kind)
"""
MUTANTS = """
# The first one.
[wrong-answer]
file = "main.py"
replace = "+ 1"
by = "+ 2"
breaks = "The answer is wrong."
catches = ["test_it.py::test_answer"]

[no-name]
file = "main.py"
replace = '"limpet"'
by = "1"
breaks = "Nobody knows | who it is."
catches = [
    "test_it.py::test_answer",
    "test_it.py::test_that_is_gone",
]  # two of them

[other-name]
file = "main.py"
replace = "limpet"
by = "whelk"
breaks = "It bears another's name."
catches = []
"""


def mutant_file(folder: Path, text: str) -> Path:
    path = folder / "mutants.toml"
    path.write_text(text)
    return path


# The file


def test_a_file_and_what_it_says(tmp_path):
    made = load(mutant_file(tmp_path, MUTANTS))
    assert [each.name for each in made.mutants] == ["wrong-answer", "no-name", "other-name"]
    assert made.mutants[0] == Mutant(
        "wrong-answer", "main.py", "+ 1", "+ 2", "The answer is wrong.", ("test_it.py::test_answer",)
    )
    assert [each.name for each in made.chosen(["other-name", "wrong-answer"])] == [
        "wrong-answer",
        "other-name",
    ]
    with pytest.raises(UsageError, match=r"^There is no mutant 'no-nme' in .*\. Did you mean 'no-name'\?$"):
        made.chosen(["no-nme"])


def test_everything_that_is_wrong_in_a_file_is_told(tmp_path):
    path = mutant_file(
        tmp_path,
        """
Bad_Name = 3
[missing]
file = "main.py"
replase = "a"
by = "b"
breaks = "It breaks."
catches = []
[same]
file = "main.py"
replace = "a"
by = "a"
breaks = "It breaks."
catches = []
[mute]
file = "main.py"
replace = ""
by = "b"
breaks = "no sentence"
catches = [3]
""",
    )
    with pytest.raises(UserFileError) as caught:
        load(path)
    said = [line.removeprefix(f"{path}:") for line in str(caught.value).splitlines()]
    assert said == [
        "2: Bad_Name: expected a table, found a number.",
        "5: missing.replase: unknown key. Did you mean 'replace'?",
        "12: same.by: this is the text that it replaces. Write another one.",
        '17: mute.replace: expected the text to be replaced, in quotes, found "".',
        '19: mute.breaks: expected what a user would lose, as one sentence, found "no sentence".',
        "20: mute.catches[0]: expected a list of tests, each as pytest names it, found 3.",
    ]


def test_new_catches_leave_the_rest_of_a_file_as_it_is(tmp_path):
    file = load(mutant_file(tmp_path, MUTANTS)).file
    news = {"other-name": ["a.py::t[x-[1]]"], "no-name": ["b.py::t"], "wrong-answer": []}
    text = with_catches(MUTANTS, file, news)
    again = load(mutant_file(tmp_path, text))
    assert {each.name: list(each.catches) for each in again.mutants} == news
    assert "# The first one.\n" in text
    assert text.count("# two of them") == 1
    long = [f"tests/hil/test_a_long_name.py::test_number_{n}" for n in range(3)]
    again = load(mutant_file(tmp_path, with_catches(MUTANTS, file, {"no-name": long})))
    assert list(again.mutants[1].catches) == long


# The firmware of a mutant


def test_a_text_must_be_there_once():
    assert mutated(MUTANT, "a will\n") == "a won't\n"
    with pytest.raises(ValueError, match=r"^this text is not in limpet/mqtt\.py$"):
        mutated(MUTANT, "nothing\n")
    with pytest.raises(ValueError, match=r"^this text is 2 times in limpet/mqtt\.py$"):
        mutated(MUTANT, "will will\n")


def test_mutants_that_cannot_be_made_are_told_all_at_once(tmp_path):
    path = mutant_file(
        tmp_path,
        "".join(
            f'[{name}]\nfile = "{file}"\nreplace = "{replace}"\nby = "{by}"\nbreaks = "So."\ncatches = []\n'
            for name, file, replace, by in (
                ("gone", "main.py", "43", "44"),
                ("twice", "main.py", "return", "yield"),
                ("outside", "../mutants.toml", "a", "b"),
                ("broken", "main.py", "41 + 1", "41 +"),
                ("good", "main.py", "41", "40"),
            )
        ),
    )
    firmware = tmp_path / "firmware"
    firmware.mkdir()
    (firmware / "main.py").write_text(FIRMWARE)
    made = load(path)
    with pytest.raises(UserFileError) as caught:
        plant_all(made, made.mutants, firmware, tmp_path / "planted")
    said = [line.removeprefix(f"{path}:") for line in str(caught.value).splitlines()]
    assert said == [
        "3: gone.replace: this text is not in main.py. Write one that is there exactly once.",
        "9: twice.replace: this text is 2 times in main.py. Write one that is there exactly once.",
        f"14: outside.file: there is no such file in {firmware}. Correct it.",
        "22: broken.by: main.py does not compile with it (SyntaxError: invalid syntax).",
    ]
    assert (firmware / "main.py").read_text() == FIRMWARE


def test_our_mutants_fit_our_firmware(tmp_path):
    made = load(OURS)
    planted = plant_all(made, made.mutants, paths.FIRMWARE, tmp_path)
    assert len(planted) == len(made.mutants) >= 36
    for each in made.mutants:
        assert (planted[each.name] / each.file).read_text() != (paths.FIRMWARE / each.file).read_text()


def test_our_catchers_are_tests():
    for each in load(OURS).mutants:
        for hint in each.catches:
            file, _, name = hint.partition("::")
            assert re.search(
                rf"^def {name.partition('[')[0]}\(", (paths.ROOT / file).read_text(), re.MULTILINE
            )


# Verdicts


def ended(*outcomes: tuple[str, Outcome], code: int | None = 1) -> Ended:
    results = tuple(
        Result(rung="virtual", rig="virtual", test=test, outcome=outcome, started=0, seconds=1)
        for test, outcome in outcomes
    )
    return Ended(Job("no-will", (), Path("out"), patience_s=9.0), code, results)


@pytest.mark.parametrize(
    ("run", "caught", "why"),
    [
        (ended(("a", "passed"), ("b", "failed")), "b", ""),
        (ended(("a", "failed"), code=-9), "a", ""),
        (ended(("a", "passed"), ("b", "flaky"), code=0), None, "survived"),
        (ended(("a", "passed"), ("b", "blocked"), code=0), None, "survived, where 1 of 2 tests were blocked"),
        (ended(("a", "blocked"), code=0), None, "no verdict (no test could run)"),
        (ended(code=5), None, "no verdict (no test could run)"),
        (
            ended(("a", "passed"), code=None),
            None,
            "no verdict (no-will: pytest did not end within 9 s: see out/pytest.log)",
        ),
    ],
)
def test_a_verdict(run, caught, why):
    verdict = judge(MUTANT, run)
    assert (verdict.caught, verdict.why) == (caught, why)
    assert verdict.survived == why.startswith("survived")


def test_hints_name_tests_with_and_without_parameters():
    tests = ["a.py::t[1]", "a.py::t[2]", "a.py::u"]
    assert named_by(["a.py::t"], tests) == tests[:2]
    assert named_by(["a.py::t[2]", "a.py::u"], tests) == tests[1:]
    assert named_by([], tests) == []


def test_which_hints_get_better():
    stray = Verdict(MUTANT, "t.py::test_other")
    as_before = Verdict(MUTANT, "t.py::test_will[3]")
    missed = Verdict(MUTANT, survived=True, why="survived")
    assert better_hints([stray], {}) == {"no-will": ["t.py::test_other"]}
    assert better_hints([as_before], {}) == {}
    assert better_hints([missed], {}) == {}
    assert better_hints([missed], {"no-will": ["t.py::test_will"]}) == {"no-will": []}
    assert stray.text == "no-will: caught by t.py::test_other, and not by what 'catches' names"
    assert as_before.text == "no-will: caught by t.py::test_will[3]"


def test_the_tests_that_pytest_lists():
    log = "ERROR: x::y\ntests/a.py::t[a b]\ntests/a.py::u\n\n2 tests collected in 0.01s\n"
    assert node_ids(log) == ["tests/a.py::t[a b]", "tests/a.py::u"]


# The table


def test_the_table_stands_between_its_markers():
    verdicts = [
        Verdict(MUTANT, "tests/hil/t.py::test_will[a|b]"),
        Verdict(MUTANT, survived=True),
        Verdict(MUTANT),
    ]
    made = table.table(verdicts)
    assert made.splitlines() == [
        "1 of 3 mutants are caught.",
        "",
        "| mutant | breaks | caught by |",
        "| --- | --- | --- |",
        "| `no-will` | It stays up. | `t.py` `test_will[a\\|b]` |",
        "| `no-will` | It stays up. | **none** |",
        "| `no-will` | It stays up. | no verdict |",
    ]
    page = table.placed("# Page\n<!-- mutants -->\nold\n<!-- /mutants -->\nend\n", made)
    assert page == f"# Page\n<!-- mutants -->\n{made}\n<!-- /mutants -->\nend\n"
    assert table.placed(page, made) == page


# Real runs


@pytest.fixture
def bench(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Order:
    """A firmware, a suite and mutants in a folder of their own, and the evidence somewhere else."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "firmware").mkdir()
    (tmp_path / "firmware/main.py").write_text(FIRMWARE)
    (tmp_path / "test_it.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "page.md").write_text("<!-- mutants -->\n<!-- /mutants -->\n")
    return Order(
        mutants=mutant_file(tmp_path, MUTANTS),
        tests=("test_it.py",),
        firmware=tmp_path / "firmware",
        out=tmp_path_factory.mktemp("out"),
        table=tmp_path / "page.md",
        write=True,
        jobs=3,
    )


def run(order: Order) -> tuple[Report, list[str]]:
    said: list[str] = []
    return mutate(order, screen.Lines(said.append)), said


def test_mutants_are_caught_by_their_tests_by_others_or_by_none(bench):
    report, said = run(bench)
    assert [(each.mutant.name, each.caught, each.survived) for each in report.verdicts] == [
        ("wrong-answer", "test_it.py::test_answer", False),
        ("no-name", "test_it.py::test_name[str]", False),
        ("other-name", None, True),
    ]
    assert report.exit_code == 1
    assert report.stale == {"no-name": ["test_it.py::test_that_is_gone"]}
    # Of no-name its hint says nothing, so it has a second turn: with the tests that it has not had yet.
    assert [line for line in said if line.startswith(("the tests", "mutants"))] == [
        "the tests on the firmware as it is: 1",
        "mutants: 2",
        "the tests on the firmware as it is: 3",
        "mutants: 2",
    ]
    # One that catches it is enough.
    assert "test_name[object]" not in (bench.out / "no-name/results/main.jsonl").read_text()
    assert "no-name: caught by test_it.py::test_name[str], and not by what 'catches' names" in said
    assert "other-name: survived" in said
    written = {each.name: each.catches for each in load(bench.mutants).mutants}
    assert written == {
        "wrong-answer": ("test_it.py::test_answer",),
        "no-name": ("test_it.py::test_name[str]",),
        "other-name": (),
    }
    assert bench.table is not None
    page = bench.table.read_text()
    assert "2 of 3 mutants are caught." in page
    assert "| `no-name` | Nobody knows \\| who it is. | `test_it.py` `test_name[str]` |" in page
    assert (bench.firmware / "main.py").read_text() == FIRMWARE


def test_a_suite_that_fails_by_itself_proves_nothing(bench):
    (bench.firmware / "main.py").write_text(FIRMWARE.replace("41", "1"))
    with pytest.raises(LimpetError) as caught:
        run(bench)
    assert str(caught.value) == (
        "On the firmware as it is test_it.py::test_answer failed already, so that mutants would prove "
        f"nothing: mend that first (see {bench.out / 'unmutated/pytest.log'})."
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"names": ("no-name",)}, "The table has all mutants: leave the names out, or --table."),
        (
            {"table": Path("test_it.py")},
            "test_it.py has no place for the table: it has no lines '<!-- mutants -->'",
        ),
        (
            {"table": Path("nowhere.md")},
            "nowhere.md cannot be read (No such file or directory): name another",
        ),
        ({"mutants": Path("nowhere.toml")}, "nowhere.toml: there is no such file."),
        (
            {"tests": ("nowhere.py",)},
            "collect: pytest broke off (file or directory not found: nowhere.py): see",
        ),
    ],
)
def test_an_order_that_cannot_be_carried_out(bench, change, said):
    with pytest.raises(LimpetError) as caught:
        run(Order(**{**bench.__dict__, **change}))
    assert str(caught.value).startswith(said)
