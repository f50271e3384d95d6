"""The process that is the chip: MicroPython on a terminal of its own, killed and started as resets demand."""

import array
import asyncio
import contextlib
import fcntl
import math
import os
import pty
import signal
import socket
import subprocess
import sys
import termios
import tty
from collections.abc import Callable, Sequence
from pathlib import Path

from host_tools import micropython, paths

_LAUNCH = Path(__file__).with_name("launch.py")

_CTRL_C = b"\x03"
_CHUNK = 1024
"""Bytes that are written at once, and that may lie unread while code runs; a terminal holds 4096."""
_MOST_TYPED = 65536
_LOOK_AGAIN = 0.001
"""Seconds between two looks whether a process waits."""
_BUSY = 0.3
"""Seconds of computing without a pause after which code counts as busy for ever."""
_STARVED = 10.0
"""Seconds that code may take for this on a machine that has no time for it."""
_RUINED = 2.0
"""Seconds after a Ctrl-C in which the end of MicroPython is taken for its effect."""
_AFTER = 0.02
"""Seconds from a Ctrl-C to whatever was typed after it: two at once would be one to the process."""


class Console:
    """The terminal between the supervisor and MicroPython; it outlives the process.

    A Ctrl-C for running code becomes a SIGINT, any other one a byte. Which it is says a flag of the terminal
    that MicroPython sets while it runs code (`interruptible` in boards/virtual/_host.py). The unix port
    raises KeyboardInterrupt inside the signal handler, which ruins the heap if it hits an allocation:
    therefore the signal is sent when the process waits for something. `on_busy` is called when it never does.
    """

    def __init__(self, on_output: Callable[[bytes], None], on_busy: Callable[[], None]) -> None:
        self._on_output = on_output
        self._on_busy = on_busy
        self._loop = asyncio.get_running_loop()
        self._master, self.slave = pty.openpty()
        tty.setraw(self.slave)
        mode = termios.tcgetattr(self.slave)
        mode[1] |= termios.OPOST | termios.ONLCR  # \n is sent as \r\n
        nothing = os.fpathconf(self.slave, "PC_VDISABLE").to_bytes(1, "little")
        for character in (termios.VINTR, termios.VQUIT, termios.VSUSP):
            mode[6][character] = nothing
        self._mode = mode
        os.set_blocking(self._master, False)
        self._typed = bytearray()
        self._process: int | None = None  # that listens
        self._interrupt: asyncio.TimerHandle | None = None
        self._interrupted = -math.inf
        self.deafen()
        self.hear(True)

    def hear(self, on: bool) -> None:
        """Whether to take what MicroPython prints; it waits when nobody does."""
        if on:
            self._loop.add_reader(self._master, self._read)
        else:
            self._loop.remove_reader(self._master)

    def type(self, data: bytes) -> None:
        """Bytes from the serial port, on their way to MicroPython."""
        self._typed += data
        del self._typed[_MOST_TYPED:]
        self._flush()

    def listen(self, process: int) -> None:
        """MicroPython has started as this process: what was typed until now is for it."""
        self._process = process
        self._flush()

    def just_interrupted(self) -> bool:
        """Whether MicroPython may have died of a Ctrl-C."""
        return self._loop.time() - self._interrupted < _RUINED

    def discard(self) -> None:
        """Forget what was not read, as a reset of the chip does."""
        self.deafen()
        self._typed.clear()
        self._loop.remove_writer(self._master)
        termios.tcflush(self.slave, termios.TCIFLUSH)

    def deafen(self) -> None:
        """There is no process; what is typed from now on is for the next one, and what this one did not read.

        That is taken back, because the next one may run code, to which a Ctrl-C in the terminal says nothing.
        """
        self._process = None
        unread = self._unread()
        if unread:
            self._typed[:0] = os.read(self.slave, unread)
        if self._interrupt:
            self._interrupt.cancel()
            self._interrupt = None
        termios.tcsetattr(self.slave, termios.TCSANOW, self._mode)

    def drain(self) -> None:
        """Pass on everything that MicroPython has printed so far."""
        while self._read():
            pass

    def close(self) -> None:
        self.discard()
        self._loop.remove_reader(self._master)
        os.close(self._master)
        os.close(self.slave)

    def _read(self) -> bool:
        try:
            data = os.read(self._master, 65536)
        except OSError:
            return False
        if data:
            self._on_output(data)
        return bool(data)

    def _flush(self) -> None:
        self._loop.remove_writer(self._master)
        while self._typed and self._process and not self._interrupt:
            code_runs = self._code_runs()
            end = self._typed.find(_CTRL_C) if code_runs else -1
            if end == 0:
                self._try_to_interrupt(self._process, self._loop.time(), _cpu_seconds(self._process))
                return
            part = self._typed[: end if end > 0 else _CHUNK]
            if code_runs and self._unread() > _CHUNK:
                taken = len(part)  # nobody reads: it is lost, as in the UART's buffer
            else:
                try:
                    taken = os.write(self._master, part)
                except BlockingIOError:
                    self._loop.add_writer(self._master, self._flush)
                    return
            del self._typed[:taken]

    def _try_to_interrupt(self, process: int, since: float, used: float | None) -> None:
        self._interrupt = None
        if not self._code_runs():  # it has just ended
            self._flush()
        elif _waits(process) and self._code_runs():  # it may have switched Ctrl-C off before it waited
            del self._typed[:1]
            self._interrupted = self._loop.time()
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGINT)
            self._interrupt = self._loop.call_later(_AFTER, self._go_on)
        elif self._is_busy(process, since, used):
            del self._typed[:1]
            self._on_busy()
        else:
            self._interrupt = self._loop.call_later(
                _LOOK_AGAIN, lambda: self._try_to_interrupt(process, since, used)
            )

    def _is_busy(self, process: int, since: float, used: float | None) -> bool:
        passed = self._loop.time() - since
        if passed < _BUSY:
            return False
        now = _cpu_seconds(process)
        return used is None or now is None or now - used >= _BUSY or passed >= _STARVED

    def _go_on(self) -> None:
        self._interrupt = None
        self._flush()

    def _code_runs(self) -> bool:
        return bool(termios.tcgetattr(self.slave)[3] & termios.ISIG)

    def _unread(self) -> int:
        count = array.array("i", [0])
        fcntl.ioctl(self.slave, termios.FIONREAD, count)
        return count[0]


class Process:
    """One run of MicroPython, from a reset to the next. `on_data` gets its requests, and b"" at its end."""

    def __init__(self, console: Console, heap: int, on_data: Callable[[bytes], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_data = on_data
        self._ours, theirs = socket.socketpair()
        with theirs:
            self._child = subprocess.Popen(
                _words(heap, theirs.fileno()),
                stdin=console.slave,
                stdout=console.slave,
                stderr=console.slave,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                cwd="/",
            )
        self._loop.add_reader(self._ours, self._read)

    @property
    def pid(self) -> int:
        return self._child.pid

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # it has just died
            self._ours.sendall(data)

    def kill(self) -> None:
        """End it at once, as a loss of power or a reset does."""
        self._loop.remove_reader(self._ours)
        self._child.send_signal(signal.SIGKILL)
        self._child.wait()
        self._ours.close()

    def _read(self) -> None:
        try:
            data = self._ours.recv(65536)
        except OSError:
            data = b""
        self._on_data(data)


def _waits(process: int) -> bool:
    """Whether a process waits for time, input or a reader (its state is an interruptible sleep)."""
    fields = _stat(process)
    if fields is None:  # a system without /proc
        words = ["ps", "-o", "state=", "-p", str(process)]
        fields = [subprocess.run(words, capture_output=True, text=True, check=False).stdout]
    return fields[0][:1] in ("S", "I")


def _cpu_seconds(process: int) -> float | None:
    """What a process has used of a CPU until now; None where nobody can tell."""
    fields = _stat(process)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else None


def _stat(process: int) -> list[str] | None:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None


def _words(heap: int, fd: int) -> Sequence[str]:
    boot = str(paths.VIRTUAL_BOARD / "_boot.py")
    program = [*micropython.command(), "-X", f"heapsize={heap}", boot, str(fd)]
    return [sys.executable, "-I", "-S", str(_LAUNCH), *program]
