"""The witness: a real Mosquitto, and what nodes have told it."""

import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from cryptography import x509

from host_tools.broker import Broker, NoMosquittoError, launch
from host_tools.broker.acl import Access
from host_tools.broker.config import BrokerConfig, Listener, check_address
from host_tools.broker.mosquitto import free_port
from host_tools.broker.process import PortBusyError
from host_tools.errors import UsageError
from host_tools.hil import broker_log
from host_tools.hil.authority import NodeKind, RunAuthority, ServerKind
from host_tools.hil.blocked import Blocked
from host_tools.hil.broker_log import Packet, Session
from host_tools.hil.console import Console
from host_tools.hil.heard import Arrival, Heard, parsed
from host_tools.hil.readings import Readings
from host_tools.hil.timeline import Timeline
from host_tools.hil.tls_seen import Handshake, Handshakes, shown
from host_tools.pki import files, partition
from host_tools.pki.names import CONSOLE, OPERATOR, console_name
from host_tools.pki.profiles import bearer
from host_tools.telemetry.event import Gap, Remark
from host_tools.telemetry.subscriber import Message
from host_tools.virtual.link import Tap

DEADLINE = 90.0
"""Seconds; many times what a busy machine needs, and longer than a node waits after most outages."""

_LOOPBACK = "127.0.0.1"
_ANYWHERE = ("0.0.0.0", "::")
_WITNESS, _LOOK = "witness", "look"
_STORE = "mosquitto.db"
_PORT_S = 10.0  # in which a port that we had must be free again
_AGAIN_S = 5.0  # a node works on one command at a time, and drops what comes meanwhile
_GLANCE_S = 0.02

T = TypeVar("T")


class HasId(Protocol):
    """A node."""

    @property
    def id(self) -> str:
        """Its name, as its certificate has it."""


class Witness:
    """Use it as a context manager, or `start` and `close` it. Raises Blocked where there is no Mosquitto.

    It listens at `address`, one of this machine's, and keeps its port through every restart. Sessions and
    what is retained outlive a restart too, as they do in a plant. Its own console comes in by a second door,
    whose certificate is always good, and has a session there: it misses nothing that a broker has confirmed.
    Where a node is asked for, anything that has an `id` will do. `now` is the time that nodes are told.
    """

    name = "localhost"
    """What its certificate bears; nodes must be told to look for that."""

    def __init__(
        self,
        folder: Path,
        authority: RunAuthority,
        timeline: Timeline,
        *,
        address: str = _LOOPBACK,
        prefix: str = "limpet",
        now: Callable[[], float] = time.time,
    ) -> None:
        self.address = address
        self.prefix = prefix
        self.port = 0
        """Where nodes come in."""
        self._folder = folder
        self._authority = authority
        self._timeline = timeline
        self._now = now
        self._kind: ServerKind = "good"
        self._revoked: list[int] = []
        self._heard = Heard(prefix)
        self._handshakes = Handshakes()
        self._broker: Broker | None = None
        self._console: Console | None = None
        self._side_port = 0
        self._old_log = ""
        self._last_marker = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Its life

    def start(self, *, forget: bool = False) -> None:
        """Start it, unless it runs. With `forget` it knows nothing of sessions and retained messages, as if
        its disk were a new one. When this returns, its console is there.
        """
        if self._broker is not None:
            return
        check_address(self.address)
        store = self._run_folder / _STORE
        if forget and store.exists():
            # First our console gets what waits for it. Then it has a session again before a node comes in:
            # where nodes look for the broker, nobody is.
            self._launch(elsewhere=True)
            self._end(Broker.stop)
            store.unlink()
            self._launch(elsewhere=True)
            self._end(Broker.stop)
        self._launch()
        self._tell("started")

    def stop(self) -> None:
        """End it in good order, as a restart of its machine does; it publishes the wills of the connected."""
        if self._broker is not None:
            self._broker.resume()
            self._end(Broker.stop)
            self._tell("stopped")

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self._broker is not None and self._console is not None:
            # What it has said is with us before it dies: its store may not have that yet.
            self._broker.pause()
            self._console.hear_all()
            self._end(Broker.kill)
            self._tell("killed")

    def restart(self, *, forget: bool = False) -> None:
        """Stop and start it."""
        self.stop()
        self.start(forget=forget)

    def pause(self) -> None:
        """Hold it with SIGSTOP: connections stay, and nobody answers."""
        self._running.pause()
        self._tell("paused")

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._running.resume()
        if self._console is not None:
            self._console.stop()  # it may have given up meanwhile
        self._join()
        self._tell("resumed")

    def close(self) -> None:
        """End it for good."""
        self.stop()

    @property
    def alive(self) -> bool:
        """Whether it runs, paused or not."""
        return self._broker is not None and self._broker.alive

    # Certificates

    def present(self, kind: ServerKind) -> None:
        """Restart it with a certificate of this kind. Raises UsageError for a kind that there is not."""
        self._credential(kind)
        self._kind = kind
        self._tell("certificate", kind=kind)
        self.restart()

    def revoke(self, node: HasId) -> None:
        """Restart the broker with a CRL that has every certificate which was issued for the node up to now.

        Another broker of this authority does not hear of it.
        """
        self._revoked += self._authority.issued(node.id)
        self._tell("revoked", node=node.id)
        self.restart()

    def fresh_identity(self, node_id: str, kind: NodeKind = "good") -> bytes:
        """A node's identity partition with a new identity of this kind.

        Raises UsageError for a kind that there is not.
        """
        return partition.encode(self._authority.identity(node_id, kind))

    @property
    def tap(self) -> Tap:
        """For a link that leads here: so the witness sees certificates on the wire."""
        return self._handshakes.tap

    @property
    def target(self) -> tuple[str, int]:
        """Where this machine reaches it."""
        return (_LOOPBACK if self.address in _ANYWHERE else self.address, self.port)

    def handshakes(self) -> list[Handshake]:
        """How the connections over a link began, as far as that passes in the clear; oldest first."""
        return self._handshakes.all()

    def certificates(self, node: HasId) -> list[x509.Certificate]:
        """Those that bear this node's name and were shown over a link, in TLS 1.2; oldest first."""
        found = [shown(each.client) for each in self.handshakes()]
        return [each for each in found if each is not None and bearer(each) == node.id]

    # What nodes told

    def readings(self, node: HasId, channel: str = "", settle: float | None = DEADLINE) -> Readings:
        """The node's readings, of one channel or of all.

        Waits until one has come that was taken after this call: readings come oldest first, so all before it
        have come then. Raises AssertionError when none does within `settle` seconds; None looks at once.
        """
        if settle is not None:
            self._settle(node, settle)
        found = self._heard.readings(node.id)
        return found.of(channel) if channel else found

    def wait_for_readings(
        self, node: HasId, count: int, channel: str = "", seconds: float = DEADLINE
    ) -> Readings:
        """Wait until so many different readings have come. Raises AssertionError."""

        def enough() -> Readings | None:
            found = self.readings(node, channel, settle=None)
            return found if len(found) >= count else None

        return self.wait_for(enough, f"{count} readings of {channel or node.id}", seconds)

    def states(self, node: HasId) -> list[dict[str, Any]]:
        """What the node said on `state`, its wills included; not what was retained before we came."""
        return self._heard.said(node.id, "state", live=True)

    def state(self, node: HasId) -> dict[str, Any] | None:
        """The last of it, retained or not."""
        return self._last(node, "state")

    def wills(self, node: HasId) -> list[dict[str, Any]]:
        """The last wills of the node that the broker has published."""
        return [each for each in self.states(node) if each.get("up") is False]

    def about(self, node: HasId) -> dict[str, Any] | None:
        """The last that it said on `about`."""
        return self._last(node, "about")

    def health(self, node: HasId) -> dict[str, Any] | None:
        """The last that it said on `health`."""
        return self._last(node, "health")

    def events(self, node: HasId) -> list[Gap | Remark]:
        """What it told on `event`."""
        return self._heard.events(node.id)

    def retained(self, node: HasId, leaf: str) -> dict[str, Any] | None:
        """What the broker keeps on this leaf for those who come, if anything."""
        topic, end = f"{self.prefix}/{node.id}/{leaf}", self._marker(secrets.token_hex(4))
        came: list[Message] = []
        console = Console(
            self._side_port, self._authority.console(_LOOK), console_name(_LOOK), (topic, end), came.append
        )
        console.start()
        try:
            # What is retained comes before what is published after the subscription.
            self._publish(end, b"", DEADLINE)
            self.wait_for(
                lambda: any(each.topic == end for each in came), "an end of what the broker has retained"
            )
        finally:
            console.stop()
        found = [each for each in came if each.topic == topic and each.retained]
        return parsed(found[-1]) if found else None

    # What the broker says of itself

    @property
    def log(self) -> str:
        """All that it has printed, through every restart."""
        return self._old_log + (self._read_log() if self._broker is not None else "")

    def connections(self, node: HasId) -> list[Session]:
        """The node's sessions, by the name in its certificate; oldest first."""
        return [each for each in broker_log.sessions(self.log) if each.client == node.id]

    def packets(self, node: HasId) -> list[Packet]:
        """What the node published with QoS 1, packet by packet, with those that came again; oldest first."""
        return [each for each in broker_log.packets(self.log) if each.client == node.id]

    def refusals(self) -> list[str]:
        """Why TLS connections came to nothing, whichever side it was, in OpenSSL's words; oldest first."""
        return broker_log.refusals(self.log)

    # Commands, and waiting

    def command(self, node: HasId, command: str | bytes, seconds: float = DEADLINE) -> dict[str, Any]:
        """Tell the node a command (docs/wire.md), and give its answer.

        Raises AssertionError when there is none within so many seconds.
        """
        question = secrets.token_hex(4)
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.tell(node, command, question)
            answers = _within(min(_AGAIN_S, left), lambda: self.answers(node, question))
            if answers:
                return answers[0]
        name = _bytes(command).split(b" ")[0].decode(errors="replace")
        raise AssertionError(f"{node.id} does not answer the command '{name}' within {seconds:.0f} s")

    def tell(self, node: HasId, command: str | bytes, question: str = "") -> str:
        """Tell the node a command once, and wait for nothing: its id, by which `answers` knows it."""
        question = question or secrets.token_hex(4)
        self._publish(f"{self.prefix}/{node.id}/cmd/{question}", _bytes(command), DEADLINE)
        return question

    def answers(self, node: HasId, question: str) -> list[dict[str, Any]]:
        """What has come as answer to the command with this id: one, unless it was told or done twice."""
        return self._heard.said(node.id, f"rsp/{question}")

    def wait_for(self, condition: Callable[[], T | None], what: str, seconds: float = DEADLINE) -> T:
        """Wait until `condition` gives something true, and give that.

        Raises AssertionError, which says that `what` did not come within so many seconds.
        """
        found = _within(seconds, condition)
        if not found:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        return found

    def _settle(self, node: HasId, seconds: float) -> None:
        began, since = time.time(), self._now()

        def is_wanted(each: Arrival) -> bool:
            reading = each.reading
            return each.at >= began and reading.quality != "unknown" and reading.unix_ms >= since * 1000

        if not _within(seconds, lambda: self._heard.latest(node.id, is_wanted)):
            raise AssertionError(
                f"within {seconds:.0f} s no reading of {node.id} came that was taken in that time; "
                f"{_told_of(self._heard.latest(node.id), since)}"
            )

    def _last(self, node: HasId, leaf: str) -> dict[str, Any] | None:
        said = self._heard.said(node.id, leaf)
        return said[-1] if said else None

    def _publish(self, topic: str, payload: bytes, seconds: float) -> None:
        console = self._console
        if console is None:
            raise UsageError("The broker does not run: start it first.")
        console.publish(topic, payload, seconds)

    # The processes

    @property
    def _running(self) -> Broker:
        if self._broker is None:
            raise UsageError("The broker does not run: start it first.")
        return self._broker

    @property
    def _run_folder(self) -> Path:
        return self._folder / "run"

    def _launch(self, *, elsewhere: bool = False) -> None:
        """Start the broker and bring our console there; `elsewhere` at a port that nodes do not know."""
        end = time.monotonic() + _PORT_S
        while True:
            port = free_port(self.address) if elsewhere or not self.port else self.port
            side = self._side_port or free_port(_LOOPBACK)
            try:
                self._broker = launch(
                    self._configuration(port, side),
                    prefer="mosquitto",
                    run_folder=self._run_folder,
                    persistent=True,
                )
                break
            except NoMosquittoError as error:
                raise Blocked(str(error)) from None
            except PortBusyError:
                if time.monotonic() > end:
                    raise
        self._side_port = side
        if not elsewhere:
            self.port = port
        try:
            self._join()
        except BaseException:
            self._end(Broker.stop)
            raise

    def _configuration(self, port: int, side: int) -> BrokerConfig:
        access = Access(self.prefix, (CONSOLE, console_name(_LOOK)), (OPERATOR, console_name(_WITNESS)))
        ours, theirs = self._credential("good"), self._credential(self._kind)
        crl = self._folder / "crl.pem"
        files.write_private(crl, self._authority.revocation_list(self._revoked))
        return BrokerConfig(
            self.address,
            port,
            access,
            self._authority.ca,
            *theirs,
            crl=crl,
            side=Listener(_LOOPBACK, side, *ours),
            logs_packets=True,
        )

    def _credential(self, kind: ServerKind) -> tuple[Path, Path]:
        """The files of our certificate of this kind and of its key, made if they are not there."""
        certificate = self._folder / f"server-{kind}.crt"
        if not certificate.exists():
            names = dict.fromkeys((self.name, _LOOPBACK, self.target[0]))
            self._authority.server(list(names), kind).save(self._folder, certificate.stem)
        return certificate, certificate.with_suffix(".key")

    def _join(self) -> None:
        """Bring our console in. When this returns, it has heard all that waited for it."""
        topics = (f"{self.prefix}/+/+", f"{self.prefix}/+/rsp/+", self._marker("+"))
        tls = self._authority.console(_WITNESS)
        console = Console(
            self._side_port, tls, console_name(_WITNESS), topics, self._hear, keeps_session=True
        )
        console.start()
        self._console = console
        marker = self._marker(secrets.token_hex(4))
        console.publish(marker, b"", DEADLINE)
        self.wait_for(lambda: self._last_marker == marker, "what the broker kept for its console")

    def _marker(self, number: str) -> str:
        """A topic of ours: who hears this message has heard what came before it."""
        return f"{self.prefix}/{_WITNESS}/cmd/{number}"

    def _end(self, how: Callable[[Broker], None]) -> None:
        broker, console = self._running, self._console
        how(broker)
        if console is not None:
            console.hear_out()
        self._old_log += self._read_log()
        self._broker = self._console = None

    def _read_log(self) -> str:
        return self._running.log.read_text(errors="replace")

    def _hear(self, message: Message) -> None:
        if message.topic.startswith(self._marker("")):
            self._last_marker = message.topic
            return
        self._timeline.add("broker", message.topic, size=message.size)
        self._heard.add(message)

    def _tell(self, text: str, **values: str) -> None:
        self._timeline.add("broker", text, **values)


def _within(seconds: float, condition: Callable[[], T | None]) -> T | None:
    """What `condition` gives as soon as that is something true, or at the end of so many seconds."""
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(_GLANCE_S)
    return found


def _bytes(command: str | bytes) -> bytes:
    return command.encode() if isinstance(command, str) else command


def _told_of(latest: Arrival | None, since: float) -> str:
    if latest is None:
        return "none has come at all"
    reading = latest.reading
    when = reading.unix_ms / 1000 - since
    side = "before" if when < 0 else "after"
    return f"the last one that came was taken {abs(when):.1f} s {side} the call (time: {reading.quality})"
