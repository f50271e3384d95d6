"""A whole node on a virtual board, with a sensor of the benchmark's and its broker behind a link."""

import json
import time
from collections.abc import Callable

from host_tools import image, micropython
from host_tools.telemetry.senml import Reading, decode
from host_tools.virtual.link import Link
from tests.bench.ground import SCRIPTS, Ground
from tests.host.stand import Node, wait_until

SENSOR = "bme280"
WAIT_MS = 2500  # of the first measurement: until then the clock is set and the node connected
_IN_ITS_PLACE = "limpet/sensors/current_loop.mpy"
_SECONDS = 90.0


class BenchNode:
    """Starts at once. `count` measurements of all `leaves` are taken, one each `period_ms`."""

    def __init__(
        self, ground: Ground, link: Link, leaves: list[str], count: int, period_ms: int, **changes: object
    ) -> None:
        stand = ground.stand
        sensor = {
            "name": SENSOR,
            "kind": "current_loop",
            "period_ms": period_ms,
            "leaves": leaves,
            "count": count,
            "wait_ms": WAIT_MS,
        }
        brokers = [{"host": "127.0.0.1", "port": link.port, "name": "localhost"}]
        quiet = {"keepalive": 60, "health_s": 3600, "retry_ms": 100, "brokers": brokers}
        settings = stand.settings(sensor, **{**quiet, **changes})
        files = {
            **image.firmware_files(),
            _IN_ITS_PLACE: micropython.cross_compile(SCRIPTS / "sensor.py", "sensor.py"),
            image.SETTINGS_NAME: json.dumps(settings).encode(),
        }
        self._stand = stand
        self._read = 0  # of the stand's messages
        self.expected = count * len(leaves)
        self.readings: list[Reading] = []
        """What the console has received."""
        self.arrivals: list[tuple[float, int]] = []
        """For each pack when it came (unix time), and how many readings there were with it."""
        self.node: Node = stand.node(node_id=f"n{len(stand.nodes):02}", files=files).start()

    def look(self) -> int:
        """How many readings have come."""
        messages = self._stand.messages
        for message in messages[self._read :]:
            self._read += 1
            if message.topic == f"limpet/{self.node.id}/data":
                self.readings += decode(message.payload, self.node.id)
                self.arrivals.append((message.received, len(self.readings)))
        return len(self.readings)

    def wait_taken(self) -> float:
        """Wait until all measurements are taken; unix time."""
        self._wait(lambda: "sensor: done" in self.node.log, "all measurements taken")
        return time.time()

    def wait_delivered(self) -> None:
        """Wait until the console has every reading, and check that it is each of them."""
        self._wait(lambda: self.look() >= self.expected, f"{self.expected} readings")
        numbers = {reading.seq for reading in self.readings}
        assert len(numbers) == self.expected, "readings are missing or came twice"

    def _wait(self, condition: Callable[[], object], what: str) -> None:
        try:
            wait_until(condition, what, _SECONDS)
        except AssertionError as e:
            raise SystemExit(f"{e}; the board said:\n{self.node.log}") from None

    def off(self) -> None:
        self.node.power_off()

    def rate(self, start: float, end: float) -> float:
        """Readings that came in a second, between two moments."""
        seen = [(at, count) for at, count in self.arrivals if start <= at <= end]
        (first, before), (last, after) = seen[0], seen[-1]
        return (after - before) / (last - first)
