"""Nodes whose every measurement is accounted for, from outside: the sensor counts, and a console receives.

The sensor gives each measurement a value of its own and writes down when it was made. Every one must arrive,
in order, with its value and its time, and nothing else. How late the sampler was is recorded too, beside a
canary: a process that only wakes up as often.
"""

import json
import subprocess
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from host_tools import micropython
from host_tools.broker import Broker, start_broker
from host_tools.telemetry.senml import Reading, decode
from host_tools.virtual.link import Link
from host_tools.virtual.parts.bme280 import BME280
from host_tools.virtual.world import I2CBus
from tests.host.stand import BME280_SPEC, Node, Stand, wait_until

PERIOD = 0.1  # seconds between two measurements
PATIENCE = 120.0  # seconds until everything must have arrived: the longest backoff, many times over
SPEC = BME280_SPEC | {"period_ms": int(PERIOD * 1000)}
CLOCK_ERROR = 1.0  # seconds: what a busy machine makes of SNTP, many times over
SEED = 7

# In the order of their sequence numbers: the first value, the step to the next measurement's, after how many
# they begin again, and how far off a value may be by the sensor's resolution.
CHANNELS = {
    "bme280/temperature": (-30.0, 0.05, 2000, 0.02),
    "bme280/pressure": (40000.0, 20.0, 3000, 7.0),
    "bme280/humidity": (10.0, 0.5, 150, 0.2),
}
NAMES = tuple(CHANNELS)


class Counter:
    """A BME280 whose n-th measurement has the n-th values. `taken` says when each was made, in unix time."""

    def __init__(self) -> None:
        self.taken: list[float] = []
        self._zero = time.time()
        temperature, pressure, humidity = NAMES

        def measure(seconds: float) -> float:  # the chip asks for the temperature first
            self.taken.append(self._zero + seconds)
            return expected(temperature, len(self.taken) - 1)

        self.part = BME280(
            time.monotonic,
            measure,
            lambda _: expected(pressure, len(self.taken) - 1),
            lambda _: expected(humidity, len(self.taken) - 1),
        )

    @property
    def longest_gap(self) -> float:
        """Seconds between two measurements, at most."""
        return max(after - before for before, after in pairwise(self.taken))

    @property
    def missed(self) -> int:
        """Measurements that should have been made in between and were not."""
        return round((self.taken[-1] - self.taken[0]) / PERIOD) + 1 - len(self.taken)


def expected(channel: str, measurement: int) -> float:
    first, step, count, _ = CHANNELS[channel]
    return first + step * (measurement % count)


class Oracle:
    """What has come of one node, compared with what its sensor has measured."""

    def __init__(self, stand: Stand, node: Node, counter: Counter) -> None:
        self._stand = stand
        self._topic = f"limpet/{node.id}/"
        self._counter = counter
        self._seen = 0
        self.node = node
        self.readings: list[Reading] = []
        self.duplicates = 0
        self.health: list[dict[str, Any]] = []

    def look(self) -> int:
        """Judge what is new. The number of the reading that must come next."""
        messages = self._stand.messages
        while self._seen < len(messages):
            message = messages[self._seen]
            self._seen += 1
            if message.topic == self._topic + "data":
                for reading in decode(message.payload, self.node.id):
                    self._judge(reading)
            elif message.topic == self._topic + "health":
                self.health.append(json.loads(message.payload))
            elif message.topic == self._topic + "event":
                raise AssertionError(f"nothing was lost, but: {message.payload!r}\n{self.node.log}")
        return len(self.readings)

    def _judge(self, reading: Reading) -> None:
        next_one = len(self.readings)
        assert reading.seq <= next_one, f"{next_one} is missing before {reading}\n{self.node.log}"
        if reading.seq < next_one:
            self.duplicates += 1
            assert reading == self.readings[reading.seq], "the same number, and another reading"
            return
        measurement, at = divmod(reading.seq, len(NAMES))
        channel = NAMES[at]
        assert reading.epoch == (self.readings or [reading])[0].epoch, reading
        assert measurement < len(self._counter.taken), f"invented: {reading}"
        value = expected(channel, measurement)
        right = reading.value is not None and abs(float(reading.value) - value) <= CHANNELS[channel][3]
        assert (reading.channel, right) == (channel, True), f"{reading} should be {channel} {value:g}"
        error = reading.unix_ms / 1000 - self._counter.taken[measurement]
        assert abs(error) < CLOCK_ERROR, f"{reading} is misdated by {error:.3f} s"
        assert reading.quality in ("synced", "recovered"), reading
        self.readings.append(reading)

    def wait_for_all(self) -> None:
        """Wait for everything that has been measured until now."""
        self.wait_for(len(self._counter.taken) * len(NAMES))

    def wait_for(self, count: int) -> None:
        """Wait for the first `count` readings."""
        try:
            wait_until(lambda: self.look() >= count, f"{count} readings", PATIENCE)
        except AssertionError as e:
            raise AssertionError(f"{e}, but {len(self.readings)}; the board said:\n{self.node.log}") from None

    def summary(self) -> str:
        """What was counted, for people."""
        late = max((h["late_ms"] for h in self.health), default=0)
        missed = max((h["missed"] for h in self.health), default=0)
        gap = round(self._counter.longest_gap * 1000)
        return (
            f"{self.node.id}: {len(self.readings)} readings, {self.duplicates} twice; late by {late} ms, "
            f"{missed} missed (health); longest gap {gap} ms, {self._counter.missed} missed (sensor)"
        )


class Canary:
    """MicroPython that wakes up every PERIOD, as the sampler does, and has nothing else to do."""

    _SCRIPT = f"""
import select, sys, time
poller = select.poll()
poller.register(sys.stdin, select.POLLIN)
period = {int(PERIOD * 1000)}
due = time.ticks_ms()
worst = 0
while not poller.poll(0):
    due = time.ticks_add(due, period)
    time.sleep_ms(max(0, time.ticks_diff(due, time.ticks_ms())))
    worst = max(worst, time.ticks_diff(time.ticks_ms(), due))
    if time.ticks_diff(time.ticks_ms(), due) >= period:
        due = time.ticks_ms()
print(worst)
"""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [*micropython.command(), "-c", self._SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def worst_ms(self) -> int:
        """End it; by how much it was late at worst."""
        said, _ = self._process.communicate(timeout=20)
        return int(said)

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


class Network(Stand):
    """A stand whose broker may keep its sessions over a restart."""

    def __init__(self, folder: Path, persistent: bool = False) -> None:
        super().__init__(folder, "mosquitto")
        self._persistent = persistent

    def start_broker(self, port: int = 0) -> Broker:
        broker = start_broker(
            self.pki,
            port=port,
            prefer="mosquitto",
            run_folder=self.folder / "broker",
            persistent=self._persistent,
        )
        return self._stack.enter_context(broker)

    def link(self, port: int = 0) -> Link:
        """A link to the broker, or to another port."""
        return self._stack.enter_context(Link("127.0.0.1", port or self.broker.port, seed=SEED))

    def counting_node(
        self, brokers: Sequence[Link], node_id: str = "n01", host: str = "127.0.0.1", **changes: object
    ) -> Oracle:
        """A node with one counting sensor that knows brokers behind these links; not started."""
        known = [{"host": host, "port": link.port, "name": "localhost"} for link in brokers]
        changes = {"brokers": known, "retry_ms": 500} | changes
        node = self.node(self.settings(SPEC, **changes), node_id)
        counter = Counter()
        node.world.i2c[22, 21] = I2CBus([counter.part])
        return Oracle(self, node, counter)
