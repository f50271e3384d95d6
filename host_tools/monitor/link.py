"""One board's port, listened to by a thread of its own, through resets, unplugging and whatever else."""

import contextlib
import math
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Full, Queue
from typing import Any, Literal

from host_tools.devices.port import Port
from host_tools.devices.questions import WHO_ARE_YOU, Questions, introduced, readable
from host_tools.errors import NoDeviceError
from host_tools.line import open_line
from host_tools.monitor.lines import Lines

_LOOK_AGAIN_S = (0.2, 0.2, 0.5, 1.0)
_NO_NEWS_S = 5.0
_COLOUR = re.compile(rb"\x1b\[[\d;]*m")
"""As ESP-IDF prints it; other control characters are shown, escaped."""
_MOST_AT_ONCE = 4096
"""Bytes of one read, so that a board which never pauses does not keep its lines from being shown."""


@dataclass(frozen=True)
class Event:
    """Something that a board did. `lost` lines could not be told before it, because nobody took them."""

    kind: Literal["line", "up", "down", "who"]
    port: str
    """As it was named at first."""
    time: datetime
    text: str
    version: str | None = None
    node: str | None = None
    lost: int = 0


class Link(threading.Thread):
    """Tells in `events` what happens on a port, from `start` until `stop`.

    Nothing that it does depends on the other boards, and it never waits for whoever takes the events.
    """

    def __init__(self, port: Port, events: "Queue[Event]", list_ports: Callable[[], list[Port]]) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.current = port.name
        """The name that the port has now: after a re-enumeration it may be another one."""
        self._events = events
        self._list_ports = list_ports
        self._stopped = threading.Event()
        self._lost = 0

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        attempts, told, gone_since = 0, "", -math.inf
        while not self._stopped.is_set():
            try:
                self.current = find_again(self.port, self._list_ports)
                line = open_line(self.current)
            except NoDeviceError as error:
                # Right after a port has gone it is no news that it cannot be opened.
                if str(error) != told and time.monotonic() - gone_since > _NO_NEWS_S:
                    told = str(error)
                    self._tell("down", told)
            else:
                attempts, told = 0, ""
                self._tell("up", "connected")
                try:
                    self._listen(line)
                except OSError:
                    gone_since = time.monotonic()
                    self._tell("down", "the port is gone; waiting for it")
                finally:
                    with contextlib.suppress(OSError):
                        line.close()
            self._stopped.wait(_LOOK_AGAIN_S[min(attempts, len(_LOOK_AGAIN_S) - 1)])
            attempts += 1

    def _listen(self, line: Any) -> None:
        lines, questions, told = Lines(), Questions(WHO_ARE_YOU), False
        try:
            while not self._stopped.is_set():
                question = questions.say(time.monotonic())
                if question:
                    line.write(question)
                data = line.read(min(max(1, line.in_waiting), _MOST_AT_ONCE))
                now = time.monotonic()
                for each in lines.feed(data, now) + lines.late(now):
                    self._line(each)
                if not questions.what:
                    questions.hear(data)
                elif not told:
                    told = True
                    what = questions.what
                    self._tell("who", what.text, what.version, what.node)
        finally:
            for each in lines.end():
                self._line(each)

    def _line(self, line: bytes) -> None:
        version, node = introduced(line + b"\n")
        text = readable(_COLOUR.sub(b"", line).expandtabs())
        self._tell("line", text, _text(version), _text(node))

    def _tell(
        self,
        kind: Literal["line", "up", "down", "who"],
        text: str,
        version: str | None = None,
        node: str | None = None,
    ) -> None:
        event = Event(kind, self.port.name, datetime.now(UTC), text, version, node, self._lost)
        try:
            self._events.put_nowait(event)
            self._lost = 0
        except Full:
            self._lost += 1


def _text(word: bytes | None) -> str | None:
    return None if word is None else readable(word)


def find_again(port: Port, list_ports: Callable[[], list[Port]]) -> str:
    """The name that a USB port has now: after a re-enumeration it may be another one.

    It is the same port when socket and bridge are the same; else, when it tells a serial number, wherever
    that is.
    """
    if port.vid is None:
        return port.name
    alike = [each for each in list_ports() if (each.vid, each.pid) == (port.vid, port.pid)]
    same = [each for each in alike if each.location == port.location]
    if not same and port.serial_number:
        same = [each for each in alike if each.serial_number == port.serial_number]
    if len(same) != 1 or same[0].name == port.name:
        return port.name
    return same[0].name
