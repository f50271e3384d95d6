"""A field of nodes: a broker, a subscriber that hears all, and MicroPython processes that are the nodes."""

import contextlib
import json
import subprocess
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from host_tools import micropython, partitions, parts, paths
from host_tools.broker import start_broker
from host_tools.partitions import SECTOR, TABLE_OFFSET, TABLE_SIZE
from host_tools.pki.authority import Authority
from host_tools.pki.names import CONSOLE
from host_tools.telemetry.senml import decode
from host_tools.telemetry.subscriber import Message, Subscriber, TlsFiles
from tests.host.campaign.oracle import Verdict, Witness, judge, receive
from tests.host.stand import wait_until

_LIFE = paths.ROOT / "tests" / "firmware" / "campaign" / "life.py"
_PATIENCE = 120.0  # seconds for one life
_SPOOL = TABLE_OFFSET + SECTOR

ZERO_MS = 2_000_000_000_000
"""When the first life of a node begins, in unix time."""

_LIFE_MS = 10_000_000
"""From a life's begin to the next one's."""


@dataclass(frozen=True)
class Cut:
    """A power cut at an operation of the flash, from 1: before it, torn, or after it."""

    operation: int
    how: str
    seed: int


class Field:
    """Use as a context manager; nodes may live at the same time, in threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority.create(folder / "pki")
        self.authority.issue_broker(["localhost"]).save(folder / "pki", "broker")
        self.authority.issue_console().save(folder / "pki", "console")
        self.search = [str(paths.FIRMWARE), str(parts.umqtt_simple())]
        self.port = 0  # the broker's
        self._inbox: dict[str, list[tuple[str, bytes]]] = defaultdict(list)
        self._is_up = threading.Event()
        self._stop = threading.Event()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        pki = self.folder / "pki"
        self.start_broker()
        tls = TlsFiles(pki / "ca.crt", pki / "console.crt", pki / "console.key")
        console = Subscriber("127.0.0.1", self.port, tls, client_id=CONSOLE, name="localhost")
        self._stack.enter_context(console)
        thread = threading.Thread(target=self._listen, args=(console,), daemon=True)
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(self._stop.set)
        assert self._is_up.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start_broker(self) -> None:
        """Start it, or start it again on its port; the subscriber is there before this returns."""
        again = self.port
        self._broker = self._stack.enter_context(start_broker(self.folder / "pki", port=again))
        self.port = self._broker.port
        if again:
            assert self._is_up.wait(30)

    def stop_broker(self) -> None:
        """End it; what it has not handed on by then nobody gets."""
        self._is_up.clear()
        self._broker.stop()

    def _listen(self, console: Subscriber) -> None:
        while not self._stop.is_set():
            event = console.next_event(0.1)
            if isinstance(event, Message):
                _, node, leaf = event.topic.split("/")
                self._inbox[node].append((leaf, event.payload))
            elif event is not None and event.is_up:
                self._is_up.set()

    def messages(self, node: str) -> Sequence[tuple[str, bytes]]:
        """What has come of a node: (leaf, payload)."""
        return self._inbox[node][:]

    def newest(self, node: str) -> int:
        """The number of the reading that came last, -1 before the first."""
        packs = [payload for leaf, payload in self._inbox[node][-20:] if leaf == "data"]
        return decode(packs[-1], node)[-1].seq if packs else -1

    def forget(self, node: str) -> None:
        self._inbox.pop(node, None)


class Node:
    """A node with a blank flash of a partition table and a spool of some sectors."""

    def __init__(self, field: Field, node_id: str, sectors: int) -> None:
        self.id = node_id
        self.witness = Witness()
        self.lives = 0
        self.output = ""
        self._field = field
        self._sectors = sectors
        self._folder = field.folder / node_id
        self._folder.mkdir()
        identity = field.authority.issue_node(node_id)
        for name, der in (("key", identity.key), ("chain", identity.chain[0]), ("trusted", identity.cas[0])):
            (self._folder / f"{name}.der").write_bytes(der)
        table = partitions.encode([partitions.Partition("spool", 1, 0x41, _SPOOL, sectors * SECTOR)])
        flash = bytearray(b"\xff" * (_SPOOL + sectors * SECTOR))
        flash[TABLE_OFFSET : TABLE_OFFSET + TABLE_SIZE] = table
        self.flash = self._folder / "flash.bin"
        self.flash.write_bytes(flash)

    def job(self, **more: object) -> Path:
        """A file that tells a script of tests/firmware/campaign what to do."""
        path = self._folder / "job.json"
        words = {
            "search": self._field.search,
            "board": str(paths.VIRTUAL_BOARD),
            "node": self.id,
            "flash": str(self.flash),
            "identity": str(self._folder),
            "port": self._field.port,
            "name": "localhost",
        }
        path.write_text(json.dumps(words | more))
        return path

    def live(
        self, phases: Sequence[tuple[str, int]], cut: Cut | None = None, slack_ms: int = 1000
    ) -> Mapping[str, Any] | None:
        """Power on until the phases are over, or the cut; what the spool says at the end, None when cut."""
        job = self.job(
            zero_ms=ZERO_MS,
            booted_ms=ZERO_MS + self.lives * _LIFE_MS,
            slack_ms=slack_ms,
            phases=list(phases),
            cut=cut and [cut.operation, cut.how, cut.seed],
        )
        words = [*micropython.command(), "-X", "heapsize=2m", str(_LIFE), str(job)]
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
        self.output = done.stdout
        self.lives += 1
        assert "Traceback" not in self.output, self.output[-3000:]
        self.witness.write_down(self.output)
        assert cut is not None or self.witness.end is not None, self.output[-3000:]
        return self.witness.end

    def verdict(self, kept: int) -> Verdict:
        """After the last life: what came, judged."""
        epoch = self.witness.epoch
        assert epoch is not None

        newest = max(self.witness.confirmed)
        wait_until(lambda: self._field.newest(self.id) >= newest, f"reading {newest} of {self.id}")
        received = receive(self.id, self._field.messages(self.id), epoch)
        return judge(self.witness, received, kept)
