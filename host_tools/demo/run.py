"""`limpet demo`: an authority, a broker, a virtual board and a console, for as long as one looks at them."""

import contextlib
import sys
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from host_tools import boards, image, micropython, parts, settings
from host_tools.broker import Broker, Kind, start_broker
from host_tools.demo.model import Summary
from host_tools.demo.screen import About
from host_tools.demo.show import show
from host_tools.errors import LimpetError
from host_tools.pki import files, partition
from host_tools.pki.authority import Authority
from host_tools.pki.names import CONSOLE
from host_tools.scratch import scratch_folder
from host_tools.telemetry.subscriber import Subscriber, TlsFiles
from host_tools.virtual import scene
from host_tools.virtual.bench import Bench
from host_tools.virtual.board import VirtualBoard
from host_tools.virtual.time_server import TimeServer
from host_tools.virtual.weather import recorded_weather

NODE = "demo-01"
_NODE_FILE = Path(__file__).with_name("node.toml")
_PATIENCE_S = 60.0
_LOG_LINES = 8


def run(
    readings: int | None, broker_kind: Kind | None, say: Callable[[str], None], *, as_json: bool = False
) -> Summary:
    """Show the node until `readings` have come, or until Ctrl-C. Leaves nothing running and nothing behind.
    `as_json` shows it as JSON, an object a line.

    Raises LimpetError when something cannot start, dies, or when no reading comes within a minute.
    """
    # First what a machine may lack, so that nothing is started in vain.
    micropython.command()
    parts.umqtt_simple(say)
    weather = recorded_weather(parts.weather_csv(say), datetime.now(UTC))
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch_folder("demo"))
        authority = Authority.create(folder / "pki")
        authority.issue_broker(["localhost", "127.0.0.1"]).save(folder / "pki", "broker")
        authority.issue_console().save(folder / "pki", "console")
        broker = stack.enter_context(
            start_broker(folder / "pki", prefer=broker_kind, run_folder=folder / "broker")
        )
        bench = stack.enter_context(Bench())
        clock = bench.run(TimeServer.open())
        bench.on_close(clock.close)

        flash = folder / "flash.bin"
        files.write_private(flash, _flash(authority, broker.port, clock.port, folder))
        # The console listens before the board lives, so that it sees the first reading.
        pki = folder / "pki"
        tls = TlsFiles(pki / "ca.crt", pki / "console.crt", pki / "console.key")
        console = Subscriber("127.0.0.1", broker.port, tls, client_id=CONSOLE, name="localhost")
        stack.enter_context(console)
        watch = _Watch(broker)
        board = boards.load_board("virtual")

        async def power_on() -> VirtualBoard:
            virtual = VirtualBoard(flash, board, scene.wire(weather), scene.MAC, on_output=watch.heard)
            await virtual.power_on()
            return virtual

        virtual = bench.run(power_on())
        bench.on_close(virtual.close)
        say(f"Broker: {broker.title} on port {broker.port}, client certificates only.")
        say(f"Node's serial port: {virtual.port.path}")
        about = About(broker.title, weather.note)
        return show(console, sys.stdout, readings, about, as_json=as_json, check=watch.check)


def _flash(authority: Authority, broker_port: int, ntp_port: int, folder: Path) -> bytes:
    node_file = folder / "node.toml"
    text = (
        _NODE_FILE.read_text().replace("{broker_port}", str(broker_port)).replace("{ntp_port}", str(ntp_port))
    )
    node_file.write_text(text)
    checked = settings.check(node_file)
    node = settings.to_node_json(checked.node_file, checked.board)
    contents = image.firmware_files() | {image.SETTINGS_NAME: settings.dump(node)}
    identity = partition.encode(authority.issue_node(NODE))
    return image.compose(checked.board, contents, identity)


class _Watch:
    """Notices when the demo cannot go on: the broker died, or the node says nothing."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._line = ""
        self._deadline: float | None = time.monotonic() + _PATIENCE_S

    def heard(self, data: bytes) -> None:
        """Output of the board's serial port."""
        *lines, self._line = (self._line + data.decode(errors="replace")).replace("\r", "").split("\n")
        self._log.extend(lines)
        if any("uplink: connected" in line for line in lines):
            self._deadline = None

    def check(self) -> None:
        """Raise LimpetError when there is nothing more to wait for."""
        if not self._broker.alive:
            raise LimpetError("The broker has ended by itself; start the demo again.")
        if self._deadline is not None and time.monotonic() > self._deadline:
            log = "\n".join(self._log)
            raise LimpetError(f"The node has not reached the broker within a minute; it said last:\n{log}")
