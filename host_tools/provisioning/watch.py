"""Whatever is plugged in next is provisioned, until the user has enough."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from host_tools.devices.port import Port
from host_tools.devices.watch import listens
from host_tools.errors import LimpetError
from host_tools.flashing.crew import Crew, crew
from host_tools.provisioning.outcome import Outcome
from host_tools.provisioning.run import Line

_LOOK_S = 0.3
_KNOCK_S = 1.0
_ESPRESSIF = 0x303A
_AWAY_S = 2.5
"""A chip's own USB port goes and comes back when the chip restarts, which is no new board."""
_LAST_S = 10.0


class Watch:
    """Ports that are watched, and the boards on them. `run` tells `ended` each board's outcome."""

    def __init__(
        self, line: Line, list_ports: Callable[[], Sequence[Port]], ended: Callable[[Outcome], None]
    ) -> None:
        self._line = line
        self._list_ports = list_ports
        self._ended = ended
        self._lock = threading.Lock()
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._taken: dict[str, Port] = {}
        """Ports whose board was seen, until it is unplugged."""
        self._busy: dict[str, threading.Thread] = {}
        self._crews: set[Crew] = set()
        self._servers: dict[str, bool] = {}
        """Ports of other machines: whether somebody listens there."""

    def run(self) -> None:
        """Look for boards until an exception ends it, as Ctrl-C does; those at work are let go then."""
        try:
            while True:
                self._look()
                self._tell(_LOOK_S)
        finally:
            self._line.stop.set()
            with self._lock:
                workers = [worker for each in self._crews for worker in each.workers]
            for worker in workers:
                worker.kill()
            end = time.monotonic() + _LAST_S
            for thread in list(self._busy.values()):
                thread.join(max(0.0, end - time.monotonic()))
            self._tell(0.0)

    def _tell(self, seconds: float) -> None:
        """Hand on the outcomes that are there, and those that come within so many seconds."""
        end = time.monotonic() + seconds
        with contextlib.suppress(queue.Empty):
            while True:
                self._ended(self._outcomes.get(timeout=max(0.001, end - time.monotonic())))

    def _look(self) -> None:
        there = {port.name: port for port in self._there()}
        with self._lock:
            for name in [each for each in self._taken if there.get(each) != self._taken[each]]:
                if name not in self._busy:
                    del self._taken[name]
            new = [port for name, port in there.items() if name not in self._taken]
            for port in new:
                self._taken[port.name] = port
                thread = threading.Thread(target=self._provision, args=(port,), daemon=True)
                self._busy[port.name] = thread
                thread.start()

    def _there(self) -> Iterator[Port]:
        for port in self._list_ports():
            if port.is_url:
                if port.name not in self._servers:
                    self._servers[port.name] = False
                    threading.Thread(target=self._knock, args=(port.name,), daemon=True).start()
                if self._servers[port.name] or port.name in self._busy:
                    yield port
            elif port.may_be_a_board and Path(port.name).exists():
                yield port

    def _knock(self, name: str) -> None:
        """A server that serves us serves nobody else, and looks as if it were gone."""
        while not self._line.stop.is_set():
            if name not in self._busy:
                found = listens(name)
                if name not in self._busy:
                    self._servers[name] = found
            self._line.stop.wait(_KNOCK_S)

    def _provision(self, port: Port) -> None:
        try:
            with contextlib.ExitStack() as stack:
                made = stack.enter_context(crew([port.name]))
                with self._lock:
                    self._crews.add(made)
                try:
                    outcome = self._line.provision(made)
                finally:
                    with self._lock:
                        self._crews.discard(made)
        except LimpetError as error:
            outcome = Outcome(port.name, port.location or port.name)
            outcome.fail(error)
        self._outcomes.put(outcome)
        if port.is_url or port.vid == _ESPRESSIF:
            self._line.stop.wait(_AWAY_S)
        with self._lock:
            del self._busy[port.name]
