"""A board's raw REPL, over any serial port that pyserial opens: mpremote's transport, with deadlines.

mpremote waits without end in places, as for the window of a raw paste or for a babbling port to fall silent.
Here every exchange has a deadline, whatever the other end does.
"""

import contextlib
import io
import re
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import serial
from mpremote.transport import TransportError
from mpremote.transport_serial import SerialTransport

from host_tools.errors import LimpetError

# For a soft reset and the user's boot.py; again, because a board that boots just now misses the first try.
_ENTRIES_S = (4.0, 10.0)
_FAREWELL_S = 5.0
_PATIENCE_S = 30.0  # for one exchange; the hashes of a whole firmware take an ESP32 two
_GLANCE_S = 0.1  # how long one look at the port may take
_BAUDRATE = 115200


class ReplError(LimpetError):
    """The board cannot be reached, or does not answer as MicroPython does."""


class BoardError(ReplError):
    """The board raised an exception; `last_line` is the last line of its traceback, `OSError: 28` perhaps."""

    def __init__(self, port: str, last_line: str) -> None:
        super().__init__(f"{port}: the board failed: {last_line}.")
        self.last_line = last_line

    @property
    def errno(self) -> int | None:
        """MicroPython's number of an OSError (the same as Linux's)."""
        match = re.match(r"OSError: (?:\[Errno )?(\d+)", self.last_line)
        return int(match[1]) if match else None


class Repl:
    """A board with its program stopped, in the raw REPL; it restarts at the end of the `with` block.

    Raises ReplError from all its methods.
    """

    def __init__(self, port: str) -> None:
        self._name = port
        self._port = _Port(_open(port))
        self._transport = _Transport(self._port)
        try:
            self._enter()
        except BaseException:
            self._port.close()
            raise

    def _enter(self) -> None:
        for patience in _ENTRIES_S:
            self._port.deadline = time.monotonic() + patience
            try:
                with contextlib.redirect_stdout(io.StringIO()):  # mpremote prints what it does not understand
                    self._transport.enter_raw_repl(soft_reset=True)
                return
            except TimeoutError:
                reason = "no prompt in time"
            except (TransportError, OSError) as error:
                reason = _last_line(str(error))
        raise ReplError(
            f"{self._name}: no MicroPython answers ({reason}); see that it is the board's port, and that "
            "the board runs MicroPython."
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with contextlib.suppress(TransportError, OSError), contextlib.redirect_stdout(io.StringIO()):
                self._port.deadline = time.monotonic() + _FAREWELL_S
                if error is not None:  # in the middle of something, perhaps
                    self._transport.enter_raw_repl(soft_reset=False)
                # Its answer is not waited for: the board is gone before it can give one.
                self._transport.exec_raw_no_follow("import machine\nmachine.reset()")
        finally:
            self._port.close()

    def run(self, code: str) -> str:
        """Run Python on the board and return what it prints. What it defines stays until the end."""
        self._port.deadline = time.monotonic() + _PATIENCE_S
        try:
            output, error = self._transport.exec_raw(code, timeout=None)
        except (TransportError, OSError) as failure:
            raise ReplError(
                f"{self._name}: the board stopped answering ({_reason(failure)}); see to its cable and "
                "power, and try again."
            ) from None
        if error:
            raise BoardError(self._name, _last_line(error.decode(errors="replace")))
        return str(output.decode(errors="replace"))


class _Port:
    """A serial port whose every wait ends at `deadline` (of time.monotonic()) with TimeoutError."""

    def __init__(self, port: serial.Serial) -> None:
        self._port = port
        self.deadline = 0.0

    def read(self, size: int = 1) -> bytes:
        data = b""
        while len(data) < size:
            self._look_at_the_clock()
            data += self._port.read(size - len(data))
        return data

    def write(self, data: bytes) -> None:
        self._look_at_the_clock()
        self._port.write(data)

    def inWaiting(self) -> int:
        self._look_at_the_clock()
        return int(self._port.in_waiting)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # it may be gone, and a pseudo-terminal has neither line
            # In this order the usual two transistors do not reset the chip.
            self._port.rts = False
            self._port.dtr = False
        with contextlib.suppress(OSError):
            self._port.close()

    def _look_at_the_clock(self) -> None:
        if time.monotonic() > self.deadline:
            raise TimeoutError("time is up")


class _Transport(SerialTransport):  # type: ignore[misc]
    """mpremote's transport on a port that is open already: its own way to open one hides why it fails."""

    def __init__(self, port: _Port) -> None:
        self.serial: Any = port
        self.in_raw_repl = False
        self.use_raw_paste = True
        self.mounted = False
        self.is_pty = True  # to mpremote: read, do not ask first whether there is something


def _open(port: str) -> serial.Serial:
    is_url = "://" in port
    if not port or not (is_url or Path(port).exists()):
        raise ReplError(f"The serial port '{port}' does not exist: plug the board in, or name its port.")
    # pyserial's RFC 2217 port has a limit of its own for writing, and refuses another.
    limit = None if port.startswith("rfc2217:") else _PATIENCE_S
    try:
        return serial.serial_for_url(port, _BAUDRATE, timeout=_GLANCE_S, write_timeout=limit, exclusive=True)
    except (OSError, ValueError, NotImplementedError) as error:
        raise ReplError(f"The serial port {port} cannot be opened: {_why(str(error))}.") from None


_REASONS = {
    "Permission denied": "you may not; join its group (sudo usermod -aG dialout $USER) and log in again",
    "Resource temporarily unavailable": "another program has it open; close that first",
    "Device or resource busy": "another program has it open; close that first",
    "Inappropriate ioctl for device": "it is no serial port; name the board's",
    "Is a directory": "it is a folder; name the board's port",
    "Connection refused": "nothing listens there; start the server, or name another address",
}


def _why(text: str) -> str:
    return next((why for seen, why in _REASONS.items() if seen in text), text.rstrip("."))


def _reason(error: Exception) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else _last_line(str(error))


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1].rstrip(".")
