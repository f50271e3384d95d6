"""The process that is the chip: MicroPython on a terminal of its own, killed and started as resets demand."""

import asyncio
import contextlib
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


class Console:
    """The terminal between the supervisor and MicroPython; it outlives the process."""

    def __init__(self, on_output: Callable[[bytes], None]) -> None:
        self._on_output = on_output
        self._loop = asyncio.get_running_loop()
        self._master, self.slave = pty.openpty()
        tty.setraw(self.slave)
        # Ctrl-C becomes a signal and takes nothing with it that was typed before; \n is sent as \r\n.
        mode = termios.tcgetattr(self.slave)
        mode[1] |= termios.OPOST | termios.ONLCR
        mode[3] |= termios.ISIG | termios.NOFLSH
        nothing = os.fpathconf(self.slave, "PC_VDISABLE").to_bytes(1, "little")
        for character in (termios.VQUIT, termios.VSUSP):
            mode[6][character] = nothing
        mode[6][termios.VINTR] = b"\x03"
        termios.tcsetattr(self.slave, termios.TCSANOW, mode)
        os.set_blocking(self._master, False)
        self._typed = bytearray()
        self._loop.add_reader(self._master, self._read)

    def type(self, data: bytes) -> None:
        """Bytes from the serial port, on their way to MicroPython."""
        self._typed += data
        self._flush()

    def discard(self) -> None:
        """Forget what was not read, as a reset of the chip does."""
        self._typed.clear()
        self._loop.remove_writer(self._master)
        termios.tcflush(self.slave, termios.TCIFLUSH)

    def drain(self) -> None:
        """Pass on everything that MicroPython has printed so far."""
        while self._read():
            pass

    def close(self) -> None:
        self._loop.remove_reader(self._master)
        self._loop.remove_writer(self._master)
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
        with contextlib.suppress(BlockingIOError):
            del self._typed[: os.write(self._master, self._typed)]
        if self._typed:
            self._loop.add_writer(self._master, self._flush)
        else:
            self._loop.remove_writer(self._master)


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


def _words(heap: int, fd: int) -> Sequence[str]:
    boot = str(paths.VIRTUAL_BOARD / "_boot.py")
    program = [*micropython.command(), "-X", f"heapsize={heap}", boot, str(fd)]
    return [sys.executable, "-I", "-S", str(_LAUNCH), *program]
