"""`limpet hil mutate`: the tests on each mutant, several mutants side by side."""

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from host_tools import paths
from host_tools.errors import DONE, FAILED, LimpetError, UsageError
from host_tools.hil.children import LOG, PLAIN, Ended, Job, Watch, run_all
from host_tools.hil.evidence.record import Line
from host_tools.hil.evidence.recorder import clear
from host_tools.hil.mutate import table
from host_tools.hil.mutate.catalogue import Mutant, load, save, with_catches
from host_tools.hil.mutate.plant import plant_all
from host_tools.hil.mutate.verdict import Verdict, judge, named_by
from host_tools.hil.rigs import FOLDER as RIGS
from host_tools.hil.run import DEFAULT_RIG, SUITE, suite

_AS_IT_IS = "unmutated"


@dataclass(frozen=True)
class Order:
    """What the user asked for; the fields are the options of the command."""

    names: tuple[str, ...] = ()
    mutants: Path = SUITE / "mutants.toml"
    tests: tuple[str, ...] = ()
    rig: str = DEFAULT_RIG
    rigs: Path = RIGS
    firmware: Path = paths.FIRMWARE
    out: Path = Path("build/hil-mutants")
    table: Path | None = None
    write: bool = False
    jobs: int = 4
    patience_s: float = 1800.0
    """For all tests of one mutant."""


@dataclass(frozen=True)
class Report:
    """A verdict for each mutant; what `catches` names that is no test, by mutant; and the exit code."""

    verdicts: tuple[Verdict, ...]
    stale: Mapping[str, Sequence[str]]
    exit_code: int


class Show(Protocol):
    """Who wants to know how it goes."""

    def phase(self, text: str, count: int) -> None:
        """Something begins that has so many steps."""

    def step(self, doing: Collection[str]) -> None:
        """A step is done; this is going on."""

    def verdict(self, verdict: Verdict) -> None:
        """There is a verdict."""


def mutate(order: Order, show: Show) -> Report:
    """Run the tests on each mutant: those first that have caught it before, then all.

    Before that they must pass on the firmware as it is. Raises LimpetError when they do not, or for an order
    that cannot be carried out.
    """
    if order.names and order.table:
        raise UsageError("The table has all mutants: leave the names out, or --table.")
    if order.table:
        table.read_page(order.table)  # now, and not after an hour
    catalogue = load(order.mutants)
    mutants = catalogue.chosen(order.names)
    tests = suite(order.tests)
    with tempfile.TemporaryDirectory(prefix="limpet-mutants-") as folder:
        bench = _Bench(order, plant_all(catalogue, mutants, order.firmware, Path(folder)), show)
        known = bench.collected(tests)
        hints = {each.name: named_by(each.catches, known) for each in mutants}
        # A test that has caught it once is believed at once. Of another one a failure may have other reasons.
        verdicts = bench.verdicts([each for each in mutants if hints[each.name]], hints, retries=0)
        left = {
            each.name: [test for test in known if test not in hints[each.name]]
            for each in mutants
            if each.name not in verdicts or verdicts[each.name].caught is None
        }
        verdicts |= bench.verdicts([each for each in mutants if left.get(each.name)], left, retries=1)
    made = tuple(verdicts[each.name] for each in mutants)
    stale = {each.name: found for each in mutants if (found := _stale(each, known))}
    if order.write:
        _keep(order.mutants, better_hints(made, stale))
    if order.table:
        table.write(order.table, made)
    return Report(made, stale, DONE if all(each.caught for each in made) else FAILED)


def better_hints(verdicts: Sequence[Verdict], stale: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """What `catches` should name, for the mutants of which it does not."""
    news = {}
    for each in verdicts:
        name = each.mutant.name
        if each.caught is not None and each.wants_a_new_hint:
            news[name] = [each.caught]
        elif name in stale:
            news[name] = [hint for hint in each.mutant.catches if hint not in stale[name]]
    return news


def node_ids(log: str) -> list[str]:
    """The tests that `pytest --collect-only -q` lists."""
    return [
        line for line in log.splitlines() if "::" in line and not line.startswith(("ERROR", "FAILED", " "))
    ]


class _Bench:
    """Runs tests on firmware, as it is or with a mutant in it."""

    def __init__(self, order: Order, planted: Mapping[str, Path], show: Show) -> None:
        self._order = order
        self._planted = planted
        self._show = show
        # A path in a word of its own would be one of those that pytest looks for its root in.
        self._common = (f"--rig={order.rig}", f"--rigs={order.rigs}", *PLAIN)

    def collected(self, tests: Sequence[str]) -> list[str]:
        """The node ids of the tests. Raises LimpetError when there are none."""
        folder = self._order.out / "collect"
        [ended] = run_all([Job("collect", ("--collect-only", "-q", *PLAIN, *tests), folder)], Watch())
        found = node_ids((folder / LOG).read_text(errors="replace"))
        if ended.broken or not found:
            raise LimpetError(ended.broken or f"There are no tests in {' '.join(tests)}: name others.")
        return found

    def verdicts(
        self, mutants: Sequence[Mutant], tests: Mapping[str, Sequence[str]], retries: int
    ) -> dict[str, Verdict]:
        """The verdict of each mutant's tests, once all of these have passed on the firmware as it is."""
        if not mutants:
            return {}
        self._see_them_pass(list(dict.fromkeys(test for each in mutants for test in tests[each.name])))
        self._show.phase("mutants", len(mutants))
        watch = _Verdicts({each.name: each for each in mutants}, self._show)
        run_all([self._job(each, tests[each.name], retries) for each in mutants], watch, self._order.jobs)
        return watch.verdicts

    def _job(self, mutant: Mutant, tests: Sequence[str], retries: int) -> Job:
        folder = self._folder(mutant.name)
        words = (*self._common, "--firmware", str(self._planted[mutant.name]), "--evidence", str(folder))
        return Job(
            mutant.name, (*words, "-x", "--reruns", str(retries), *tests), folder, self._order.patience_s
        )

    def _see_them_pass(self, tests: Sequence[str]) -> None:
        self._show.phase("the tests on the firmware as it is", len(tests))
        folder, count = self._folder(_AS_IT_IS), min(self._order.jobs, len(tests))
        shared = (f"-n={count}", "--dist=worksteal") if count > 1 else ()
        words = (*self._words(self._order.firmware, folder, 1), *shared, *tests)
        job = Job(_AS_IT_IS, words, folder)
        [ended] = run_all([job], _Steps(self._show))
        if ended.broken:
            raise LimpetError(ended.broken)
        last = {each.test: each for each in ended.results}
        failed = [each.test for each in last.values() if each.outcome == "failed"]
        if failed:
            raise LimpetError(
                f"On the firmware as it is {', '.join(failed)} failed already, so that mutants would prove "
                f"nothing: mend that first (see {folder / LOG})."
            )

    def _words(self, firmware: Path, folder: Path, retries: int) -> tuple[str, ...]:
        return *self._common, f"--firmware={firmware}", f"--evidence={folder}", f"--reruns={retries}"

    def _folder(self, name: str) -> Path:
        folder = self._order.out / name
        clear(folder)
        return folder


class _Steps(Watch):
    """A step for each test."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._begun: dict[str, None] = {}

    def line(self, job: Job, line: Line) -> None:
        if line.line == "begin":
            self._begun[line.test] = None
        else:
            self._begun.pop(line.test, None)
            self._show.step([test.rpartition("::")[2] for test in self._begun])


class _Verdicts(Watch):
    """A step and a verdict for each mutant."""

    def __init__(self, mutants: Mapping[str, Mutant], show: Show) -> None:
        self._mutants = mutants
        self._show = show
        self._running: dict[str, None] = {}
        self.verdicts: dict[str, Verdict] = {}

    def started(self, job: Job) -> None:
        self._running[job.name] = None

    def ended(self, ended: Ended) -> None:
        name = ended.job.name
        del self._running[name]
        self.verdicts[name] = judge(self._mutants[name], ended)
        self._show.verdict(self.verdicts[name])
        self._show.step(self._running)


def _keep(path: Path, hints: Mapping[str, Sequence[str]]) -> None:
    """Write these hints into the file as it is by now: somebody may have worked on it meanwhile."""
    there = load(path)
    news = {each.name: hints[each.name] for each in there.mutants if each.name in hints}
    save(path, with_catches(path.read_text(encoding="utf-8"), there.file, news))


def _stale(mutant: Mutant, known: Sequence[str]) -> list[str]:
    return [hint for hint in mutant.catches if not named_by([hint], known)]
