"""A broker as a child process: started, waited for, and ended for sure."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from host_tools.broker import guard
from host_tools.errors import LimpetError

_POLL = 0.02
_START_DEADLINE = 20.0
_STOP_DEADLINE = 10.0


class StartError(LimpetError):
    """The broker ended before it was ready; `last_line` is the last thing that it said."""

    def __init__(self, title: str, last_line: str) -> None:
        super().__init__(f"{title} did not start: {last_line or 'it said nothing'}.")
        self.last_line = last_line


class PortBusyError(LimpetError):
    """Another process listens where the broker should."""

    def __init__(self, address: str, port: int) -> None:
        super().__init__(
            f"Port {port} of {address} is busy: stop what listens there, or choose another port."
        )


class BrokerProcess:
    """A broker that runs under `guard`, with its output in a log file that only we may read."""

    def __init__(self, title: str, command: Sequence[str], log: Path) -> None:
        self._title = title
        self.log = log
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            self._process = guarded(command, descriptor)
        finally:
            os.close(descriptor)

    def wait_ready(self, ready: re.Pattern[str]) -> re.Match[str]:
        """Wait until a line of the log matches `ready`, and return the match.

        Raises StartError if the broker ends before, LimpetError if it takes too long; it is ended then.
        """
        deadline = time.monotonic() + _START_DEADLINE
        while True:
            ended = not self.alive
            text = self.log.read_text(errors="replace")
            if match := ready.search(text):
                return match
            if ended or time.monotonic() > deadline:
                self.stop()
                if ended:
                    raise StartError(self._title, last_line(text))
                raise LimpetError(
                    f"{self._title} was not ready after {_START_DEADLINE:.0f} seconds: "
                    f"{last_line(text) or 'it said nothing'}."
                )
            time.sleep(_POLL)

    @property
    def alive(self) -> bool:
        """Whether the broker still runs."""
        return self._process.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal to the broker and its guard, such as SIGSTOP."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def stop(self) -> None:
        """End the broker and whatever it started; doing it again does nothing."""
        end(self._process)


def guarded(command: Sequence[str], output: int) -> "subprocess.Popen[bytes]":
    """Start a program under `guard`; what it says goes to `output`, a descriptor or subprocess.PIPE."""
    # A session of its own: Ctrl-C at the terminal reaches us alone, and we end the broker in order.
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(guard.__file__).resolve()), *command],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def end(process: "subprocess.Popen[bytes]") -> None:
    """End what `guarded` started; doing it again does nothing."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    try:
        process.wait(_STOP_DEADLINE)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode < 0:  # the guard was killed, and has left the program in its process group
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGTERM)


def last_line(text: str) -> str:
    """The last line of a log that says something, without the time stamp that Mosquitto puts before it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and "Error found at " in lines[-1]:
        lines.pop()  # the place in a configuration; what is wrong there stands before it
    return re.sub(r"^\d+: ", "", lines[-1]).rstrip(".") if lines else ""
