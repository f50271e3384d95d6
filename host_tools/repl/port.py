"""The serial port under a raw REPL: every wait ends, a port that went away is opened again."""

import contextlib
import threading
import time

from host_tools.errors import NoDeviceError
from host_tools.line import open_line

_GLANCE_S = 0.05  # how long one look at the port may take
_RESET_S = 0.1  # a reset button is pressed for so long
_COMES_BACK_S = 8.0  # a device that enumerates anew takes one or two
_LOOK_AGAIN_S = 0.1
_WRITE_S = 10.0


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
        self._port = open_line(name, _GLANCE_S, _WRITE_S)
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
                self._port = open_line(self.name, _GLANCE_S, _WRITE_S)
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
