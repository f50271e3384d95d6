"""The pytest plugin: a rig's fixtures, what a test needs of it, and the evidence of it all (docs/hil.md)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from host_tools.errors import LimpetError
from host_tools.hil.blocked import Blocked

if TYPE_CHECKING:
    from host_tools.hil.broker import Witness
    from host_tools.hil.clock import Clock
    from host_tools.hil.link import Link
    from host_tools.hil.node import Node
    from host_tools.hil.power import PowerControl
    from host_tools.hil.rig import Rig
    from host_tools.hil.session import HilSession
    from host_tools.hil.stimulus import Stimulus

T = TypeVar("T")

_BLOCKED = "blocked"
_OURS = "_limpet_rig"
"""The fixture that every other one of ours stands on."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("limpet", "limpet, hardware in the loop")
    group.addoption(
        "--rig",
        action="append",
        default=[],
        metavar="NAME",
        help="a rig to run on (rigs/NAME.toml, or a path)",
    )
    group.addoption("--rig-as", default=None, metavar="NAME", help="what results call it, if not by its name")
    group.addoption("--rigs", default="rigs", metavar="DIR", help="the folder of the rig files")
    group.addoption(
        "--rig-wait", type=float, default=600.0, metavar="S", help="how long to wait for a rig in use"
    )
    group.addoption(
        "--evidence", default=None, metavar="DIR", help="write JUnit, JSON and HTML reports there"
    )
    parser.addini("limpet_rig", "the rig to run on when --rig names none")
    group.addoption("--firmware", default=None, metavar="DIR", help="test the firmware in this folder")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*capabilities): what a rig must have; else the test is blocked")
    config.addinivalue_line("markers", "rung(name): where a test without a rig runs, such as 'vm'")
    config.addinivalue_line(
        "filterwarnings", "ignore:set(Daemon|Name).. is deprecated:DeprecationWarning:serial.rfc2217"
    )
    config.pluginmanager.register(_Plugin(config), "limpet-hil")


class _Plugin:
    """The hooks that want a run's state; nothing of it is made before the first test that needs it."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._blocked: list[tuple[str, str]] = []
        self._run: HilSession | None = None

    @property
    def run(self) -> HilSession:
        if self._run is None:
            from host_tools.hil.session import HilSession

            self._run = HilSession(self._config)
        return self._run

    def pytest_sessionstart(self) -> None:
        folder = self._config.getoption("--evidence")
        if folder and not hasattr(self._config, "workerinput"):
            from host_tools.hil.evidence.recorder import clear

            clear(Path(folder))

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        needs = {name for item in items for name in _needs(item)}
        on_a_rig = any(_is_ours(item) and not item.get_closest_marker("rung") for item in items)
        try:
            if needs:
                self.run.check_needs(needs)
            if on_a_rig and self._config.getoption("--evidence"):
                self.run.file  # noqa: B018  (a record without a rig would be of nothing)
        except LimpetError as error:
            raise pytest.UsageError(str(error)) from None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        needs = _needs(item)
        if needs:
            _or_fail(lambda: self.run.check(needs))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        rung = item.get_closest_marker("rung")
        if not _is_ours(item):
            return (yield)
        self.run.begin(item.nodeid, rung.args[0] if rung else None, _needs(item))
        try:
            return (yield)
        finally:
            self.run.end()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if _is_ours(item) and call.excinfo is not None and call.excinfo.errisinstance(Blocked):
            report.outcome = "skipped"
            path, line, _ = item.location
            report.longrepr = (path, (line or 0) + 1, f"{_BLOCKED}: {call.excinfo.value}")
        if self._run is not None:
            self._run.take(report)
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        reason = _blocked(report)
        if reason:
            self._blocked.append((report.nodeid, reason))

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        return (_BLOCKED, "B", "BLOCKED") if _blocked(report) else None

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self._blocked:
            terminalreporter.section("blocked: the rig could not", sep="=", yellow=True)
            for test, reason in self._blocked:
                terminalreporter.line(f"BLOCKED {test} - {reason}")

    def pytest_sessionfinish(self) -> None:
        if self._run is not None:
            self._run.close()
        folder = self._config.getoption("--evidence")
        if folder and not hasattr(self._config, "workerinput"):
            from host_tools.hil.evidence import read_results, write_reports

            write_reports(Path(folder), read_results(Path(folder)))


def _is_ours(item: pytest.Item) -> bool:
    """Whether it runs on a rig, or says on which rung it runs without one."""
    rung = item.get_closest_marker("rung")
    return bool(rung or _needs(item) or _OURS in getattr(item, "fixturenames", ()))


def _needs(item: pytest.Item) -> tuple[str, ...]:
    return tuple(name for mark in item.iter_markers("needs") for name in mark.args)


def _blocked(report: pytest.TestReport) -> str | None:
    """Why a test was blocked, if it was."""
    if report.outcome != "skipped" or not isinstance(report.longrepr, tuple):
        return None
    head, colon, reason = report.longrepr[2].partition(": ")
    return reason if colon and head == _BLOCKED else None


def _or_fail(call: Callable[[], T]) -> T:
    """What is wrong with a rig is said in its own sentence, without a traceback."""
    try:
        return call()
    except LimpetError as error:
        why = str(error)
    pytest.fail(why, pytrace=False)


@pytest.fixture
def _limpet_rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    plugin = request.config.pluginmanager.get_plugin("limpet-hil")
    assert isinstance(plugin, _Plugin)
    rig = _or_fail(plugin.run.rig)
    with rig.test():
        yield rig


@pytest.fixture
def rig(_limpet_rig: Rig) -> Rig:
    """The rig that this test runs on: its board, its capabilities, and what happened so far."""
    return _limpet_rig


@pytest.fixture
def broker(rig: Rig) -> Witness:
    """A real MQTT broker, as the witness: what the node published, and who was let in."""
    return rig.broker


@pytest.fixture
def node(rig: Rig) -> Node:
    """The node: this firmware with the suite's settings, in service when the test begins."""
    return rig.in_service()


@pytest.fixture
def power(rig: Rig) -> PowerControl:
    """The supply of the board."""
    return rig.power


@pytest.fixture
def link(rig: Rig) -> Link:
    """What is between node and broker: a network that can fail."""
    return rig.link


@pytest.fixture
def stimulus(rig: Rig) -> Stimulus:
    """The physical quantities that the sensors see, and the sensors' faults."""
    return rig.stimulus


@pytest.fixture
def clock(rig: Rig) -> Clock:
    """The time that the node's time server tells."""
    return rig.clock
