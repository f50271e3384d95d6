"""An operator: commands to nodes over MQTT, and what they answer (docs/wire.md, `cmd` and `rsp`)."""

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self, TypeVar

from host_tools.errors import LimpetError, NoDeviceError
from host_tools.pki.names import OPERATOR, is_node_id
from host_tools.telemetry.payload import PayloadError, is_plain_text, parse
from host_tools.telemetry.subscriber import Message, Subscriber, TlsFiles

ANSWER_S = 20.0
"""How long a node may take to answer a command that is no work."""

_LEAVES = ("state", "about", "event")
_GLANCE_S = 0.1
_PUBLISH_S = 10.0
_AGAIN_S = 5.0  # a node works on one command at a time, and drops what comes meanwhile
_QUIET_S = 0.7  # without a retained message: there are no more
_MOST_QUIET_S = 10.0
_PACKET = 256  # bytes, the largest packet that a node takes in
_TEXT = 250  # characters, the longest sentence that a node may answer

T = TypeVar("T")


class NoAnswerError(NoDeviceError):
    """A node does not answer within its time."""


class NodeRefusedError(LimpetError):
    """A node answers that it cannot do what it was told."""


class CalledOffError(LimpetError):
    """Nobody wants to know any more."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What the broker told of a node since we came, its retained words included."""

    is_up: bool = False
    certificate: str = ""
    """SHA-256 (hex) of its certificate, by its own `about`."""
    abouts: int = 0
    """How many times it has said `about` since we came; what was retained does not count."""
    verdict: str = ""
    """Its last event about its identity."""
    verdicts: int = 0
    """How many of them there were since we came."""


class Operator:
    """A connection to a broker by which nodes can be asked. Threads may share it; use as a context manager.

    `tls` is an operator's credential: the broker lets it read all below `prefix`, and write commands alone.
    `name` is what the broker's certificate must bear, by default the host.
    """

    def __init__(
        self, host: str, port: int, tls: TlsFiles, *, prefix: str = "limpet", name: str = ""
    ) -> None:
        self._prefix = prefix
        topics = [f"{prefix}/+/{leaf}" for leaf in (*_LEAVES, "rsp/+")]
        self._subscriber = Subscriber(
            host, port, tls, client_id=OPERATOR, prefix=prefix, name=name, topics=topics
        )
        self._changed = threading.Condition()
        self._heard: dict[str, Heard] = {}
        self._answers: dict[tuple[str, str], dict[str, Any] | None] = {}
        self._off = False
        self._last = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        """Connect, and hear what the broker keeps of all nodes. Raises SubscriberError."""
        self._subscriber.start()
        self._last = time.monotonic()
        self._thread.start()
        end = self._last + _MOST_QUIET_S
        while time.monotonic() < min(self._last + _QUIET_S, end):
            time.sleep(_GLANCE_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._subscriber.stop()

    def heard(self) -> dict[str, Heard]:
        """All nodes that the broker knows below the prefix, with what it told of them."""
        with self._changed:
            return dict(self._heard)

    def of(self, node_id: str) -> Heard:
        """What the broker told of one node."""
        with self._changed:
            return self._heard.get(node_id, Heard())

    def room(self, node_id: str) -> int:
        """How many bytes of a command's payload fit into the largest packet that this node takes in."""
        # Fixed header with two bytes of length; topic with its length; packet id.
        return _PACKET - 3 - 2 - len(self._topic(node_id, secrets.token_hex(4))) - 2

    def ask(self, node_id: str, command: bytes, timeout: float = ANSWER_S) -> dict[str, Any]:
        """Tell a node a command, and give its answer. What is not answered is said again.

        Raises NoAnswerError when it does not answer for so many seconds, NodeRefusedError when it answers
        that it cannot.
        """
        name = command.split(b" ")[0].decode("ascii", "replace")
        with self._question(node_id) as key:
            answer = self._publish(node_id, key, command, time.monotonic() + timeout)
        if answer is None:
            raise NoAnswerError(f"{node_id} does not answer the command '{name}' within {timeout:.0f} s.")
        if answer.keys() == {"error"}:  # `health` has one among its keys
            text = answer["error"]
            fit = isinstance(text, str) and is_plain_text(text, _TEXT)
            raise NodeRefusedError(
                f"{node_id} refuses the command '{name}': {text if fit else 'it does not say why'}."
            )
        return answer

    def wait(self, check: Callable[[], T | None], seconds: float) -> T | None:
        """Wait until what was heard makes `check` give something else than None; None if it never does.

        Raises CalledOffError when `call_off` was called.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._off or check() is not None, seconds)
            if self._off:
                raise CalledOffError("Called off.")
            return check()

    def pause(self, seconds: float) -> None:
        """Wait so long. Raises CalledOffError as `wait` does."""
        self.wait(lambda: None, seconds)

    def call_off(self) -> None:
        """Let everybody go who waits for a node."""
        with self._changed:
            self._off = True
            self._changed.notify_all()

    @contextlib.contextmanager
    def _question(self, node_id: str) -> Iterator[tuple[str, str]]:
        key = (node_id, secrets.token_hex(4))
        with self._changed:
            self._answers[key] = None
        try:
            yield key
        finally:
            with self._changed:
                del self._answers[key]

    def _publish(
        self, node_id: str, key: tuple[str, str], command: bytes, end: float
    ) -> dict[str, Any] | None:
        topic = self._topic(*key)
        while (left := end - time.monotonic()) > 0:
            self._subscriber.publish(topic, command, min(_PUBLISH_S, left))
            answer = self.wait(lambda: self._answers[key], min(_AGAIN_S, end - time.monotonic()))
            if answer is not None:
                return answer
        return None

    def _topic(self, node_id: str, question: str) -> str:
        return f"{self._prefix}/{node_id}/cmd/{question}"

    def _listen(self) -> None:
        while not self._stop.is_set():
            event = self._subscriber.next_event(_GLANCE_S)
            if isinstance(event, Message):
                with self._changed:
                    self._take(event)
                    self._changed.notify_all()

    def _take(self, message: Message) -> None:
        if message.retained:
            self._last = time.monotonic()
        node_id, _, leaf = message.topic.removeprefix(f"{self._prefix}/").partition("/")
        try:
            said = parse(message.payload) if message.payload else None
        except PayloadError:
            return
        if not isinstance(said, dict) or not is_node_id(node_id):
            return
        if leaf.startswith("rsp/"):
            if (key := (node_id, leaf.removeprefix("rsp/"))) in self._answers:
                self._answers[key] = said
            return
        if leaf not in _LEAVES:
            return
        before = self._heard.get(node_id, Heard())
        self._heard[node_id] = _updated(before, leaf, said, fresh=not message.retained)


def _updated(heard: Heard, leaf: str, said: Mapping[str, object], *, fresh: bool) -> Heard:
    if leaf == "state":
        return replace(heard, is_up=said.get("up") is True)
    if leaf == "about":
        certificate = said.get("certificate")
        known = certificate if isinstance(certificate, str) else ""
        return replace(heard, certificate=known, abouts=heard.abouts + fresh)
    text = said.get("text")
    if said.get("event") == "identity" and isinstance(text, str) and is_plain_text(text, _TEXT):
        return replace(heard, verdict=text, verdicts=heard.verdicts + 1)
    return heard
