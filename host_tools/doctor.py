"""`limpet doctor`: what this machine has, what it lacks, and the command that mends it."""

import os
import platform
import pty
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from host_tools import devices, micropython, parts
from host_tools.broker import mosquitto
from host_tools.errors import LimpetError
from host_tools.line.opening import allow


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `remedy` is empty when nothing is to be done."""

    what: str
    state: str
    remedy: str = ""
    needed: bool = True
    """Whether limpet cannot do without it."""

    @property
    def is_missing(self) -> bool:
        """Whether it is needed, and something is to be done about it."""
        return self.needed and bool(self.remedy)

    def lines(self) -> Iterator[str]:
        """How it is told: what was found, and the remedy below it."""
        mark = "ok" if not self.remedy else ("MISSING" if self.needed else "optional")
        yield f"{mark:9}{self.what}: {self.state}"
        if self.remedy:
            yield f"{'':9}-> {self.remedy}"


def examine() -> Iterator[Finding]:
    """Look at everything that limpet uses on this machine."""
    yield Finding("Python", f"{platform.python_version()} on {sys.platform}, {platform.machine()}")
    yield _micropython()
    yield _umqtt()
    yield _mosquitto()
    yield _pseudo_terminal()
    yield _temporary_files()
    yield from _serial_ports()


def _micropython() -> Finding:
    try:
        words = micropython.command()
    except LimpetError as e:
        return Finding("MicroPython", "none that can be used", str(e))
    where = words[0] if micropython.VARIABLE in os.environ else "from PyPI"
    return Finding("MicroPython", f"{micropython.version()}, {where}")


def _umqtt() -> Finding:
    try:
        where = parts.umqtt_simple()
    except LimpetError as e:
        return Finding("umqtt.simple", "not there", str(e))
    named = parts.UMQTT_VARIABLE in os.environ
    return Finding("umqtt.simple", f"{where}, unchecked" if named else f"{where.name}, checked")


def _mosquitto() -> Finding:
    executable = mosquitto.find_executable()
    version = mosquitto.version(executable) if executable else None
    if executable and version and mosquitto.is_usable(version):
        return Finding("Mosquitto", ".".join(map(str, version)))
    state = "not installed; the embedded broker serves" if not executable else "too old; 2.0 is needed"
    return Finding("Mosquitto", state, _install("mosquitto"), needed=False)


def _install(package: str) -> str:
    """The command that installs a package here."""
    if shutil.which("brew"):
        return f"brew install {package}"
    if shutil.which("apt-get"):
        return f"sudo apt-get install {package}"
    return f"install the package '{package}' of your system"


def _pseudo_terminal() -> Finding:
    try:
        for fd in pty.openpty():
            os.close(fd)
    except OSError as e:
        return Finding(
            "pseudo-terminals",
            f"none to be had ({e.strerror})",
            "mount devpts: mount -t devpts devpts /dev/pts",
        )
    return Finding("pseudo-terminals", "there")


def _temporary_files() -> Finding:
    try:
        return Finding("temporary files", f"in {tempfile.gettempdir()}")
    except OSError as e:
        return Finding(
            "temporary files", f"no place for them ({e.strerror})", "export TMPDIR=/a/folder/of/yours"
        )


def _serial_ports() -> Iterator[Finding]:
    """The ports that may be a board's, and whether this user may open them."""
    found = [Path(port.name) for port in devices.ports() if port.may_be_a_board and not port.is_url]
    if not found:
        yield Finding("serial ports", "no board plugged in")
    for port in found:
        if os.access(port, os.R_OK | os.W_OK):
            yield Finding(str(port), "may be opened")
        elif port.exists():
            yield Finding(str(port), "may not be opened by you", allow(port))
        else:
            yield Finding(
                str(port), "is not there", "plug the board in, or take its name out of LIMPET_PORTS"
            )
