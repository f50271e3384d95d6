"""JUnit: readers take it, and none of them can take one rung for another, or what was blocked for passed."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest
from junitparser import JUnitXml, Skipped, xunit2

from host_tools.hil.evidence.collect import Results
from host_tools.hil.evidence.junit import junit_report
from tests.host.evidence_results import DESK, happened, result

EVENTS = happened((-0.5, "power", "on"), (1.25, "broker", "limpet/node/data", {"size": 180}))
LACKS = "The rig lacks 'power'."
OTHER = (
    result(
        DESK,
        test="tests/hil/test_a.py::TestIt::test_two[x::y]",
        outcome="failed",
        why="E\n\nassert 1",
        events=EVENTS,
    ),
    result(test="tests/hil/test_a.py::test_power", outcome="blocked", why=LACKS, needs=("power", "reset")),
    result(
        DESK,
        test="tests/hil/test_a.py::test_flaky",
        outcome="flaky",
        attempts=2,
        why="\n  it was 3\nmore",
        events=EVENTS,
    ),
    result(DESK, test="tests/hil/test_a.py::test_known", outcome="quarantined", why="again"),
)


@pytest.fixture(scope="module")
def text() -> str:
    return junit_report(Results((result(), result(DESK), *OTHER), ("a.jsonl, line 3: it is cut off.",)))


@pytest.fixture(scope="module")
def cases(text) -> dict:
    return {case.name: case for suite in xunit2.JUnitXml.fromstring(text.encode()) for case in suite}


def properties(of) -> dict:
    return {each.name: each.value for each in of.properties()}


def test_a_reader_that_knows_only_junit_counts_right(text):
    xml = JUnitXml.fromstring(text.encode())
    written = (xml.tests, xml.failures, xml.errors, xml.skipped)
    xml.update_statistics()
    assert written == (6, 1, 0, 2) == (xml.tests, xml.failures, xml.errors, xml.skipped)
    assert xml.time == 15.0


def test_each_rig_has_a_suite_and_says_what_it_is_not(text):
    virtual, desk = JUnitXml.fromstring(text.encode())
    assert (virtual.name, desk.name) == ("virtual: virtual", "bench: desk")
    assert (virtual.tests, desk.tests) == (2, 4)
    assert virtual.timestamp == "2023-11-14T22:13:20"
    told = properties(desk)
    assert "for no other rung" in told.pop("what_it_is_not")
    assert told.pop("claim").startswith("4 of 5 tests ran on a real board; 1 of those passed there")
    assert told.pop("lost") == "a.jsonl, line 3: it is cut off."
    assert told == {name: getattr(DESK, name) for name in type(DESK).__dataclass_fields__}


def test_the_class_name_keeps_rungs_and_rigs_apart(cases):
    assert cases["test_two[x::y]"].classname == "bench.desk.tests.hil.test_a.TestIt"
    assert cases["test_power"].classname == "virtual.virtual.tests.hil.test_a"


def test_a_failure_has_its_reason_and_all_that_happened(cases):
    case = cases["test_two[x::y]"]
    assert case.is_failure
    assert (case.result[0].message, case.result[0].text) == ("E", "E\n\nassert 1")
    assert case.system_out.splitlines() == [
        "    -0.500  power     on",
        "    +1.250  broker    limpet/node/data  size=180",
    ]


def test_blocked_is_skipped_and_says_so(cases):
    case = cases["test_power"]
    assert case.is_skipped
    assert not case.is_passed
    assert isinstance(case.result[0], Skipped)
    assert case.result[0].message == "blocked: The rig lacks 'power'."
    told = properties(case)
    assert (told["outcome"], told["needs"], told["rung"], told["attempts"]) == (
        "blocked",
        "power reset",
        "virtual",
        "1",
    )


def test_flaky_is_passed_with_the_attempt_that_failed(cases):
    case = cases["test_flaky"]
    assert case.is_passed
    assert case.is_flaky
    assert properties(case)["outcome"] == "flaky"
    assert properties(case)["attempts"] == "2"
    assert case.flaky_failures()[0].message == "it was 3"
    assert case.system_out.startswith("The attempt that failed:\n\n  it was 3\nmore\n\n")
    assert case.system_out.endswith("limpet/node/data  size=180")


def test_quarantined_is_skipped_and_says_so(cases):
    assert cases["test_known"].is_skipped
    assert cases["test_known"].result[0].message == "quarantined: again"


def test_any_log_makes_good_xml():
    log = (
        "".join(map(chr, [*range(0x20), 0x7F, 0x9B, 0x202E, 0xD800, 0xFFFE, 0xFFFF]))
        + "]]><x a='\"'>&amp;\x1b[31mred\x1b[0m"
    )
    bad = result(
        outcome="failed",
        why=log,
        events=happened((0, "serial", log, {"x": log})),
        test=f"t.py::{log}",
        mac=log,
    )
    bad = replace(bad, rig=log, needs=(log,))
    (suite,) = ElementTree.fromstring(junit_report(Results((bad,), (log,))).encode())
    out = suite.findtext("testcase/system-out")
    assert out is not None
    assert "␀␁" in out
    assert "␛␜" in out
    assert "⟨U+009B⟩⟨U+202E⟩⟨U+D800⟩⟨U+FFFE⟩⟨U+FFFF⟩]]><x a='\"'>&amp;red" in out


def test_no_results_are_a_report_too():
    assert JUnitXml.fromstring(junit_report(Results(())).encode()).tests == 0
