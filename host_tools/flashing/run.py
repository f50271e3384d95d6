"""Flashing boards side by side. No board waits for another, or stops it."""

import selectors
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from host_tools import errors
from host_tools.flashing.crew import Crew, Worker
from host_tools.flashing.guards import Allowed, Found, refusal
from host_tools.flashing.job import REFUSED, Consent, Job
from host_tools.flashing.outcome import Outcome, exit_code
from host_tools.flashing.source import Image
from host_tools.fleet import Fleet

_LIMPET = r"\blimpet \d\S*"
_MICROPYTHON = r"\bMicroPython \S+(?= on \d{4}-)"


class Show(Protocol):
    """Where the user sees how far it is. All of it is about the board on `port`."""

    def step(self, port: str, name: str) -> None: ...

    def progress(self, port: str, done: int, total: int) -> None: ...

    def remark(self, port: str, text: str) -> None: ...

    def end(self, outcome: Outcome) -> None: ...


@dataclass(frozen=True)
class Order:
    """What shall be done to each of the boards."""

    image: Image
    allowed: Allowed
    bauds: tuple[int, ...]
    erase: bool = False
    dry_run: bool = False
    consent: Callable[[Found], Consent] = lambda found: Consent()
    """Asked last about a board that may be flashed; raises LimpetError when it may not. Twice, when a line
    fails and the board is connected anew."""


def flash(crew: Crew, order: Order, fleet: Fleet | None, show: Show) -> list[Outcome]:
    """Flash the boards on the ports of `crew`, and tell how it ended, in the same order.

    What goes wrong with one board stands in its outcome.
    """
    with open(crew.image, "wb", closefd=False) as file:
        file.write(order.image.flash)
    for worker in crew.workers:
        worker.send(_job(worker.port, order, crew.image).dump())
    desk = _Desk([worker.port for worker in crew.workers], order, fleet, show)
    _watch(crew.workers, desk)
    return list(desk.outcomes.values())


def _job(port: str, order: Order, image: int) -> Job:
    return Job(
        port=port,
        console_kind=order.allowed.board.console_kind,
        bauds=order.bauds,
        image=image,
        regions=order.image.spans,
        erase=order.erase,
        dry_run=order.dry_run,
        proof=_LIMPET if order.image.has_firmware else _MICROPYTHON,
    )


def told_as_json(outcomes: Sequence[Outcome], order: Order) -> dict[str, Any]:
    """The command's result for --json; `error` has all sentences, when there are any."""
    failures = [outcome.error for outcome in outcomes if outcome.error]
    return {
        **({"error": "\n".join(failures)} if failures else {}),
        "exit_code": exit_code(outcomes),
        "board": order.allowed.board.name,
        "image": order.image.sha256,
        "dry_run": order.dry_run,
        "boards": [outcome.values() for outcome in outcomes],
    }


class _Desk:
    """Takes the reports of all workers, decides whether a board may be flashed, and keeps the outcomes."""

    def __init__(self, ports: Sequence[str], order: Order, fleet: Fleet | None, show: Show) -> None:
        self.outcomes = {port: Outcome(port) for port in ports}
        self._order = order
        self._fleet = fleet
        self._show = show

    def take(self, worker: Worker, report: dict[str, Any]) -> bool:
        """Act on a report; whether it was the last one."""
        port, outcome = worker.port, self.outcomes[worker.port]
        match report:
            case {"report": "step", "name": name}:
                self._show.step(port, name)
            case {"report": "progress", "done": done, "total": total}:
                self._show.progress(port, done, total)
            case {"report": "remark", "text": text}:
                self._show.remark(port, text)
            case {"report": "plan", "write": write, "same": same}:
                outcome.plan(write, same)
            case {"report": "proof", "text": text}:
                outcome.proof = text
            case {"report": "found", **facts}:
                consent = self._may(outcome, Found(**facts))
                worker.send(consent.dump() if consent else REFUSED)
            case {"report": "failed", "text": text, "exit_code": code}:
                self.end(port, text, code)
                return True
            case {"report": "done"}:
                self._record(outcome)
                self.end(port)
                return True
        return False

    def end(self, port: str, error: str | None = None, exit_code: int = errors.FAILED) -> None:
        """No more is to be expected of this board."""
        outcome = self.outcomes[port]
        if error is not None and outcome.error is None:
            outcome.fail(error, exit_code)
        self._show.end(outcome)

    def _may(self, outcome: Outcome, found: Found) -> Consent | None:
        outcome.found = found
        try:
            recorded = self._fleet.board_of(found.mac) if self._fleet and found.mac else None
            reason = refusal(found, self._order.allowed, recorded) or self._twice(outcome)
            if not reason:
                return self._order.consent(found)
        except errors.LimpetError as error:
            outcome.fail(str(error), error.exit_code)
        else:
            outcome.fail(f"{outcome.port}: {reason}", errors.REFUSED)
        return None

    def _twice(self, outcome: Outcome) -> str | None:
        for other in self.outcomes.values():
            if (
                other is not outcome
                and other.found
                and outcome.found
                and other.found.mac == outcome.found.mac
            ):
                return f"it is the board on {other.port} as well ({other.found.mac}): name each board once."
        return None

    def _record(self, outcome: Outcome) -> None:
        if self._fleet is None or outcome.error or self._order.dry_run or not outcome.found:
            return
        try:
            self._fleet.record(outcome.found.mac, self._order.allowed.board.name, self._order.image.sha256)
        except errors.LimpetError as error:
            outcome.fail(f"{outcome.port}: it was flashed, but not recorded: {error}", error.exit_code)


def _watch(workers: Sequence[Worker], desk: _Desk) -> None:
    """Until all workers have ended, or were silent for too long."""
    with selectors.DefaultSelector() as selector:
        for worker in workers:
            selector.register(worker.out, selectors.EVENT_READ, worker)

        def drop(worker: Worker) -> None:
            selector.unregister(worker.out)

        while left := [key.data for key in selector.get_map().values()]:
            due = min(worker.due for worker in left)
            for key, _ in selector.select(max(0.0, due - time.monotonic())):
                worker = key.data
                reports = worker.reports()
                if reports is None:
                    desk.end(worker.port, worker.broken())
                if reports is None or True in [desk.take(worker, report) for report in reports]:
                    drop(worker)
                    left.remove(worker)
            for worker in left:
                if time.monotonic() > worker.due:
                    desk.end(worker.port, worker.silent())
                    worker.kill()
                    drop(worker)
