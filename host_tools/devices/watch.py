"""What is plugged in and what is pulled out, while one looks."""

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from host_tools.devices.identify import Found, look
from host_tools.devices.port import Port

_LOOK_AGAIN_S = 0.5
_KNOCK_AGAIN_S = 2.0
_KNOCK_S = 1.0
_BREATH_S = 0.3
"""Some servers of ports need a moment after one client until they take another one."""


class Change(NamedTuple):
    """A port that came, with what is behind it, or that went (`found` is None)."""

    port: Port
    found: Found | None


def watch(list_ports: Callable[[], list[Port]]) -> Iterator[Change]:
    """What is there, and from then on what changes, for ever. A board that comes is asked who it is.

    A port on another machine comes when its server takes a client, and goes when it does not, which may be
    because another program has it.
    """
    known: dict[str, Port] = {}
    changes: queue.SimpleQueue[Change] = queue.SimpleQueue()
    servers: set[str] = set()
    while True:
        there = {port.name: port for port in list_ports()}
        for port in there.values():
            if port.is_url and port.name not in servers:
                servers.add(port.name)
                _start(_watch_server, port, changes)
        local = {name: port for name, port in there.items() if _is_plugged_in(port)}
        for name, port in list(known.items()):
            if local.get(name) != port:
                del known[name]
                yield Change(port, None)
        for name, port in local.items():
            if name not in known:
                known[name] = port
                _start(_ask, port, changes)
        until = time.monotonic() + _LOOK_AGAIN_S
        while (left := until - time.monotonic()) > 0:
            try:
                change = changes.get(timeout=left)
            except queue.Empty:
                break
            if change.port.is_url or known.get(change.port.name) == change.port:  # it may have gone meanwhile
                yield change


def _is_plugged_in(port: Port) -> bool:
    return not port.is_url and (not port.named or Path(port.name).exists())


def _start(task: Callable[[Port, "queue.SimpleQueue[Change]"], None], *about: Any) -> None:
    threading.Thread(target=task, args=about, daemon=True).start()


def _ask(port: Port, changes: "queue.SimpleQueue[Change]") -> None:
    changes.put(Change(port, look([port])[0]))


def _watch_server(port: Port, changes: "queue.SimpleQueue[Change]") -> None:
    is_there = False
    while True:
        is_there_now = listens(port.name)
        if is_there_now and not is_there:
            time.sleep(_BREATH_S)
            _ask(port, changes)
        elif is_there and not is_there_now:
            changes.put(Change(port, None))
        is_there = is_there_now
        time.sleep(_KNOCK_AGAIN_S)


def listens(url: str) -> bool:
    """Whether the server of a port on another machine takes a client now."""
    try:
        parts = urlsplit(url)
        if parts.hostname is None or parts.port is None:
            return True  # nothing that could be tried
        with socket.create_connection((parts.hostname, parts.port), _KNOCK_S):
            return True
    except (OSError, ValueError):
        return False
