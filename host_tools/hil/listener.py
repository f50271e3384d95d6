"""Hears what a board says, from its serial port's first moment on, whatever happens to the port."""

import contextlib
import errno
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from host_tools.devices.port import Port, ports
from host_tools.errors import NoDeviceError
from host_tools.hil.errors import HilError
from host_tools.hil.timeline import Timeline
from host_tools.line import open_line
from host_tools.monitor.lines import Lines
from host_tools.monitor.link import find_again

_GLANCE_S = 0.02
_LOOK_AGAIN_S = 0.05
_LONG_AGO_S = 3.0
_LOOK_SELDOM_S = 0.5
"""How often a port that has been away for longer than that is tried."""
_HAND_OVER_S = 15.0
"""Many times what a port takes to open, which is what must end before it can be closed."""
_COMES_S = 30.0
_RESET_S = 0.1  # a reset button is pressed for so long
_MOST = 8 * 1024 * 1024
"""Bytes that are kept; then the oldest half goes."""
_SETTLE_S = 0.05
_PROMPT_S = 5.0  # for a node that flushes its spool first
_TRIES = 3
_QUOTED = 40
"""Lines."""


class Listener:
    """The log of a board, from the thread that reads its port. It never resets the board by that.

    A mark is a place in the log. What is said while somebody else has the port (`paused`) is not heard.
    """

    def __init__(self, port: Port, timeline: Timeline, list_ports: Callable[[], list[Port]] = ports) -> None:
        self._port = port
        self._timeline = timeline
        self._list_ports = list_ports
        self.current = port.name
        """The name that the port has now: one of USB may have another after it was away."""
        self.since = 0
        """The mark of the last start that was ordered: a reset, a power-on, an installation."""
        self._heard = bytearray()
        self._forgotten = 0
        self._changed = threading.Condition()
        self._pauses = 0
        self._stopped = False
        self._busy = False
        self._line: Any = None
        self._trouble = "nobody has opened it yet"
        self._thread = threading.Thread(target=self._run, name=f"listener {port.name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and close the port."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(_HAND_OVER_S)

    # What was heard

    @property
    def text(self) -> str:
        """Everything that is kept of what the board has said; lines end with a newline alone."""
        return self.after(0)

    def after(self, mark: int) -> str:
        """What it has said since a mark."""
        with self._changed:
            return bytes(self._heard[max(0, mark - self._forgotten) :]).decode(errors="replace")

    def mark(self) -> int:
        """The end of the log at this moment."""
        with self._changed:
            return self._forgotten + len(self._heard)

    def settle(self) -> None:
        """Wait until nothing more is on its way, of a board that has fallen silent."""
        with self._changed:
            while self._changed.wait(_SETTLE_S):
                pass

    def begin(self) -> None:
        """What is said from now on belongs to a new start."""
        self.since = self.mark()

    def find(
        self, wanted: str | re.Pattern[str], seconds: float, since: int | None = None
    ) -> re.Match[str] | None:
        """Wait until the board has said that, after a mark or else after its last start; None: it has not.

        A text counts as soon as it is there, a pattern only within lines that are whole: it could match less
        than the board is about to say.
        """
        mark = self.since if since is None else since
        pattern = wanted if isinstance(wanted, re.Pattern) else re.compile(re.escape(wanted))
        end = time.monotonic() + seconds
        seen = -1
        while True:
            with self._changed:
                while self._forgotten + len(self._heard) == seen:
                    if not self._changed.wait(max(0.0, end - time.monotonic())):
                        return None
                seen = self._forgotten + len(self._heard)
            said = self.after(mark)
            found = pattern.search(said if isinstance(wanted, str) else said[: said.rfind("\n") + 1])
            if found or time.monotonic() >= end:
                return found

    def wait_for(
        self, wanted: str | re.Pattern[str], since: int | None = None, seconds: float = 30.0
    ) -> re.Match[str]:
        """The same, but AssertionError, with the board's last words, when it does not say that in time."""
        found = self.find(wanted, seconds, since)
        if found:
            return found
        what = wanted.pattern if isinstance(wanted, re.Pattern) else wanted
        lines = self.after(self.since if since is None else since).splitlines()
        said = "\n".join(lines[-_QUOTED:]) if lines else self._silence()
        raise AssertionError(f"not within {seconds:g} s: {what!r}; the board said:\n{said}")

    def _silence(self) -> str:
        with self._changed:
            return "(nothing)" if self._line else f"(nothing; its port is not open: {self._trouble})"

    # The port

    @contextlib.contextmanager
    def paused(self) -> Iterator[str]:
        """While the `with` block runs somebody else has the port, whose name it gets."""
        with self._changed:
            self._pauses += 1
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: not self._busy, _HAND_OVER_S):
                self._pauses -= 1
                raise HilError(f"{self.current}: the port does not close; see to its driver, or its server.")
        try:
            yield self.current
        finally:
            with self._changed:
                self._pauses -= 1
                self._changed.notify_all()

    @property
    def is_open(self) -> bool:
        """Whether the port is there, and ours."""
        return self._line is not None

    @property
    def is_paused(self) -> bool:
        """Whether it is somebody else's."""
        return self._pauses > 0

    def wait_until_open(self, seconds: float = _COMES_S) -> None:
        """Until the port is there and open. Raises HilError when it stays away."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._line is not None, seconds):
                raise HilError(f"{self.current} has not come back within {seconds:g} s: {self._trouble}")

    def write(self, data: bytes) -> None:
        """Send to the board. Raises HilError when the port is away."""
        try:
            self._with_line(lambda line: line.write(data))
        except OSError as error:
            raise HilError(f"{self.current} takes no bytes ({error}); see to its cable.") from None

    def prompt(self) -> None:
        """Stop what the board runs, and get MicroPython's prompt. Raises HilError when that does not come."""
        mark = self.mark()
        for _ in range(_TRIES):
            self.write(b"\r\x03\x02")  # Ctrl-C, and out of the raw REPL
            if self.find(">>> ", _PROMPT_S, mark):
                return
        raise HilError(f"{self.current}: no prompt of MicroPython comes; see what the board says.")

    def press_reset(self) -> bool:
        """Pull the reset line by RTS, as on every board with the usual circuit; False where there is no line.

        Raises HilError when the port is away.
        """
        if self.current.startswith("socket://"):
            return False

        def press(line: Any) -> None:
            line.dtr = False
            line.rts = True
            time.sleep(_RESET_S)
            self.begin()
            line.rts = False

        try:
            self._with_line(press)
        except OSError as error:
            if error.errno != errno.ENOTTY and error.errno != errno.EINVAL:
                raise HilError(f"{self.current} does not take it ({error}); see to its cable.") from None
            return False  # a pseudo-terminal
        return True

    def _with_line(self, use: Callable[[Any], None]) -> None:
        self.wait_until_open()
        with self._changed:
            line = self._line
        if line is None:
            raise HilError(f"{self.current} has gone: {self._trouble}")
        use(line)

    # The thread

    def _run(self) -> None:
        gone = time.monotonic()
        while self._may_open():
            try:
                self.current = find_again(self._port, self._list_ports)
                line = open_line(self.current, _GLANCE_S)
            except NoDeviceError as error:
                self._leave(str(error))
                self._rest(_LOOK_AGAIN_S if time.monotonic() - gone < _LONG_AGO_S else _LOOK_SELDOM_S)
                continue
            with self._changed:
                self._line = line
                self._changed.notify_all()
            trouble = "another program has it"
            try:
                self._listen(line)
            except OSError:
                trouble = "it went away; see to its cable"
                self._timeline.add("node", "the port has gone")
            with contextlib.suppress(OSError):
                line.close()
            gone = time.monotonic()
            self._leave(trouble)

    def _may_open(self) -> bool:
        """Wait until nobody else has the port; False when it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or not self._pauses)
            self._busy = not self._stopped
            return self._busy

    def _leave(self, trouble: str) -> None:
        with self._changed:
            self._line, self._busy, self._trouble = None, False, trouble
            self._changed.notify_all()

    def _rest(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or bool(self._pauses), seconds)

    def _listen(self, line: Any) -> None:
        lines = Lines()
        try:
            while not (self._stopped or self._pauses):
                data = line.read(max(1, line.in_waiting))
                now = time.monotonic()
                if data:
                    self._keep(data)
                for each in lines.feed(data, now) + lines.late(now):
                    self._tell(each)
        finally:
            for each in lines.end():
                self._tell(each)

    def _keep(self, data: bytes) -> None:
        with self._changed:
            self._heard += data.replace(b"\r", b"")
            if len(self._heard) > _MOST:
                del self._heard[: _MOST // 2]
                self._forgotten += _MOST // 2
            self._changed.notify_all()

    def _tell(self, line: bytes) -> None:
        self._timeline.add("serial", line.decode(errors="replace"))
