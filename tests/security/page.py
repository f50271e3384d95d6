"""docs/security.md as text: written from the marked tests and their results, and read back."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.security.marked import Marked
from tests.security.promises import CLAUSES, PROMISES

PASSED = "passed"
NOT_RUN = "not run"
IN_SOAK = "`make soak`"

_INTRODUCTION = Path(__file__).with_name("introduction.md")


@dataclass(frozen=True)
class Result:
    """How a test went, over all its cases: where, and in a few words."""

    ran_on: str = ""
    outcome: str = NOT_RUN

    @property
    def is_good(self) -> bool:
        """Whether it passed."""
        return self.outcome.startswith(PASSED)


Results = Mapping[tuple[str, str], Result]
"""By file and name of the test."""


def render(tests: Sequence[Marked], results: Results) -> str:
    """The whole page."""
    lines = [_INTRODUCTION.read_text().rstrip(), *_overview(tests, results)]
    for number, (title, promise) in PROMISES.items():
        lines += ["", f"### {number}. {title}", "", promise, ""]
        own = [each for each in tests if each.number == number]
        lines += _section(own, results) if own else ["**No test shows this.**"]
    lines += ["", "## By clause", "", "| clause | in words | promises |", "|---|---|---|"]
    for clause, words in CLAUSES.items():
        numbers = sorted({each.number for each in tests if clause in each.clauses})
        if numbers:
            lines.append(f"| {clause} | {words} | {', '.join(map(str, numbers))} |")
    return "\n".join(lines) + "\n"


def _overview(tests: Sequence[Marked], results: Results) -> list[str]:
    lines = ["", "| | promise | tests | result |", "|---|---|---|---|"]
    for number, (title, _) in PROMISES.items():
        own = [each for each in tests if each.number == number]
        lines.append(f"| {number} | {title} | {len(own)} | {verdict(own, results)} |")
    return lines


def verdict(own: Sequence[Marked], results: Results) -> str:
    """What the tests of one promise say together."""
    ran = [result for each in own if (result := result_of(each, results)).outcome != IN_SOAK]
    if not ran:
        return "**not shown**"
    bad = sum(not each.is_good for each in ran)
    return f"**{bad} of {len(ran)} did not pass**" if bad else "shown"


def result_of(test: Marked, results: Results) -> Result:
    """The result of a test; one of the soak that was not run counts neither for nor against."""
    known = results.get((test.file, test.name), Result())
    return Result("", IN_SOAK) if test.is_soak and known.outcome == NOT_RUN else known


def _section(own: Sequence[Marked], results: Results) -> list[str]:
    lines = ["| test | shows | clauses | ran on | result |", "|---|---|---|---|---|"]
    for each in own:
        result = result_of(each, results)
        outcome = result.outcome if result.is_good or result.outcome == IN_SOAK else f"**{result.outcome}**"
        clauses = ", ".join(each.clauses)
        link = f"[{each.name}](../{each.file})"
        lines.append(f"| {link} | {each.sentence} | {clauses} | {result.ran_on} | {outcome} |")
    return lines


_ROW = re.compile(r"\| \[(\w+)\]\(\.\./(\S+)\) \| .* \| ([a-z, ]*) \| ([^|]*) \|")


def read_results(page: str) -> dict[tuple[str, str], Result]:
    """The results in a page that was written."""
    rows = filter(None, map(_ROW.fullmatch, page.splitlines()))
    return {(row[2], row[1]): Result(row[3], row[4].strip("*")) for row in rows}
