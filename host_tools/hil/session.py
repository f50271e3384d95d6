"""One pytest process: the rig that it runs on, and what it records of each test."""

import contextlib
import os
import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path

import pytest

from host_tools import paths
from host_tools.errors import LimpetError, UsageError
from host_tools.hil import rigs
from host_tools.hil.blocked import Blocked
from host_tools.hil.children import REMARK
from host_tools.hil.evidence import Outcome, Recorder, Result, Rung, Samples, Scrubber, Where
from host_tools.hil.rig import Rig
from host_tools.hil.rigs import RigFile
from host_tools.hil.timeline import Event
from host_tools.hil.who import user

_AGAIN: Collection[str] = ("rerun",)
"""The outcome that pytest-rerunfailures gives to an attempt that is not the last."""
HOLDER = "LIMPET_HOLDER"
"""Names whoever holds a rig to those who wait for it: "nightly #217"."""


class HilSession:
    """Nothing of a rig is touched before the first test that needs one."""

    def __init__(self, config: pytest.Config) -> None:
        evidence, firmware = config.getoption("--evidence"), config.getoption("--firmware")
        usual = config.getini("limpet_rig")
        self._names: Sequence[str] = config.getoption("--rig") or ([usual] if usual else [])
        self._name: str | None = config.getoption("--rig-as")
        self._folder = Path(config.getoption("--rigs"))
        self._wait_s: float = config.getoption("--rig-wait")
        self._firmware = Path(firmware) if firmware else paths.FIRMWARE
        self._evidence = Path(evidence) if evidence else None
        self._worker: str = getattr(config, "workerinput", {}).get("workerid", "main")
        self._scrubber = Scrubber()
        capture = config.pluginmanager.get_plugin("capturemanager")
        self._uncaptured = capture.global_and_fixture_disabled if capture else contextlib.nullcontext
        self._stack = contextlib.ExitStack()
        self._rig: Rig | None = None
        self._why_not = ""
        self._test: _Test | None = None

    def check_needs(self, needs: Iterable[str]) -> None:
        """Raise UsageError for a capability that no rig can have."""
        known = rigs.load_all(self._folder)
        rigs.check_needs(needs, [*known, self.file] if self._names else known)

    def check(self, needs: Iterable[str]) -> None:
        """Raise Blocked when the rig lacks one of them."""
        lacks = rigs.missing(needs, self.file)
        if lacks:
            raise Blocked(f"the rig '{self.file.name}' has no {' and no '.join(lacks)}")

    @cached_property
    def file(self) -> RigFile:
        """The rig of this process. Raises UsageError when none was named."""
        if not self._names:
            known = rigs.known_rigs(self._folder)
            raise UsageError(
                f"No rig was named: give pytest --rig NAME, where NAME is one of {', '.join(known)}; "
                f"`limpet hil suggest` writes {self._folder}/NAME.toml for a board that is plugged in."
            )
        name = self._names[_number_of(self._worker) % len(self._names)]
        return rigs.load_rig(name, self._folder)

    def rig(self) -> Rig:
        """The rig, opened at its first use. Raises UsageError when none was named, and Blocked, without
        trying again, when it could not be opened."""
        if self._why_not:
            raise Blocked(self._why_not)
        if self._rig is None:
            rig = Rig(
                self.file,
                self._firmware,
                self._scrubber,
                holder=os.environ.get(HOLDER) or f"pytest of {user()}",
                wait_s=self._wait_s,
                on_wait=self._say,
            )
            try:
                self._rig = self._stack.enter_context(rig)
            except (Blocked, LimpetError) as error:
                self._why_not = str(error)
                raise Blocked(self._why_not) from None
        return self._rig

    def _say(self, text: str) -> None:
        """Tell the user now, whatever pytest does with what is printed."""
        with self._uncaptured():
            print(f"\n{REMARK}{text}", file=sys.stderr, flush=True)

    # The record

    def begin(self, test: str, rung: Rung | None, needs: Sequence[str]) -> None:
        """A test begins; `rung` is where it runs when it has no rig."""
        if self._recorder:
            self._test = _Test(test, rung, tuple(needs), time.time())
            self._recorder.begin(test, self._where(rung))

    def take(self, report: pytest.TestReport) -> None:
        """A part of it has ended: the set-up, the call, or the tear-down of one attempt."""
        self._scrub(report)
        if self._test:
            self._test.reports.append(report)
            if report.failed and self._rig:
                self._test.events, self._test.readings = self._rig.events(), self._rig.readings()

    def _scrub(self, report: pytest.TestReport) -> None:
        """What pytest shows goes to terminals and logs too."""
        text = report.longreprtext
        clean = self._scrubber.text(text)
        if clean != text:
            report.longrepr = clean
        report.sections = [(name, self._scrubber.text(content)) for name, content in report.sections]

    def end(self) -> None:
        """It has ended."""
        test, self._test = self._test, None
        if test and self._recorder:
            self._recorder.end(result(test, self._where(test.rung)))

    def close(self) -> None:
        """Let the rig go."""
        self._stack.close()
        if self._recorder:
            self._recorder.close()

    @cached_property
    def _recorder(self) -> Recorder | None:
        return Recorder(self._evidence, self._worker, self._scrubber) if self._evidence else None

    def _where(self, rung: Rung | None) -> Where:
        if rung:
            return Where(rung=rung, rig=rung)
        file = self.file
        where = self._rig.where if self._rig else Where(rung=file.rung, rig=file.name, board=file.board.name)
        return replace(where, rig=self._name or where.rig)


@dataclass
class _Test:
    """What is known of a test while it runs."""

    name: str
    rung: Rung | None
    needs: tuple[str, ...]
    started: float
    reports: list[pytest.TestReport] = field(default_factory=list)
    events: Sequence[Event] = ()
    readings: Mapping[str, Samples] = field(default_factory=dict)


def result(test: _Test, where: Where) -> Result:
    """What the reports of a test's attempts say of it. What pytest skips was not shown either: blocked."""
    begins = [place for place, each in enumerate(test.reports) if each.when == "setup"]
    last = test.reports[begins[-1] :] if begins else []
    failures = [each.longreprtext for each in test.reports if each.failed or each.outcome in _AGAIN]
    skipped = [_reason(each) for each in last if each.skipped]
    outcome: Outcome
    came_to_its_end = any(each.when == "teardown" for each in last)
    if not came_to_its_end or any(each.failed for each in last):
        outcome, why = "failed", "\n\n".join(failures) or "it was ended before its end"
    elif skipped:
        outcome, why = "blocked", skipped[0]
    elif failures:
        outcome, why = "flaky", "\n\n".join(failures)
    else:
        outcome, why = "passed", ""
    told = outcome in ("failed", "flaky")
    return Result(
        **{each.name: getattr(where, each.name) for each in fields(Where)},
        test=test.name,
        outcome=outcome,
        started=test.started,
        seconds=time.time() - test.started,
        why=why,
        attempts=max(1, len(begins)),
        needs=test.needs,
        events=tuple(test.events) if told else (),
        readings=test.readings if told else {},
    )


def _reason(report: pytest.TestReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("blocked: ")


def _number_of(worker: str) -> int:
    """Workers of pytest-xdist are called gw0, gw1, …"""
    return int(worker.removeprefix("gw")) if worker.startswith("gw") else 0
