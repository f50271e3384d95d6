"""Opening a port: no state of the lines on the way resets a board, and a port that does not open says why."""

import contextlib
import errno
import io
import itertools
import os
import pty
import shutil
import socket
import stat
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import serial

from host_tools.errors import NoDeviceError
from host_tools.line import opening
from host_tools.line.opening import allow, holders, open_line, open_untouched, why
from host_tools.virtual.lines import ClassicCircuit, Effect, Lines, UsbSerialJtag
from tests.host.shell import DEADLINE, LIMPET, environment
from tests.host.stand import wait_until


@pytest.fixture
def terminal() -> Iterator[tuple[int, str]]:
    """A pseudo-terminal that nobody has open: its other end, and its name."""
    other, port = pty.openpty()
    name = os.ttyname(port)
    os.close(port)
    yield other, name
    os.close(other)


class Wired:
    """A port of pyserial, as far as its lines go: what each change does to a chip is noted."""

    def __init__(self, lines: Lines, before: tuple[bool, bool]) -> None:
        self.effects: list[Effect] = []
        self._lines = lines
        self.change(*before)
        self.effects.clear()

    def change(self, dtr: bool, rts: bool) -> None:
        self.now = (dtr, rts)
        self.effects.append(self._lines.change(dtr, rts))

    def open(self) -> None:
        self._update_dtr_state()
        self._update_rts_state()

    def _update_dtr_state(self) -> None:
        self.change(False, self.now[1])

    def _update_rts_state(self) -> None:
        self.change(self.now[0], False)

    def fileno(self) -> int:
        raise io.UnsupportedOperation("fileno")  # as of a port on another machine


class Plugged(Wired):
    """One of this machine: Linux asserts both lines at once when it is opened, and an ioctl changes both."""

    def open(self) -> None:
        self.change(True, True)
        super().open()

    def fileno(self) -> int:
        return -1

    def ioctl(self, _fd: int, request: int, bits: bytes) -> None:
        assert request == termios.TIOCMBIC
        (mask,) = struct.unpack("I", bits)
        dtr, rts = self.now
        self.change(dtr and not mask & termios.TIOCM_DTR, rts and not mask & termios.TIOCM_RTS)


CIRCUITS = pytest.mark.parametrize("circuit", [ClassicCircuit, UsbSerialJtag])


@CIRCUITS
def test_opening_a_device_resets_no_chip(
    circuit: Callable[[], Lines], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = Plugged(circuit(), (False, False))
    monkeypatch.setattr(opening, "fcntl", SimpleNamespace(ioctl=port.ioctl))
    open_untouched(port)
    assert (set(port.effects), port.now) == ({Effect.NOTHING}, (False, False))
    port.effects.clear()
    port.change(False, True)
    port.change(False, False)
    assert Effect.DOWNLOAD not in port.effects, "the next reset must not end in the ROM"


@CIRCUITS
@pytest.mark.parametrize("before", [(True, True), (False, False), (True, False)])
def test_the_lines_of_another_machines_port_stay_as_they_are(
    circuit: Callable[[], Lines], before: tuple[bool, bool]
) -> None:
    port = Wired(circuit(), before)
    open_untouched(port)
    assert (port.effects, port.now) == ([], before)
    port.open()  # what was left out for that time is there again
    assert len(port.effects) == 2


def test_pyserials_own_order_would_reset_a_chip() -> None:
    """What the module's text claims, and why it is there."""
    port = Plugged(ClassicCircuit(), (False, False))
    port.open()
    assert Effect.HOLD in port.effects


def test_an_open_port_can_be_read_and_written(terminal: tuple[int, str]) -> None:
    other, name = terminal
    with contextlib.closing(open_line(name)) as port:
        port.write(b"\x16")
        os.write(other, b"limpet")
        assert port.read(6) == b"limpet"
        assert os.read(other, 10) == b"\x16"


def refusal(name: str) -> str:
    with pytest.raises(NoDeviceError) as refused:
        open_line(name)
    return str(refused.value)


def test_names_that_are_no_ports(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    none = tmp_path / "none"
    assert refusal(str(none)) == (
        f"The serial port '{none}' does not exist: plug the board in, or name its port."
    )
    assert refusal("") == "The serial port '' does not exist: plug the board in, or name its port."
    file = tmp_path / "file"
    assert refusal(str(file)) == f"{file} cannot be opened: it is no serial port; name the board's."
    assert refusal(str(tmp_path)) == f"{tmp_path} cannot be opened: it is a folder; name the board's port."
    assert "cannot be opened: " in refusal("nonsense://x")


def test_nobody_listens_behind_a_url() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"rfc2217://127.0.0.1:{taken.getsockname()[1]}"
        assert refusal(url) == (
            f"{url} cannot be opened: nothing listens there, or another program has it; "
            "start the server, or close that program."
        )


def test_a_program_that_has_the_port_is_named(terminal: tuple[int, str]) -> None:
    _, name = terminal
    with open(name, "rb", buffering=0) as port:  # noqa: PTH123 - a device
        sleeper = subprocess.Popen([shutil.which("sleep") or "sleep", "60"], stdin=port)
    try:
        wait_until(lambda: holders(name) == [f"sleep ({sleeper.pid})"], "the holder")
        assert refusal(name) == (
            f"{name} cannot be opened: sleep ({sleeper.pid}) has it open; close that first."
        )
    finally:
        sleeper.kill()
        sleeper.wait()
    with contextlib.closing(open_line(name)):
        assert holders(name)


def test_a_port_that_is_let_go_in_time_opens(terminal: tuple[int, str]) -> None:
    _, name = terminal
    held = serial.Serial(name, exclusive=True)
    looks = itertools.count()

    def let_go(_: float) -> None:
        if next(looks) == 2:
            held.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "time", SimpleNamespace(monotonic=time.monotonic, sleep=let_go))
        open_line(name).close()


def test_a_port_that_goes_between_listing_and_opening(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gone = tmp_path / "ttyUSB0"
    gone.touch()

    def open_it(*_words: Any, **_options: Any) -> None:
        gone.unlink()
        raise serial.SerialException(errno.ENOENT, f"could not open port {gone}: No such file or directory")

    monkeypatch.setattr(serial, "serial_for_url", open_it)
    assert refusal(str(gone)) == f"{gone} cannot be opened: it is not there any more; see to its cable."


def test_a_port_of_somebody_else(terminal: tuple[int, str]) -> None:
    _, name = terminal
    Path(name).chmod(0)
    words = [LIMPET, "devices", "--port", name]
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root may open everything, and there is no setpriv to take that away")
        words = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", *words]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=DEADLINE, env=environment(), check=False
    )
    assert done.returncode == 3
    start = (
        f"{name}\n    {name} cannot be opened: you may not; sudo chown $USER {name}; for good, echo 'KERNEL"
    )
    assert done.stdout.startswith(start)


def test_the_group_that_a_device_wants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = {20: "dialout"}
    monkeypatch.setattr(
        opening, "grp", SimpleNamespace(getgrgid=lambda number: SimpleNamespace(gr_name=named[number]))
    )

    class Device(type(tmp_path)):  # type: ignore[misc]
        group, mode = 20, stat.S_IFCHR | 0o660

        def stat(self, **_: bool) -> Any:
            return SimpleNamespace(st_gid=self.group, st_mode=self.mode)

    port = Device("/dev/ttyUSB0")
    assert allow(port) == "sudo usermod -aG dialout $USER, then log in again"
    error = PermissionError(errno.EACCES, "Permission denied")
    assert why("/nonexistent", error) == "you may not; sudo chown $USER /nonexistent"
    Device.mode = stat.S_IFCHR | 0o600
    assert allow(port) == (
        "sudo chown $USER /dev/ttyUSB0; for good, "
        """echo 'KERNEL=="ttyUSB[0-9]*|ttyACM[0-9]*", GROUP="dialout", MODE="0660"' """
        "| sudo tee /etc/udev/rules.d/70-serial.rules, and plug it in again"
    )
    Device.mode, Device.group = stat.S_IFCHR | 0o660, 4711
    assert allow(port) == "sudo chown $USER /dev/ttyUSB0"
