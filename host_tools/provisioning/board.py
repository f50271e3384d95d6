"""One board, from blank to proof, step by step. Wherever it is cut off, the next run finishes it."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Protocol

from host_tools import errors
from host_tools.errors import LimpetError, UnverifiedError
from host_tools.flashing import run as flashing
from host_tools.flashing.crew import Crew
from host_tools.flashing.guards import Allowed, Found
from host_tools.flashing.job import Consent
from host_tools.flashing.outcome import Outcome as Flashed
from host_tools.fleet import Record
from host_tools.fleet.record import utc
from host_tools.pki.request import check_request
from host_tools.provisioning import links, steps
from host_tools.provisioning.desk import Admission, Desk
from host_tools.provisioning.install import Installation
from host_tools.provisioning.order import Order
from host_tools.provisioning.outcome import ALREADY, CLAIMED, IN_SERVICE, Outcome
from host_tools.provisioning.proof import Witness, moment
from host_tools.provisioning.words import Words
from host_tools.repl.port import Port, Stopped
from host_tools.telemetry.subscriber import Message

PROOF_S = 90.0
"""How long a node may take from its reset to the broker: Wi-Fi, time, and a second try."""
_BROKER_S = 12.0
_GLANCE_S = 0.1

Moment = Callable[[str, str], None]
"""Called between and within the steps, with the port and where it is: for tests that end it there."""


class Show(Protocol):
    """Where the user sees how far it is. All of it is about the board on `port`."""

    def step(self, port: str, name: str) -> None: ...

    def progress(self, port: str, done: int, total: int) -> None: ...

    def remark(self, port: str, text: str) -> None: ...

    def say(self, text: str, colour: str) -> None: ...

    def end(self, outcome: Outcome) -> None: ...


class UnprovedError(UnverifiedError):
    """The node has not shown itself at the broker."""


class InterruptedRunError(LimpetError):
    """The user has ended it."""


class Provisioning:
    """The provisioning of the board on the one port of `crew`."""

    def __init__(
        self,
        crew: Crew,
        location: str,
        order: Order,
        desk: Desk,
        witness: Witness,
        show: Show,
        stop: threading.Event,
        moment: Moment,
    ) -> None:
        [self._worker] = crew.workers
        self._crew = crew
        self._port = self._worker.port
        self._location = location
        self._order = order
        self._desk = desk
        self._witness = witness
        self._show = show
        self._stop = stop
        self._moment = moment
        self._admission: Admission | None = None
        self._steps = _Steps(self._port, show, moment)
        self.outcome = Outcome(self._port, location, key=order.key)

    def run(self) -> Outcome:
        """Do it all; what goes wrong stands in the outcome."""
        try:
            self._run()
        except LimpetError as error:
            self.outcome.fail(self._interrupted() if self._stop.is_set() else error)
        except Stopped:
            self.outcome.fail(self._interrupted())
        finally:
            self.outcome.seconds = self._steps.end()
            self._desk.leave(self._port)
        self._show.end(self.outcome)
        return self.outcome

    def _interrupted(self) -> LimpetError:
        return InterruptedRunError(f"{self._port}: interrupted; run it again, and it goes on.")

    def _run(self) -> None:
        self._step(steps.DETECT)
        flashed = self._flash()
        admission = self._admission
        if admission is not None and admission.done:
            node = self._desk.fleet.node(admission.node_id)
            self.outcome.state = ALREADY
            if node is not None:
                self._chain(node.image, node.settings, node.serial, node.fingerprint, node.expires)
                self.outcome.first_publish = node.first_publish
            return
        if flashed.error is not None or admission is None:
            raise _failure(flashed)
        self.outcome.state = CLAIMED
        with self._witness.expecting(admission.node_id) as heard:
            if admission.ready is None:
                self._prepare(admission, flashed.proof or "", heard)
            about = self._prove(admission, heard)
        self._serve(admission, about)

    # On the board

    def _flash(self) -> Flashed:
        """Detect, guard and flash: what is there already is left as it is."""
        order = flashing.Order(
            self._order.image,
            Allowed(self._order.board, revisions=self._order.image.revisions),
            self._order.bauds,
            consent=self._consent,
        )
        [flashed] = flashing.flash(self._crew, order, self._desk.fleet, _Shown(self._steps, self._show))
        if flashed.found and not self.outcome.mac:
            self.outcome.mac, self.outcome.chip = flashed.found.mac or None, flashed.found.chip
        return flashed

    def _consent(self, found: Found) -> Consent:
        if self._admission is None:
            self._step(steps.GUARD)
            self.outcome.mac, self.outcome.chip = found.mac, found.chip
            self._admission = self._desk.admit(self._port, self._location, found)
            self.outcome.node_id = self._admission.node_id
            self._now("guard: admitted")
            if self._order.key == "host" and not self._admission.done and self._admission.ready is None:
                self._make_key(self._admission)
        if self._admission.done:
            raise _Done("it is in service already")  # with a sentence, or flashing notes that it has flashed
        if self._admission.ready:
            return Consent(leave=(self._order.span("vfs"),))
        if self._admission.identity is not None:
            return Consent(own=((self._order.partition("identity").offset, self._admission.identity),))
        return Consent()

    def _make_key(self, admission: Admission) -> None:
        self._step(steps.KEY)
        self._desk.issue_key(admission)
        self._now("key: made")
        self._step(steps.CERTIFICATE)
        assert admission.issued is not None
        self._note(
            steps.CERTIFICATE,
            serial=admission.issued.serial,
            fingerprint=admission.issued.fingerprint,
            key="host",
        )
        self._remark_revoked(admission)

    def _prepare(self, admission: Admission, firmware: str, heard: "queue.SimpleQueue[Message]") -> None:
        """Give the board its identity and its settings, and restart it."""
        self._step(steps.BOOT)
        with Installation(self._port, self._stop) as board:
            self._now("boot: stopped")
            found = board.look()
            links.same_board(admission.mac, found.mac)
            self._note(steps.BOOT, firmware=firmware)
            self._identify(admission, board, found.fingerprint)
            self._step(steps.SETTINGS)
            board.put_settings(self._order.settings, self._progress)
            self._now("settings: put")
            digest = self._order.settings_digest
            links.kept("settings", digest, board.adopt_settings(digest))
            self._now("settings: adopted")
            assert admission.issued is not None
            self._note(
                steps.SETTINGS,
                settings=digest,
                image=self._order.image.sha256,
                fingerprint=admission.issued.fingerprint,
            )
            self._step(steps.START)
            self._witness.is_there(_BROKER_S)
            _drain(heard)
        self._note(steps.START)

    def _identify(self, admission: Admission, board: Installation, shown: str | None) -> None:
        if self._order.key == "host":
            self._step(steps.INSTALL)
            assert admission.issued is not None
            links.installed(admission.node_id, admission.issued.fingerprint, shown)
        elif issued := self._desk.has(admission.node_id, shown):
            admission.issued = issued  # an earlier run came so far
            links.installed(admission.node_id, issued.fingerprint, board.settled())
        else:
            self._step(steps.KEY)
            request = board.request(admission.node_id)
            self._now("key: made")
            key = check_request(request, admission.node_id)
            self._note(steps.KEY)
            self._step(steps.CERTIFICATE)
            admission.issued = issued = self._desk.issue(admission, request)
            self._now("certificate: issued")
            links.own_certificate(issued.certificate, key, admission.node_id)
            self._note(steps.CERTIFICATE, serial=issued.serial, fingerprint=issued.fingerprint, key="node")
            self._remark_revoked(admission)
            self._step(steps.INSTALL)
            chain = (issued.der, *self._desk.ca.chain)
            shown = board.install(chain, self._desk.ca.trusted, self._progress, self._now)
            links.installed(admission.node_id, issued.fingerprint, shown)
            self._now("install: installed")
        self._note(steps.INSTALL, fingerprint=admission.issued.fingerprint)

    def _remark_revoked(self, admission: Admission) -> None:
        for each in admission.revoked:
            which = f"{each.fingerprint[:16]}…"
            text = f"{self._port}: an earlier certificate of '{admission.node_id}', {which}, is revoked."
            self.outcome.remarks.append(text)
            self._show.remark(self._port, text)

    # At the broker

    def _prove(self, admission: Admission, heard: "queue.SimpleQueue[Message]") -> Message:
        """The node's first `about`. Raises UnprovedError, or what the chain lacks."""
        self._step(steps.PROOF)
        if not self._witness.is_there(_BROKER_S if admission.ready else 0.0):
            why = self._witness.why_not().rstrip(".")
            raise UnprovedError(
                f"{self._port}: '{admission.node_id}' has all that it needs, and is not in service, for "
                f"nobody saw it come ({why}): run it again when the broker is there, for the proof."
            )
        assert admission.issued is not None
        try:
            message = self._first(admission.node_id, heard)
            self._now("proof: seen")
            topic_id = message.topic.removeprefix(f"{self._order.prefix}/").removesuffix("/about")
            links.published(message.payload, topic_id, admission.node_id, admission.issued.fingerprint)
        except UnverifiedError as error:
            self._note(steps.NO_PROOF, why=str(error))
            raise
        self._note(steps.PROOF, at=moment(message))
        return message

    def _first(self, node_id: str, heard: "queue.SimpleQueue[Message]") -> Message:
        end = time.monotonic() + PROOF_S
        gaps = self._witness.gaps
        with Words(self._port) as words:
            while time.monotonic() < end:
                if self._stop.is_set():
                    raise Stopped
                with contextlib.suppress(queue.Empty):
                    return heard.get(timeout=_GLANCE_S)
                words.listen()
                if gaps != self._witness.gaps and self._witness.is_there():
                    gaps = self._witness.gaps  # it may have come meanwhile
                    words.close()
                    _restart(self._port)
        said = f"; it says '{words.last}'" if words.last else "; it says nothing"
        raise UnprovedError(
            f"{self._port}: '{node_id}' did not come to the broker within {PROOF_S:.0f} s{said}: see to its "
            "Wi-Fi and to the broker, and run it again."
        )

    def _serve(self, admission: Admission, about: Message) -> None:
        self._step(steps.IN_SERVICE)
        issued = admission.issued
        assert issued is not None
        record = Record(
            node_id=admission.node_id,
            mac=admission.mac,
            location=self._location,
            board=self._order.board.name,
            image=self._order.image.sha256,
            serial=issued.serial,
            fingerprint=issued.fingerprint,
            client_id=admission.node_id,
            first_publish=moment(about),
            expires=utc(issued.expires),
            settings=self._order.settings_digest,
        )
        self._chain(record.image, record.settings, record.serial, record.fingerprint, record.expires)
        self._desk.serve(record, self._now, again=admission.ready is not None)
        self._now("in service: recorded")
        self.outcome.first_publish = record.first_publish
        self.outcome.state = IN_SERVICE

    def _chain(self, image: str, settings: str, serial: str, fingerprint: str, expires: str) -> None:
        outcome = self.outcome
        outcome.image, outcome.settings, outcome.serial = image, settings, serial
        outcome.fingerprint, outcome.expires = fingerprint, expires

    # Words

    def _step(self, name: str) -> None:
        self._steps.begin(name)

    def _now(self, what: str) -> None:
        self._moment(self._port, what)

    def _progress(self, done: int, total: int) -> None:
        self._show.progress(self._port, done, total)

    def _note(self, step: str, **facts: str) -> None:
        assert self._admission is not None
        self._desk.fleet.note(self._admission.mac, self._admission.node_id, step, **facts)
        self._now(f"{step}: noted")


class _Done(LimpetError):
    """The board is in service already, and is left alone."""


class _Steps:
    """Which step it is, since when, and how long the others took."""

    def __init__(self, port: str, show: Show, moment: Moment) -> None:
        self._port = port
        self._show = show
        self._moment = moment
        self._name = ""
        self._seconds: dict[str, float] = {}
        self._since = time.monotonic()

    def begin(self, name: str) -> None:
        if name == self._name:
            return
        self.end()
        self._name = name
        self._show.step(self._port, name)
        self._moment(self._port, name)

    def end(self) -> dict[str, float]:
        now = time.monotonic()
        if self._name:
            self._seconds[self._name] = self._seconds.get(self._name, 0.0) + now - self._since
        self._since = now
        self._name = ""
        return self._seconds

    def flashing(self, doing: str) -> None:
        """The process that flashes has begun this."""
        if doing != "connecting":
            self.begin(steps.FLASH)
        self._moment(self._port, f"flash: {doing}")


class _Shown:
    """What flashing shows, as a part of it all."""

    def __init__(self, steps_: _Steps, show: Show) -> None:
        self._steps = steps_
        self._show = show

    def step(self, port: str, name: str) -> None:
        self._steps.flashing(name)

    def progress(self, port: str, done: int, total: int) -> None:
        self._show.progress(port, done, total)

    def remark(self, port: str, text: str) -> None:
        self._show.remark(port, text)

    def end(self, outcome: Flashed) -> None:
        """It goes on."""


class _FlashError(LimpetError):
    """What flashing ended with."""


def _failure(flashed: Flashed) -> LimpetError:
    error = _FlashError(flashed.error or f"{flashed.port}: its chip was not asked who it is; run it again.")
    error.exit_code = flashed.exit_code or errors.FAILED
    return error


def _drain(heard: "queue.SimpleQueue[Message]") -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            heard.get_nowait()


def _restart(name: str) -> None:
    with contextlib.suppress(LimpetError, OSError):
        port = Port(name, threading.Event())
        try:
            port.reset_board()
        finally:
            port.close()
