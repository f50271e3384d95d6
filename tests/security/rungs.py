"""A pytest plugin: notes with each marked test its marks, and the rungs that it ran on.

The rung is what was really started: `virtual` for a virtual board, `vm` for firmware in MicroPython without
one, else `host`. A board that a fixture started counts for every test that uses the fixture.
"""

import contextlib
import os
import sys
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from host_tools import micropython
from tests.security.marked import MARKS, RUNGS


def rung(words: list[str]) -> str | None:
    """What a command line starts, if anything that concerns us."""
    if any(word.endswith("/virtual/launch.py") for word in words):
        return "virtual"
    if any(word.endswith("/limpet") for word in words[:2]) and "virtual" in words[1:3]:
        return "virtual"
    named = os.environ.get(micropython.VARIABLE, "micropython")
    return "vm" if "micropython" in words or words[0].endswith(named) else None


class Observer:
    """One a process. Its hook sees every process that is started here, whichever thread does it."""

    def __init__(self) -> None:
        self._watching: list[set[str]] = []
        self._of_fixtures: dict[object, set[str]] = {}
        sys.addaudithook(self._audit)

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event != "subprocess.Popen" or not self._watching or _is_probe():
            return
        words = [args[1]] if isinstance(args[1], str) else [str(each) for each in args[1]]
        found = rung(words)
        if found:
            for each in self._watching:
                each.add(found)

    @contextlib.contextmanager
    def _watch(self, seen: set[str]) -> Iterator[None]:
        self._watching.append(seen)
        try:
            yield
        finally:
            # By identity: two sets may be equal.
            self._watching = [each for each in self._watching if each is not seen]

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        with self._watch(self._of_fixtures.setdefault(fixturedef, set())):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        self._of_item: set[str] = set()
        with self._watch(self._of_item):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, Any, Any]:
        seen = set(self._of_item)
        if not isinstance(item, pytest.Function):
            seen.add("vm")  # a file that MicroPython runs, in one go for all its tests
        known = getattr(item, "_fixtureinfo", None)
        for definitions in known.name2fixturedefs.values() if known else ():
            for each in definitions:
                seen |= self._of_fixtures.get(each, set())
        numbers = [mark.args[0] for mark in item.iter_markers("security")]
        kept = [each for each in item.user_properties if each[0] not in (MARKS, RUNGS)]
        item.user_properties[:] = [*kept, (MARKS, numbers), (RUNGS, sorted(seen) or ["host"])]
        return (yield)


def _is_probe() -> bool:
    # host_tools.micropython asks MicroPython for its version: nothing of ours runs in it.
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_globals.get("__name__") == micropython.__name__:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Observer())
