"""How many virtual boards this machine carries, each a whole node that publishes once a second over TLS."""

import os
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from host_tools.telemetry.senml import decode
from host_tools.virtual.limits import allow_files
from tests.bench.ground import Ground
from tests.bench.table import Row, number
from tests.host.stand import BME280_SPEC, Node, Stand, wait_until

TARGET = 20
_PERIOD_MS = 1000
_MOST = 200  # boards: what a stand has MACs for
_SETTLE_S = 3.0  # from the first readings until boots and handshakes are over
_TRIAL_S = 5.0
_SECONDS = 45.0
_FILES = 16  # that a board needs open in our process, and some more
_PROC = Path("/proc")
_SHARE = 0.7  # of the machine's time that boards may take; what is left is for starts, and for who measures
_STEP = 20  # boards fewer when it was too many
_LATE_MS = 1000  # a reading on its way for longer came too late for a board that says one each second
_NOTE = (
    "Whole nodes with a BME280, each with its own key, certificate and connection, one measurement and one "
    f"message a second. {TARGET} of them show what a board costs; then as many run as {_SHARE * 100:.0f} % "
    f"of the machine's cores allow, for {_SECONDS:.0f} s, and {_STEP} fewer until none of them leaves out a "
    "measurement or a number, and no reading takes longer than a second. CPU is that of MicroPython and of "
    "the share of the process that plays the chips, in percent of one core; memory is what MicroPython's "
    "process holds for itself (proportional set size)."
)

Arrival = tuple[int, int, float]
"""A reading's number, when it was taken and when it came, in unix ms."""


@dataclass(frozen=True)
class _Watch:
    """What boards did for a while: CPU in seconds of one core a second, and when it was, in unix ms."""

    board_cpu: float
    supervisor_cpu: float
    start_ms: int
    end_ms: int


def rows(ground: Ground) -> list[Row]:
    if not _PROC.is_dir():
        print("boards: left out, as it needs Linux's /proc", file=sys.stderr)
        return []
    allow_files(_MOST * _FILES)
    stand = ground.stand
    nodes: list[Node] = []
    _grow(stand, nodes, TARGET)
    trial = _watch(nodes, _TRIAL_S)
    cpu = (trial.board_cpu + trial.supervisor_cpu) / len(nodes)
    _grow(stand, nodes, max(TARGET, min(_MOST, int(_SHARE * (os.cpu_count() or 1) / cpu))))
    while True:
        watch = _watch(nodes, _SECONDS)
        delays = [worst_delay(_arrivals(stand, node), watch.start_ms, watch.end_ms) for node in nodes]
        alive = sum(delay is not None and delay <= _LATE_MS for delay in delays)
        if alive == len(nodes) or len(nodes) <= TARGET:
            break
        while len(nodes) > max(TARGET, alive - _STEP):
            nodes.pop().power_off()
    memory = sum(_memory(node) for node in nodes) / len(nodes)
    for node in nodes:
        node.power_off()
    each, supervisor = (100 * cpu / len(nodes) for cpu in (watch.board_cpu, watch.supervisor_cpu))
    slowest = max(_SECONDS * 1000 if delay is None else delay for delay in delays)
    return [
        Row(
            "virtual boards alive, each publishing at 1 Hz over TLS",
            alive,
            "boards",
            f"started: {len(nodes)}; their slowest reading was {number(slowest)} ms on its way",
            None,
            f"at least {TARGET}",
            alive >= TARGET,
            _NOTE,
        ),
        Row("CPU of such a board", each + supervisor, "%", f"MicroPython {number(each)} of it", note=_NOTE),
        Row("memory of such a board", memory / 1e6, "MB", note=_NOTE),
    ]


def _grow(stand: Stand, nodes: list[Node], count: int) -> None:
    """Have so many boards, all with a first reading received."""
    new = []
    for _ in range(count - len(nodes)):
        sensor = {**BME280_SPEC, "period_ms": _PERIOD_MS}
        settings = stand.settings(sensor, health_s=3600, keepalive=30)
        new.append(stand.node(settings, node_id=f"alive{len(stand.nodes)}"))
    for node in new:
        node.start()
    for node in new:
        node.says("uplink: connected")
    wait_until(lambda: all(_has_data(stand, node) for node in new), "a first reading of each board")
    nodes += new
    time.sleep(_SETTLE_S)


def _has_data(stand: Stand, node: Node) -> bool:
    topic = f"limpet/{node.id}/data"
    return any(message.topic == topic for message in reversed(stand.messages[:]))


def _watch(nodes: list[Node], seconds: float) -> _Watch:
    start, cpu, own, began = time.time(), _cpu(nodes), time.process_time(), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    board_cpu, supervisor_cpu = (_cpu(nodes) - cpu) / took, (time.process_time() - own) / took
    time.sleep(_LATE_MS / 1000)  # for what was taken last
    return _Watch(board_cpu, supervisor_cpu, int(start * 1000), int((start + took) * 1000))


def _arrivals(stand: Stand, node: Node) -> list[Arrival]:
    topic = f"limpet/{node.id}/data"
    return [
        (reading.seq, reading.unix_ms, message.received * 1000)
        for message in stand.messages[:]
        if message.topic == topic
        for reading in decode(message.payload, node.id)
    ]


def worst_delay(arrivals: list[Arrival], start_ms: int, end_ms: int) -> float | None:
    """Milliseconds from a measurement to the arrival of its reading, the longest of those taken in this time.

    None if a measurement was left out, or a reading did not come.
    """
    latest_first = sorted(arrivals, reverse=True)  # of a reading that came twice, the first arrival stays
    came = {seq: (taken, at) for seq, taken, at in latest_first if start_ms <= taken < end_ms}
    numbers = sorted(came)
    if not numbers or numbers != list(range(numbers[0], numbers[-1] + 1)):
        return None
    times = [start_ms, *sorted({taken for taken, _ in came.values()}), end_ms]
    if any(late - early >= 1.5 * _PERIOD_MS for early, late in pairwise(times)):
        return None
    return max(at - taken for taken, at in came.values())


def _cpu(nodes: list[Node]) -> float:
    """Seconds of CPU that the boards' MicroPython has taken."""
    ticks = 0
    for node in nodes:
        fields = (_PROC / str(node.board.pid) / "stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # utime and stime: proc(5)
    return ticks / os.sysconf("SC_CLK_TCK")


def _memory(node: Node) -> int:
    """Bytes that MicroPython's process holds, what it shares divided by those who share it."""
    lines = (_PROC / str(node.board.pid) / "smaps_rollup").read_text().splitlines()
    [kilobytes] = [line.split()[1] for line in lines if line.startswith("Pss:")]
    return int(kilobytes) * 1024
