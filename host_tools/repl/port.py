"""The serial port under a raw REPL: every wait ends, a port that went away is opened again."""

import contextlib
import errno
import threading
import time
from pathlib import Path
from typing import Any

import serial

from host_tools.devices.opening import BAUDRATE, why
from host_tools.errors import NoDeviceError
from host_tools.repl.rfc2217 import Rfc2217Port

_GLANCE_S = 0.05  # how long one look at the port may take
_RESET_S = 0.1  # a reset button is pressed for so long
_COMES_BACK_S = 8.0  # a device that enumerates anew takes one or two
_LOOK_AGAIN_S = 0.1
_WRITE_S = 10.0
_PATIENCE_S = 1.0
"""A port that was just closed may be held still by a process that is about to become another one, and of one
that was just plugged in udev has yet to set the group."""
_PASSING = (errno.EAGAIN, errno.EBUSY, errno.EACCES)


class Stopped(Exception):
    """The user has ended the command."""


class Port:
    """A port whose every wait ends with TimeoutError: when nothing came for `idle` seconds, or at `deadline`.

    It has what mpremote's transport wants of pyserial's. Raises NoDeviceError when it does not open, and
    OSError when it has gone; `stop` ends every wait with Stopped.
    """

    def __init__(self, name: str, stop: threading.Event) -> None:
        self.name = name
        self.stop: threading.Event | None = stop
        self.deadline = 0.0
        """When waiting ends, by time.monotonic()."""
        self.idle = 0.0
        """Seconds without a byte after which waiting ends."""
        self._port = _open(name)
        self._unread = bytearray()
        self._heard = time.monotonic()

    def wait_at_most(self, idle: float, seconds: float) -> None:
        """From now on."""
        self.idle = idle
        self._heard = time.monotonic()
        self.deadline = self._heard + seconds

    def read(self, size: int = 1) -> bytes:
        """Exactly `size` bytes."""
        while len(self._unread) < size:
            self._look_at_the_clock()
            self._fill()
        data = bytes(self._unread[:size])
        del self._unread[:size]
        return data

    def read_some(self) -> bytes:
        """What has come, which may be nothing yet."""
        self._look_at_the_clock()
        if not self._unread:
            self._fill()
        data = bytes(self._unread)
        self._unread.clear()
        return data

    def unread(self, data: bytes) -> None:
        """Put back what was read too far."""
        self._unread[:0] = data

    def write(self, data: bytes) -> None:
        self._look_at_the_clock()
        self._port.write(data)
        self._heard = time.monotonic()

    def inWaiting(self) -> int:
        self._look_at_the_clock()
        return len(self._unread) + int(self._port.in_waiting)

    def reset_board(self) -> bool:
        """Pull the reset line by RTS, as on every board with the usual circuit; False on a port without."""
        if self.name.startswith("socket://"):
            return False
        try:
            self._port.dtr = False
            self._port.rts = True
            time.sleep(_RESET_S)
            self._port.rts = False
        except OSError:  # a pseudo-terminal
            return False
        return True

    def reopen(self) -> None:
        """Open it again, as soon as it is there. Raises NoDeviceError when it stays away."""
        self.close()
        self._unread.clear()
        end = time.monotonic() + _COMES_BACK_S
        while True:
            try:
                self._port = _open(self.name)
                return
            except NoDeviceError:
                if time.monotonic() > end:
                    raise
            self._check_stop()
            time.sleep(_LOOK_AGAIN_S)

    def close(self) -> None:
        # Both lines are off since it was opened, so that closing it resets nothing.
        with contextlib.suppress(OSError):
            self._port.close()

    def _fill(self) -> None:
        waiting = int(self._port.in_waiting)
        data = self._port.read(max(1, waiting))
        if data:
            self._unread += data
            self._heard = time.monotonic()

    def _look_at_the_clock(self) -> None:
        self._check_stop()
        now = time.monotonic()
        if now > self.deadline or now > self._heard + self.idle:
            raise TimeoutError("no answer in time")

    def _check_stop(self) -> None:
        if self.stop and self.stop.is_set():
            raise Stopped


def _open(name: str) -> Any:
    if not name or not ("://" in name or Path(name).exists()):
        raise NoDeviceError(f"The serial port '{name}' does not exist: plug the board in, or name its port.")
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return _opened(name)
        except (OSError, ValueError, NotImplementedError) as error:
            # A server refuses while it has yet to notice that its last client has gone.
            passing = getattr(error, "errno", None) in _PASSING or "refused" in str(error)
            if not passing or time.monotonic() > end:
                raise NoDeviceError(f"The serial port {name} cannot be opened: {why(name, error)}.") from None
        time.sleep(_LOOK_AGAIN_S)


def _opened(name: str) -> Any:
    port: Any
    if name.startswith("rfc2217://"):
        port = Rfc2217Port(None, BAUDRATE, timeout=_GLANCE_S)
        port.port = name
    else:
        port = serial.serial_for_url(
            name, BAUDRATE, timeout=_GLANCE_S, write_timeout=_WRITE_S, exclusive=True, do_not_open=True
        )
    # In the order that resets nothing: see host_tools.devices.opening.
    port.dtr, port.rts = True, False
    port.open()
    with contextlib.suppress(OSError):  # a pseudo-terminal has neither line
        port.dtr = False
    return port
