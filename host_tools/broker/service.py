"""Mosquitto as a service: what it says is heard line by line, and it reads its files again on demand."""

import datetime
import queue
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable

from host_tools.broker.process import StartError, end, guarded, last_line
from host_tools.errors import LimpetError

READY = re.compile(r"mosquitto version \S+ running")
_RELOADING = re.compile(r"Reloading config\.")
_SPOILT = re.compile(r"Error when reloading certificate")
# From the beginning of a line to its end: a client cannot write there. First its id, then its user name.
_CONNECTED = re.compile(r"\d+: New client connected from .* as (\S+) \(p\d+, c(\d), k\d+, u'(\S+)'\)\.")
_GONE = re.compile(
    r"\d+: (?:Client (\S+) (?:disconnected|closed its connection|has exceeded timeout).*|"
    r"Socket error on client (\S+), disconnecting\.)"
)

_START_DEADLINE = 60.0  # a store with much in it takes a while
_RELOAD_DEADLINE = 30.0

_Line = tuple[datetime.datetime, str]


class ReloadError(LimpetError):
    """Mosquitto did not read its files again."""


class Service:
    """A running Mosquitto. `say` gets each of its lines; `connected` has since when clients are connected."""

    def __init__(self, executable: str, configuration: str, say: Callable[[str], None]) -> None:
        self.connected: dict[str, datetime.datetime] = {}
        self.away: set[str] = set()
        """Clients that were here, have gone, and have a session in which messages wait for them."""
        self.spoilt = False
        """It could not load its certificates or the CRL, and goes on with what is left of them."""
        self._keeps: set[str] = set()
        self._say = say
        self._lines: queue.SimpleQueue[_Line | None] = queue.SimpleQueue()
        self._last = ""
        self._ended = False
        self._process = guarded([executable, "-c", configuration], subprocess.PIPE)
        threading.Thread(target=self._listen, daemon=True).start()

    def wait_ready(self) -> None:
        """Wait until it listens.

        Raises StartError if it ends before, LimpetError if it takes too long; it is ended then.
        """
        if self._hear(READY, _START_DEADLINE):
            return
        ended = self._ended
        self.stop()
        if ended:
            raise StartError("Mosquitto", last_line(self._last))
        raise LimpetError(
            f"Mosquitto was not ready after {_START_DEADLINE:.0f} seconds: {last_line(self._last)}."
        )

    @property
    def alive(self) -> bool:
        """Whether it still runs under its guard, as far as was heard."""
        return not self._ended and self._process.poll() is None

    def attend(self, seconds: float) -> None:
        """Listen to it for so long, or until it ends."""
        self._hear(None, seconds)

    def reload(self) -> None:
        """Make it read certificates, CRL and ACL again, and return when it has begun to: what connects from
        now on is judged by them, for it does one thing at a time.

        Raises ReloadError if it does not.
        """
        self._process.send_signal(signal.SIGUSR1)  # the guard makes it a SIGHUP
        if not self._hear(_RELOADING, _RELOAD_DEADLINE):
            raise ReloadError("Mosquitto does not read its files again.")

    def stop(self) -> None:
        """End it; doing it again does nothing."""
        end(self._process)
        deadline = time.monotonic() + _RELOAD_DEADLINE
        while not self._ended and time.monotonic() < deadline:
            self._hear(None, deadline - time.monotonic())

    def _hear(self, pattern: re.Pattern[str] | None, seconds: float) -> bool:
        """Take its lines until one has `pattern`; False if there was none in so many seconds, or it ended."""
        deadline = time.monotonic() + seconds
        while not self._ended:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return False
            if line is None:
                self._ended = True
                break
            if self._take(*line, pattern):
                return True
        return False

    def _take(self, at: datetime.datetime, text: str, pattern: re.Pattern[str] | None) -> bool:
        self._say(text)
        self._last = text or self._last
        if (match := _CONNECTED.fullmatch(text)) and match[1] == match[3]:
            self.connected[match[1]] = at
            self.away.discard(match[1])
            self._keeps = self._keeps | {match[1]} if match[2] == "0" else self._keeps - {match[1]}
        elif (match := _GONE.fullmatch(text)) and (match[1] or match[2]) in self._keeps:
            self.away.add(match[1] or match[2])
        if _SPOILT.search(text):
            self.spoilt = True
        return pattern is not None and pattern.search(text) is not None

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put((datetime.datetime.now(datetime.UTC), line.decode(errors="replace").rstrip()))
        self._lines.put(None)
