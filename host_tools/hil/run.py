"""`limpet hil run`: the tests on one rig or several, side by side, and one report of all (docs/hil.md)."""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

from host_tools.errors import DONE, FAILED, UNVERIFIED, UsageError
from host_tools.hil.children import PLAIN, Job, Watch, run_all
from host_tools.hil.evidence import Result, Results, read_results, summary, write_reports
from host_tools.hil.evidence.flaky import Ledger, with_quarantine
from host_tools.hil.evidence.recorder import FOLDER, clear
from host_tools.hil.rigs import FOLDER as RIGS
from host_tools.hil.rigs import RigFile, Rung, load_all, load_rig
from host_tools.hil.rigs.claims import see_no_conflict
from host_tools.userfile import did_you_mean

SUITE = Path("tests/hil")
"""The tests that run on rigs when none are named."""
MODULES = Path("tests/firmware")
"""Those that run on the rung `vm` then, which has no rigs."""
VM: Final = "vm"
DEFAULT_RIG = "virtual"
_RUNGS = (VM, *get_args(Rung))
_MOST = 64  # boards of one rig; a machine runs out of breath before


@dataclass(frozen=True)
class Wanted:
    """A rig, and how many boards of it."""

    rig: RigFile
    count: int = 1

    @property
    def word(self) -> str:
        """For pytest. (A path in a word of its own would be one of those that it looks for its root in.)"""
        return f"--rig={self.rig.path}"


@dataclass(frozen=True)
class Order:
    """What the user asked for; the fields are the options of the command."""

    tests: tuple[str, ...] = ()
    rigs: tuple[str, ...] = ()
    rungs: tuple[str, ...] = ()
    folder: Path = RIGS
    out: Path = Path("build/hil")
    split: bool = False
    retries: int = 1
    strict: bool = False
    ledger: Path | None = None
    """What tests did in earlier runs, and which of them are in quarantine; None: nothing is known or kept."""


@dataclass(frozen=True)
class Outcome:
    """What came of a run: its results, the sentences of processes that broke off, and the exit code."""

    results: Results
    broken: tuple[str, ...]
    exit_code: int


def run(order: Order, watch: Watch) -> Outcome:
    """Run the tests and write the reports into `out`, in place of those of an earlier run.

    However it is ended, also by an exception, the reports are written. Raises LimpetError for an order that
    cannot be carried out: nothing has run then.
    """
    jobs = plan(order, chosen(order))
    for job in jobs:
        clear(job.folder)
    clear(order.out)
    with Ledger(order.ledger) if order.ledger else contextlib.nullcontext() as ledger:
        try:
            ended = run_all(jobs, watch)
        except BaseException:
            _reported(order.out, jobs, ledger)
            raise
        results = _reported(order.out, jobs, ledger)
        if ledger:
            ledger.record(results)
    broken = tuple(each.broken for each in ended if each.broken)
    return Outcome(results, broken, exit_code(results, broken, order.strict))


def chosen(order: Order) -> list[Wanted]:
    """The rigs of an order: those that are named, all of the rungs that are named, or the virtual one.
    None for the rung `vm` alone.

    Raises UsageError when there is none, and what `load_rig` raises.
    """
    for rung in order.rungs:
        if rung not in _RUNGS:
            raise UsageError(f"There is no rung '{rung}'. {did_you_mean(rung, _RUNGS)}")
    if order.rungs == (VM,) and not order.rigs:
        return []
    if order.rigs:
        wanted = [_wanted(word, order.folder) for word in order.rigs]
    elif order.rungs:
        wanted = [Wanted(rig) for rig in load_all(order.folder)]
    else:
        wanted = [Wanted(load_rig(DEFAULT_RIG, order.folder))]
    names = [each.rig.name for each in wanted]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"The rig '{name}' stands there twice: name it once, and with ':2' for two boards of it."
            )
    see_no_conflict([each.rig for each in wanted])
    of_rungs = [each for each in wanted if not order.rungs or each.rig.rung in order.rungs]
    if not of_rungs:
        which = f"None of the rigs {', '.join(names)}" if order.rigs else f"No rig in {order.folder}"
        raise UsageError(
            f"{which} is of the rung {' or '.join(order.rungs)}: name another rung, or write a rig file."
        )
    return of_rungs


def suite(tests: Sequence[str], folder: Path = SUITE) -> tuple[str, ...]:
    """The tests to run: those named, or else all of a folder. Raises UsageError when it is not here."""
    if not tests and not folder.is_dir():
        raise UsageError(f"There is no folder {folder} here: name the tests to run.")
    return tuple(tests) or (str(folder),)


def plan(order: Order, wanted: Sequence[Wanted]) -> list[Job]:
    """A job for each board, or one for all when they share the tests; and one for the rung `vm`.

    Raises UsageError when there are no tests.
    """
    runs = list(_runs(order, wanted))
    common = (f"--rigs={order.folder}", f"--reruns={order.retries}", *PLAIN)
    jobs = []
    for name, words in runs:
        folder = order.out if len(runs) == 1 else order.out / name
        jobs.append(Job(name, (*common, f"--evidence={folder}", *words), folder))
    return jobs


def exit_code(results: Sequence[Result], broken: Sequence[str], strict: bool) -> int:
    """0; 1 if a test failed or a process broke off; 5 if nothing passed, or with `strict` one was blocked."""
    counts = summary(results)
    if broken or counts["failed"]:
        return FAILED
    if not counts["passed"] + counts["flaky"] or (strict and counts["blocked"]):
        return UNVERIFIED
    return DONE


def _runs(order: Order, wanted: Sequence[Wanted]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """A name for each run of pytest, and what is its own in its words."""
    boards = [each for each in wanted for _ in range(each.count)]
    tests = suite(order.tests) if boards else ()
    if order.split and boards:
        named = [each.word for each in boards]  # one a worker
        shared = (f"-n={len(boards)}", "--dist=worksteal") if len(boards) > 1 else ()
        yield " + ".join(_named(each) for each in wanted), (*named, *shared, *tests)
    else:
        for each in wanted:
            for number in range(1, each.count + 1):
                name = each.rig.name if each.count == 1 else f"{each.rig.name}-{number}"
                yield name, (each.word, f"--rig-as={name}", *tests)
    if VM in order.rungs:
        yield VM, suite(order.tests, MODULES)


def _named(each: Wanted) -> str:
    return each.rig.name if each.count == 1 else f"{each.rig.name}:{each.count}"


def _wanted(word: str, folder: Path) -> Wanted:
    name, colon, number = word.rpartition(":")
    if not colon or not number.isdecimal():
        return Wanted(load_rig(word, folder))
    rig, count = load_rig(name, folder), int(number)
    if not 1 <= count <= _MOST:
        raise UsageError(f"--rig {word}: write a number of boards from 1 to {_MOST}.")
    if rig.rung == "bench" and count > 1:
        raise UsageError(f"--rig {word}: '{rig.name}' is one real board: leave ':{number}' out.")
    return Wanted(rig, count)


def _reported(out: Path, jobs: Sequence[Job], ledger: Ledger | None) -> Results:
    """Bring the results of all jobs together below `out`, as they count, and write the reports on them."""
    for job in jobs:
        if job.folder != out:
            (out / FOLDER).mkdir(parents=True, exist_ok=True)
            for path in (job.folder / FOLDER).glob("*.jsonl"):
                shutil.copyfile(path, out / FOLDER / f"{job.name}-{path.name}")
    results = read_results(out)
    if ledger:
        results = with_quarantine(results, ledger.quarantines())
    write_reports(out, results)
    return results
