"""Boards side by side: a thread each, and one that fails does not stop the others."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field

from host_tools.ca import CertificateAuthority
from host_tools.ca.operator import operator
from host_tools.devices.port import describe, ports
from host_tools.flashing.crew import Crew, crew
from host_tools.fleet import Fleet
from host_tools.provisioning.board import Moment, Provisioning, Show
from host_tools.provisioning.desk import Desk
from host_tools.provisioning.order import Order
from host_tools.provisioning.outcome import Outcome
from host_tools.provisioning.proof import Witness
from host_tools.telemetry.subscriber import TlsFiles

_YOUNG_S = 2700.0
"""An operator's credential lasts an hour."""


def quietly(port: str, moment: str) -> None:
    """A moment of which nothing is made."""


@dataclass(frozen=True)
class Line:
    """A provisioning line: all that boards have in common."""

    order: Order
    desk: Desk
    witness: Witness
    show: Show
    moment: Moment = quietly
    stop: threading.Event = field(default_factory=threading.Event)

    def provision(self, crew: Crew) -> Outcome:
        """Provision the board on the one port of this crew; what goes wrong stands in the outcome."""
        [worker] = crew.workers
        location = location_of(worker.port)
        return Provisioning(
            crew, location, self.order, self.desk, self.witness, self.show, self.stop, self.moment
        ).run()


@contextlib.contextmanager
def line(
    order: Order, ca: CertificateAuthority, fleet: Fleet, show: Show, moment: Moment = quietly
) -> Iterator[Line]:
    """A line for this order. Raises LimpetError."""
    with contextlib.ExitStack() as stack:
        credential = _Credential(lambda: stack.enter_context(operator(ca)))
        witness = stack.enter_context(Witness(order.places, order.prefix, credential))
        yield Line(order, Desk(order, ca, fleet), witness, show, moment)


class _Credential:
    """An operator's credential, made anew when it grows old. Threads share it."""

    def __init__(self, make: Callable[[], TlsFiles]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: TlsFiles | None = None
        self._until = 0.0

    def __call__(self) -> TlsFiles:
        with self._lock:
            if self._made is None or time.monotonic() > self._until:
                self._made = self._make()
                self._until = time.monotonic() + _YOUNG_S
            return self._made


@contextlib.contextmanager
def crews(names: Sequence[str]) -> Iterator[list[Crew]]:
    """A crew for the board on each port, all of which load at once."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(crew([name])) for name in names]


def provision(line: Line, crews: Sequence[Crew]) -> list[Outcome]:
    """Provision the boards of these crews side by side, and tell how it ended, in the same order."""
    with ThreadPoolExecutor(len(crews)) as threads:
        work = [threads.submit(line.provision, each) for each in crews]
        try:
            wait_for(work)
        except BaseException:  # a signal above all: boards are let go, and are finished another time
            line.stop.set()
            for each in crews:
                for worker in each.workers:
                    worker.kill()
            raise
    return [each.result() for each in work]


def location_of(name: str) -> str:
    """Where the board on a port is plugged in: the USB location; else the port's name."""
    return describe(name, ports()).location or name
