"""A test stand: authority, broker, time server, virtual boards, and a console that sees what they publish."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from host_tools import boards, image
from host_tools.broker import Broker, Kind, start_broker
from host_tools.partitions import SECTOR
from host_tools.pki import partition
from host_tools.pki.authority import Authority
from host_tools.pki.names import CONSOLE
from host_tools.pki.partition import Identity
from host_tools.telemetry import event
from host_tools.telemetry.ledger import Ledger
from host_tools.telemetry.senml import Reading, decode
from host_tools.telemetry.subscriber import Message, Subscriber, TlsFiles
from host_tools.virtual.bench import Bench
from host_tools.virtual.board import VirtualBoard
from host_tools.virtual.parts.bme280 import BME280
from host_tools.virtual.parts.current_loop import CurrentLoop
from host_tools.virtual.parts.ds18b20 import DS18B20
from host_tools.virtual.radio import AccessPoint
from host_tools.virtual.stimulus import constant
from host_tools.virtual.time_server import TimeServer
from host_tools.virtual.world import I2CBus, OneWireBus, World

DEADLINE = 45.0  # seconds; many times what a busy machine needs
NETWORK = "stand"
BME280_SPEC = {"name": "bme280", "kind": "bme280", "period_ms": 500, "scl": 22, "sda": 21, "address": 0x76}
PROBE_SPEC = {"name": "probe", "kind": "ds18b20", "period_ms": 1000, "pin": 4}
LOOP_SPEC = {
    "name": "wind",
    "kind": "current_loop",
    "period_ms": 500,
    "pin": 34,
    "shunt_mohm": 100000,
    "quantity": "speed",
    "unit": "m/s",
    "decimals": 2,
    "low": 0,
    "high": 3000,
}


def wait_until(condition: Callable[[], object], what: str, seconds: float = DEADLINE) -> None:
    """Wait for a condition, or fail saying what did not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.02)


def _with_spool(sectors: int | None) -> boards.Board:
    board = boards.load_board("virtual")
    if sectors is None:
        return board
    others = [each for each in board.partition if each.name != "spool"]
    [spool] = [each for each in board.partition if each.name == "spool"]
    smaller = [spool.model_copy(update={"size": sectors * SECTOR})] if sectors else []
    return board.model_copy(update={"partition": [*others, *smaller]})


class Node:
    """A virtual board and what it is wired to: the three parts of the demo, at values that tests set."""

    def __init__(self, stand: "Stand", node_id: str, flash: Path) -> None:
        self.id = node_id
        self.flash = flash
        now = time.monotonic
        self.bme280 = BME280(now, constant(21.5), constant(100653.0), constant(45.0))
        self.probe = DS18B20(now, constant(19.0625))
        self.loop = CurrentLoop(now, constant(12.0), low=0, high=30, shunt_ohm=100.0)
        self.world = World(
            i2c={(22, 21): I2CBus([self.bme280])},
            onewire={4: OneWireBus([self.probe])},
            analog={34: self.loop},
            access_points=[AccessPoint(NETWORK)],
        )
        self._stand = stand
        self._log = bytearray()
        self._mac = bytes.fromhex("240ac40000") + bytes((len(stand.nodes) + 1,))

    @property
    def log(self) -> str:
        """Everything that the board has printed."""
        return self._log.decode(errors="replace").replace("\r", "")

    def start(self, **options: Any) -> Self:
        async def power_on() -> VirtualBoard:
            board = VirtualBoard(
                self.flash,
                boards.load_board("virtual"),
                self.world,
                self._mac,
                on_output=self._log.extend,
                **options,
            )
            await board.power_on()
            return board

        self.board = self._stand.bench.run(power_on())
        self._stand.bench.on_close(self.board.close)
        return self

    @contextlib.contextmanager
    def off_air(self) -> Iterator[None]:
        """Without Wi-Fi for as long as the `with` block runs."""
        networks = self.world.access_points[:]
        self.world.access_points.clear()
        yield
        self.world.access_points.extend(networks)

    def power_off(self) -> None:
        self._stand.bench.run(self.board.power_off())

    def power_on(self) -> None:
        self._stand.bench.run(self.board.power_on())

    def says(self, text: str, since: int = 0) -> None:
        """Wait until the board prints `text`, after the first `since` characters of its log."""
        try:
            wait_until(lambda: text in self.log[since:], repr(text))
        except AssertionError as e:
            raise AssertionError(f"{e}; the board said:\n{self.log[since:]}") from None


class Stand:
    """Use as a context manager. `kind` is the broker's; the console listens from the start."""

    def __init__(self, folder: Path, kind: Kind | None = None) -> None:
        self.folder = folder
        self.pki = folder / "pki"
        self.authority = Authority.create(self.pki)
        self.authority.issue_broker(["localhost", "127.0.0.1"]).save(self.pki, "broker")
        self.authority.issue_console().save(self.pki, "console")
        self.nodes: list[Node] = []
        self.messages: list[Message] = []
        self.console_is_up = False
        self._kind = kind
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.broker = self.start_broker()
        self.bench = self._stack.enter_context(Bench())
        self.time_server = self.bench.run(TimeServer.open())
        self.bench.on_close(self.time_server.close)
        self._connect_console()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start_broker(self, port: int = 0) -> Broker:
        return self._stack.enter_context(start_broker(self.pki, port=port, prefer=self._kind))

    def restart_broker(self, node: Node, pause: float = 0.0) -> None:
        """Bring a stopped broker back on its port; the console is there before the node is."""
        with node.off_air():
            time.sleep(pause)
            self.broker = self.start_broker(self.broker.port)
            wait_until(lambda: self.console_is_up, "the console at the new broker")

    def stop_broker(self) -> None:
        self.broker.stop()
        wait_until(lambda: not self.console_is_up, "the console without a broker")

    def _connect_console(self) -> None:
        tls = TlsFiles(self.pki / "ca.crt", self.pki / "console.crt", self.pki / "console.key")
        console = Subscriber("127.0.0.1", self.broker.port, tls, client_id=CONSOLE, name="localhost")
        self._stack.enter_context(console)
        stop = threading.Event()

        def listen() -> None:
            while not stop.is_set():
                event = console.next_event(0.1)
                if isinstance(event, Message):
                    self.messages.append(event)
                elif event is not None:
                    self.console_is_up = event.is_up

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(stop.set)
        wait_until(lambda: self.console_is_up, "the console")

    def settings(self, *sensors: Mapping[str, object], **changes: object) -> dict[str, Any]:
        """Settings as the node reads them, for this stand's broker and time server."""
        return {
            "v": 1,
            "board": "virtual",
            "prefix": "limpet",
            "keepalive": 10,
            "health_s": 1,
            "batch_ms": 200,
            "retry_ms": 300,
            "wifi": [{"ssid": NETWORK}],
            "brokers": [{"host": "127.0.0.1", "port": self.broker.port, "name": "localhost"}],
            "ntp": [{"host": "127.0.0.1", "port": self.time_server.port}],
            "sensors": list(sensors) or [BME280_SPEC, PROBE_SPEC, LOOP_SPEC],
            **changes,
        }

    def node(
        self,
        settings: Mapping[str, object] | None = None,
        node_id: str = "n01",
        identity: Identity | bytes | None = None,
        files: Mapping[str, bytes] | None = None,
        spool_sectors: int | None = None,
    ) -> Node:
        """A node with its flash composed, not started. `identity` b"" leaves the partition blank, and
        `spool_sectors` makes the spool smaller than the board has it; with 0 it is not there at all."""
        contents = dict(image.firmware_files() if files is None else files)
        if files is None:
            contents[image.SETTINGS_NAME] = json.dumps(settings or self.settings()).encode()
        if identity is None:
            identity = self.authority.issue_node(node_id)
        encoded = identity if isinstance(identity, bytes) else partition.encode(identity)
        flash = self.folder / f"flash-{len(self.nodes)}.bin"
        flash.write_bytes(image.compose(_with_spool(spool_sectors), contents, encoded))
        node = Node(self, node_id, flash)
        self.nodes.append(node)
        return node

    # What the console has seen

    def payloads(self, node: Node, leaf: str) -> list[bytes]:
        topic = f"limpet/{node.id}/{leaf}"
        return [m.payload for m in list(self.messages) if m.topic == topic]

    def state(self, node: Node) -> dict[str, Any] | None:
        seen = self.payloads(node, "state")
        return json.loads(seen[-1]) if seen else None

    def health(self, node: Node) -> dict[str, Any] | None:
        seen = self.payloads(node, "health")
        return json.loads(seen[-1]) if seen else None

    def readings(self, node: Node, channel: str = "") -> list[Reading]:
        """All readings as they came, of one channel or of all."""
        found = [r for payload in self.payloads(node, "data") for r in decode(payload, node.id)]
        return [r for r in found if channel in ("", r.channel)]

    def ledger(self, node: Node) -> Ledger:
        """The readings counted, as a receiver counts them that knows each by (node, epoch, seq)."""
        ledger = Ledger(from_start=True)
        for reading in self.readings(node):
            ledger.add(reading.node, reading.epoch, reading.seq)
        for gap in self.gaps(node):
            ledger.explain(node.id, gap.epoch, gap.first, gap.last)
        return ledger

    def gaps(self, node: Node) -> list[event.Gap]:
        """The losses that the node has told."""
        told = [event.decode(payload) for payload in self.payloads(node, "event")]
        return [each for each in told if isinstance(each, event.Gap)]

    def wait_for_readings(self, node: Node, count: int, channel: str = "") -> list[Reading]:
        try:
            wait_until(
                lambda: len(self.readings(node, channel)) >= count,
                f"{count} readings of {channel or node.id}",
            )
        except AssertionError as e:
            raise AssertionError(f"{e}; the board said:\n{node.log}") from None
        return self.readings(node, channel)
