"""The page: one file, readable by anyone, in which no board's text can do anything."""

import base64
import hashlib
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from host_tools.hil.evidence.collect import Results
from host_tools.hil.evidence.html import html_report
from host_tools.hil.evidence.matrix import matrix_of
from host_tools.hil.evidence.record import RUNGS
from host_tools.hil.evidence.summary import WHAT_IT_IS_NOT
from host_tools.hil.evidence.visible import visible
from tests.host.evidence_results import DESK, START, VIRTUAL, happened, result

_VOID = {"meta"}
HOSTILE = (
    "</pre></title></text></style><script>alert(1)</script><img src=x onerror=alert(1)>"
    '" onload="alert(1)\' {{ 7*7 }} &lt;b&gt; javascript:x'
)
EVENTS = happened(
    (-0.2, "power", "on"),
    (0.1, "serial", "Traceback (most recent call last):"),
    (0.5, "link", "cut"),
    (0.7, "broker", "limpet/node/data", {"size": 180}),
    (1.0, "stimulus", "set", {"bme280/temperature": 30.0}),
    (1.5, "link", "restore"),
    (2.0, "elsewhere", "from nobody that we know"),
)
READINGS = {"bme280/temperature": tuple((START + n / 10, None if n == 7 else 20.0 + n) for n in range(20))}


class Page(HTMLParser):
    """What a browser would make of it; complains about what is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.shown: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag):
        # Labels of the form that `label` holds an `input`, which nothing closes.
        while self._open[-1] == "input" != tag:
            self._open.pop()
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.shown.append((self._open[-1] if self._open else "", data))

    @property
    def text(self) -> str:
        return " ".join(data for tag, data in self.shown if tag != "style")

    def all(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.tags if name in attributes]

    def with_class(self, word: str) -> list[dict[str, str]]:
        return [attributes for _, attributes in self.tags if word in attributes.get("class", "").split()]


def page_of(*results, lost=()) -> Page:
    return Page(html_report(Results(results, tuple(lost))))


@pytest.fixture(scope="module")
def several() -> tuple:
    emulator = replace(VIRTUAL, rung="emulator", rig="qemu")
    return (
        result(),
        result(DESK, outcome="failed", why="assert 1 == 2", events=EVENTS, readings=READINGS),
        result(emulator, outcome="blocked", why="qemu has no Wi-Fi.", needs=("network",)),
        result(test="tests/hil/test_b.py::test_two", outcome="flaky", attempts=2, why="once", events=EVENTS),
        result(DESK, test="tests/hil/test_b.py::test_two", outcome="quarantined", why="known"),
    )


@pytest.fixture(scope="module")
def page(several) -> Page:
    return page_of(*several)


def test_it_needs_nothing_else(page):
    assert not {"script", "link", "img", "iframe", "object", "embed", "form", "base"} & {
        tag for tag, _ in page.tags
    }
    assert not page.all("src")
    assert all(each.startswith("#") for each in page.all("href"))
    style = next(data for tag, data in page.shown if tag == "style")
    assert "@import" not in style
    assert not re.search(r"url\((?!#)", style)


def test_its_policy_allows_its_own_style_and_nothing_else(page):
    (policy,) = (each["content"] for tag, each in page.tags if each.get("http-equiv"))
    style = next(data for tag, data in page.shown if tag == "style")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert not page.all("style")  # the policy would not allow them


def test_every_link_leads_somewhere(page):
    ids = page.all("id")
    assert not [each for each, count in Counter(ids).items() if count > 1]
    assert {each[1:] for each in page.all("href")} <= set(ids)
    assert {f"#{each}" for each in ids} >= {"#f1", "#f2", "#f3", "#b1"}


def test_hostile_text_is_text(several):
    hostile = replace(
        several[1],
        test=f"t.py::{HOSTILE}",
        rig=HOSTILE,
        board=HOSTILE,
        mac=HOSTILE,
        firmware=HOSTILE,
        firmware_sha256=HOSTILE,
        micropython=HOSTILE,
        why=HOSTILE,
        events=tuple(replace(each, text=HOSTILE, values={HOSTILE: HOSTILE}) for each in EVENTS),
        readings={HOSTILE: READINGS["bme280/temperature"]},
    )
    blocked = replace(hostile, outcome="blocked", test=f"b.py::{HOSTILE}", needs=(HOSTILE,))
    page = page_of(*several, hostile, blocked, lost=[HOSTILE])
    clean = page_of(
        *several, replace(several[1], test="t.py::x", rig="x"), replace(several[2], test="b.py::x")
    )
    assert {tag for tag, _ in page.tags} == {tag for tag, _ in clean.tags} | {"aside"}
    names = {name for _, attributes in page.tags for name in attributes}
    assert not [name for name in names if name.startswith("on")]
    assert page.text.count(HOSTILE) > 15
    assert "49" not in page.text


def test_what_hides_in_a_log_is_shown():
    log = "a\x00\x07\x1b[0;31mred\x1b[0m\x1b[2J\x7f \u202eevil\u200b\x85\ud800\r\nnext\ttab\r"
    assert visible(log) == "a␀␇red␛[2J␡ ⟨U+202E⟩evil⟨U+200B⟩⟨U+0085⟩⟨U+D800⟩\nnext\ttab␍"
    page = page_of(result(outcome="failed", why=log, events=happened((0, "serial", log)), board=log))
    assert page.text.count(visible(log)) >= 3
    assert not set(page.text) & set("\x00\x07\x1b\x7f\u202e\u200b\x85\ud800\r")


def test_each_cell_names_its_rung_and_has_the_shape_of_its_outcome(page, several):
    cells = page.with_class("cell")
    assert len(cells) == len(several)
    text = " ".join(page.text.split())
    for words in (
        "passed virtual 2.50 s",
        "failed bench 2.50 s",
        "blocked emulator",
        "flaky virtual 2.50 s ×2",
    ):
        assert words in text
    uses = {each for each in page.all("href") if each.startswith("#m-")}
    assert uses == {"#m-passed", "#m-failed", "#m-blocked", "#m-flaky", "#m-quarantined"}


def test_it_says_what_each_rung_is_not(page):
    for rung in RUNGS:
        assert (WHAT_IT_IS_NOT[rung] in page.text) == (rung in ("virtual", "emulator", "bench"))
    assert "1 of 2 tests ran on a real board" not in page.text
    assert "2 of 2 tests ran on a real board; 0 of those passed there" in page.text
    assert "Nothing in this report ran on a real board." in page_of(result()).text


def test_rows_can_be_shown_by_outcome_without_a_script(page):
    rows = [sorted(set(each["class"].split()) - {"test"}) for each in page.with_class("test")]
    assert rows == [["has-blocked", "has-failed", "has-passed"], ["has-flaky", "has-quarantined"]]
    style = next(data for tag, data in page.shown if tag == "style")
    for outcome in ("passed", "failed", "blocked", "flaky", "quarantined"):
        assert f"body:has(#show-{outcome}:checked) .test:not(.has-{outcome})" in style
        assert f"show-{outcome}" in page.all("id")


def test_a_failure_has_its_facts_its_reason_and_its_events_in_order(page):
    text = " ".join(page.text.split())
    assert (
        "bench desk · failed · 2.50 s · begun 2023-11-14 22:13:20 UTC · esp32_devkitc · 24:0a:c4:12:34:56"
        in text
    )
    assert "assert 1 == 2" in text
    times = ["-0.200", "+0.100", "+0.500", "+0.700", "+1.000", "+1.500", "+2.000"]
    assert re.findall(r"(?<![\w.])[+-]\d\.\d{3}(?! s )", text) == times * 2
    assert "+1.000 stimulus set bme280/temperature=30" in text
    assert "flaky after 2 attempts" in text
    assert "This is the attempt that failed." in text


def test_what_was_blocked_says_why_and_what_it_needs(page):
    text = " ".join(page.text.split())
    assert "Blocked: the rig could not" in text
    assert "tests/hil/test_a.py::test_one emulator qemu qemu has no Wi-Fi. network" in text
    assert "Blocked: the rig could not" not in page_of(result()).text


def test_what_is_lost_and_what_differs_is_told_at_the_top():
    other = replace(DESK, firmware_sha256="00" * 32)
    page = page_of(result(), result(other), lost=["gw0.jsonl, line 4: it is cut off."])
    assert "gw0.jsonl, line 4: it is cut off." in page.text
    assert "there are 2 different ones" in page.text
    assert not page_of(result(), result(DESK)).with_class("warning")


def test_the_rungs_stand_in_their_order_and_tests_in_theirs(several):
    matrix = matrix_of(several)
    assert [(each.rung, each.rig) for each in matrix.columns] == [
        ("virtual", "virtual"),
        ("emulator", "qemu"),
        ("bench", "desk"),
    ]
    assert [(module.path, [row.name for row in module.rows]) for module in matrix.modules] == [
        ("tests/hil/test_a.py", ["test_one"]),
        ("tests/hil/test_b.py", ["test_two"]),
    ]
    assert [cell and cell.outcome for cell in matrix.modules[1].rows[0].cells] == [
        "flaky",
        None,
        "quarantined",
    ]


def test_one_rig_may_have_had_several_boards():
    page = page_of(
        result(), result(replace(VIRTUAL, mac="02:4c:50:00:00:02"), test="tests/hil/test_a.py::test_two")
    )
    assert len(page.with_class("rig")) == 1
    text = " ".join(page.text.split())
    assert "02:4c:50:00:00:01 02:4c:50:00:00:02" in text


def test_nothing_known_is_said_so():
    unknown = " ".join(page_of(result(outcome="failed", seconds=0.0, why="did not end")).text.split())
    assert "Nothing else is known of it." in unknown
    assert "· failed · begun" in unknown
    assert "failed virtual 0.00 s" not in unknown
    assert "Nothing passed" in page_of().text
