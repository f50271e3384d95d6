"""Runs this folder's tests inside MicroPython: one process a file, one pytest result a test function.

The functions are found by reading the file, never by importing it into CPython. A test that kills the
interpreter, or a file that does not end in time, fails with what was printed until then.
"""

import ast
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_tools import micropython, parts, paths
from tests.security.marked import MarkedFile, is_mark

HERE = Path(__file__).parent
_RUNNER = HERE / "runner.py"
_HEAP = "1m"
_PATIENCE = 120  # seconds for one file


class MicroPythonFailure(Exception):
    """A test failed; the text is MicroPython's traceback, or what was printed before the interpreter died."""


class MicroPythonFile(pytest.File):
    def collect(self) -> Iterator["MicroPythonItem"]:
        tree = ast.parse(self.path.read_text(), str(self.path))
        self.results: dict[str, dict[str, object]] | None = None
        marks = MarkedFile(tree, self.path.name)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                item = MicroPythonItem.from_parent(self, name=node.name, line=node.lineno)
                item.add_marker(pytest.mark.rung("vm"))
                for decorator in filter(is_mark, node.decorator_list):
                    assert isinstance(decorator, ast.Call)
                    item.add_marker(pytest.mark.security(*marks.arguments(decorator)))
                yield item

    def result(self, name: str) -> dict[str, object]:
        if self.results is None:
            chosen = [item.name for item in self.session.items if item.parent is self]
            self.results = run_file(self.path, chosen)
        return self.results[name]


class MicroPythonItem(pytest.Item):
    def __init__(self, *, line: int, **kwargs: object) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self._line = line

    def runtest(self) -> None:
        assert isinstance(self.parent, MicroPythonFile)
        result = self.parent.result(self.name)
        if result.get("printed"):
            self.add_report_section("call", "stdout", str(result["printed"]))
        if result["outcome"] != "passed":
            raise MicroPythonFailure(result["traceback"])

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        return str(excinfo.value) if isinstance(excinfo.value, MicroPythonFailure) else str(excinfo.getrepr())

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, self._line - 1, self.name


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.File:
    return MicroPythonFile.from_parent(parent, path=module_path)


def run_file(path: Path, names: list[str]) -> dict[str, dict[str, object]]:
    """Run test functions of a file in one MicroPython; outcome, traceback and output of each by its name."""
    search = [paths.FIRMWARE, paths.VIRTUAL_BOARD, HERE, parts.umqtt_simple()]
    words = [*micropython.command(), "-X", f"heapsize={_HEAP}", str(_RUNNER), path.stem, *names, "--"]
    words += [str(folder) for folder in search]
    started = time.monotonic()
    try:
        done = subprocess.run(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_PATIENCE,
            cwd=paths.ROOT,
            check=False,
        )
        output, end = done.stdout, f"MicroPython ended with exit code {done.returncode}"
    except subprocess.TimeoutExpired as e:
        output, end = e.stdout or b"", f"no end after {time.monotonic() - started:.0f} s"
    results: dict[str, dict[str, object]] = {}
    printed: list[str] = []
    for line in output.decode(errors="replace").split("\n"):  # splitlines() would split at 0x1E too
        if line.startswith("\x1e"):
            result = json.loads(line[1:])
            results[result.pop("name")] = {**result, "printed": "\n".join(printed)}
            printed.clear()
        elif line.strip():
            printed.append(line)
    missing: dict[str, object] = {"outcome": "failed", "traceback": "\n".join([*printed, end])}
    return {name: results.get(name, missing) for name in names}
