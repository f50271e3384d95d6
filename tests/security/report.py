"""`make security`: runs the tests that are marked `security`, and writes docs/security.md.

`python -m tests.security.report [--soak] [-n PROCESSES]`; it fails when a promise is not shown or a test of
one does not pass. The page has no date: it changes only when the tests or their results do.
"""

import argparse
import collections
from collections.abc import Sequence
from pathlib import Path

import pytest

from host_tools import paths
from tests.security.marked import MARKS, RUNGS, TESTS, Marked, Mistake, marked
from tests.security.page import IN_SOAK, PASSED, Result, render, result_of, verdict
from tests.security.promises import PROMISES

_PLUGIN = "tests.security.rungs"
PAGE = paths.ROOT / "docs" / "security.md"

Key = tuple[str, str]


class Collector:
    """A pytest plugin: the outcome of each case of each test, by file and name."""

    def __init__(self) -> None:
        self.cases: dict[Key, dict[str, str]] = collections.defaultdict(dict)
        self.rungs: dict[Key, set[str]] = collections.defaultdict(set)
        self.numbers: dict[Key, set[int]] = collections.defaultdict(set)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        key = key_of(report.nodeid)
        for name, value in report.user_properties:
            if name == MARKS:
                self.numbers[key].update(value)  # type: ignore[arg-type]
            elif name == RUNGS:
                self.rungs[key].update(value)  # type: ignore[arg-type]
        known = self.cases[key].get(report.nodeid)
        if known in (None, PASSED):  # a failure stays one, whatever its teardown does
            self.cases[key][report.nodeid] = report.outcome

    def results(self) -> dict[Key, Result]:
        """What each test did, over all its cases."""
        return {key: result(list(cases.values()), self.rungs[key]) for key, cases in self.cases.items()}


def key_of(nodeid: str) -> Key:
    """File and function of a test's node id."""
    file, _, name = nodeid.partition("::")
    return file, name.partition("[")[0]


def result(outcomes: Sequence[str], seen: set[str]) -> Result:
    """The cases of a test as one result."""
    ran_on = ", ".join(sorted(seen - {"host"}, reverse=True)) or "host"
    counted = collections.Counter(outcomes)
    if set(counted) == {PASSED}:
        return Result(ran_on, PASSED if len(outcomes) == 1 else f"{PASSED} ({len(outcomes)} cases)")
    worst = "failed" if counted["failed"] else "skipped"
    return Result(
        ran_on, worst if len(outcomes) == 1 else f"{worst}: {counted[worst]} of {len(outcomes)} cases"
    )


def shortcomings(tests: Sequence[Marked], collector: Collector) -> list[str]:
    """What keeps the report from being good, a sentence each."""
    results = collector.results()
    found = []
    for number, (title, _) in PROMISES.items():
        own = [each for each in tests if each.number == number]
        if (said := verdict(own, results)) != "shown":
            found.append(f"{number} ({title}): {said.strip('*')}.")
    for each in tests:
        outcome = result_of(each, results)
        if not outcome.is_good and outcome.outcome != IN_SOAK:
            found.append(f"{each.file}:{each.line}: {each.name}: {outcome.outcome}.")
    listed = {(each.file, each.name, each.number) for each in tests}
    for (file, name), numbers in collector.numbers.items():
        for number in sorted(numbers):
            if (file, name, number) not in listed:
                found.append(f"{file}: {name} is marked {number} where this report cannot read it.")
    return found


def run(folder: Path, page: Path, processes: str = "4", with_soak: bool = False) -> list[str]:
    """Run the marked tests below `folder` and write the page; what is not as it should be, a sentence each.

    Raises Mistake when a mark or its test is wrong; nothing is run or written then.
    """
    tests = marked(folder)
    collector = Collector()
    which = "security" if with_soak else "security and not soak"
    arguments = ["-q", "-m", which, "-p", _PLUGIN, "-n", processes, "--dist", "worksteal"]
    pytest.main([*arguments, str(folder)], plugins=[collector])
    page.write_text(render(tests, collector.results()))
    return shortcomings(tests, collector)


def main(words: Sequence[str] | None = None) -> int:
    """Run, write, tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--soak", action="store_true", help="run what takes minutes too")
    parser.add_argument("-n", default="4", help="processes")
    chosen = parser.parse_args(words)
    try:
        found = run(TESTS, PAGE, chosen.n, chosen.soak)
    except Mistake as e:
        print(f"docs/security.md is not written: {e}")
        return 1
    print("\n".join(found) or "docs/security.md: every promise is shown by tests that pass.")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
