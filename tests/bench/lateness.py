"""What the network can do to the sampler: its lateness while the broker is stopped, blacked out, hostile."""

import contextlib
import ssl
import statistics
import time
from collections.abc import Iterator
from itertools import pairwise

from host_tools.virtual.link import Link
from tests.bench.bench_node import BenchNode
from tests.bench.ground import Ground, result
from tests.bench.session import UMQTT
from tests.bench.table import Row, number
from tests.host import hostile
from tests.host.stand import Stand, wait_until

_PERIOD_MS = 100
_TROUBLE_S = 8.0  # of each kind
_CALM_S = 2.0  # before and between them
_SECONDS = 60.0  # of the canary, and of the peer
_MAY_US = 20_000
_HANDSHAKES = 10
_NOTE = (
    "A whole node on the virtual board; a sensor at 10 Hz says in each reading how late it was asked. The "
    f"broker is healthy, then, for {_TROUBLE_S:.0f} s each, stopped (SIGSTOP), behind a link that carries "
    "nothing, and replaced by one that sends garbage, endless lengths, a giant PUBLISH, a wrong PUBACK, or "
    "hangs up. The canary is a process that only wakes up 10 times a second, at the same time on the same "
    "machine: its lateness is the machine's own noise. MicroPython computes a TLS handshake in C, and "
    "nothing else runs meanwhile: the longest stretch of one, measured beside, is excepted. Handshakes are "
    "only in the hostile figure."
)


def rows(ground: Ground) -> list[Row]:
    stand = ground.stand
    with Link("127.0.0.1", stand.broker.port) as link, _evil_broker(stand) as evil:
        canary = ground.start("canary.py", _PERIOD_MS, _SECONDS)
        node = BenchNode(ground, link, ["late"], 10**6, _PERIOD_MS, keepalive=5, batch_ms=200)
        wait_until(lambda: node.look() >= 5, "the first readings")
        began = _now_ms()
        peer_s = 2 * _CALM_S + _TROUBLE_S
        peer = ground.start("umqtt_sampler.py", stand.broker.port, ground.identity, _PERIOD_MS, peer_s)
        times = {"healthy": _spend(_CALM_S)}
        with _stopped(stand):
            times["stopped"] = _spend(_TROUBLE_S)
        time.sleep(_CALM_S)
        link.blackout()
        times["blacked out"] = _spend(_TROUBLE_S)
        link.restore()
        time.sleep(_CALM_S)
        link.target = ("127.0.0.1", evil.port)
        link.reset()
        times["hostile"] = _spend(_TROUBLE_S)
        link.target = ("127.0.0.1", stand.broker.port)
        link.reset()
        end = _now_ms()
        wait_until(lambda: node.look() and node.readings[-1].unix_ms > end, "readings after the trouble", 90)
        node.off()
        handshake = statistics.median(
            ground.run("handshake.py", stand.broker.port, ground.identity, _HANDSHAKES)
        )
        noise = [us for at, us in result(canary) if began <= at <= end]
        umqtt = result(peer)
    once = {r.seq: (r.unix_ms, int((r.value or 0) * 1_000_000)) for r in node.readings}
    seen = [each for _, each in sorted(once.items()) if began <= each[0] <= end]
    # The grid begins with the first measurement: if that one was late itself, all others seem early.
    base = min(us for _, us in seen)
    worst = {
        name: max(us - base for at, us in seen if first <= at <= last)
        for name, (first, last) in times.items()
    }
    beyond = max(worst.values()) - max(noise)
    steps = [round((late - early) / _PERIOD_MS) for (early, _), (late, _) in pairwise(seen)]
    taken = len(steps) / sum(steps)
    peer_share = umqtt["taken"] * _PERIOD_MS / 1000 / peer_s
    phases = ", ".join(f"{name} {us / 1000:.1f}" for name, us in worst.items())
    return [
        Row(
            "sampler at 10 Hz, worst lateness beyond the machine's own noise, in trouble of all kinds",
            beyond / 1000,
            "ms",
            f"in ms: {phases}; canary {max(noise) / 1000:.1f}; handshake {handshake / 1000:.1f}",
            None,
            "at most 20 ms, and a TLS handshake",
            beyond <= _MAY_US + handshake,
            _NOTE,
        ),
        Row(
            "samples taken, of those that were due in that time",
            100 * taken,
            "%",
            f"{UMQTT}, broker stopped for {_TROUBLE_S:.0f} s: {100 * peer_share:.0f} %, "
            f"late by {number(umqtt['worst'] / 1000)} ms",
            None,
            "100 %",
            taken == 1,
            _NOTE,
        ),
    ]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _spend(seconds: float) -> tuple[int, int]:
    """Let time pass; from when to when, in unix ms."""
    start = _now_ms()
    time.sleep(seconds)
    return start, _now_ms()


@contextlib.contextmanager
def _stopped(stand: Stand) -> Iterator[None]:
    """The broker, stopped by a signal as long as the `with` block runs."""
    stand.broker.pause()
    try:
        yield
    finally:
        stand.broker.resume()


def _evil_broker(stand: Stand) -> hostile.Peer:
    """A broker with the right certificate and bad manners, another one for each connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(stand.pki / "broker.crt", stand.pki / "broker.key")
    context.load_verify_locations(stand.pki / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    scripts = [
        _then(b"\xff\x13\x37" * 100),
        _then(b"\x30\xff\xff\xff\xff\xff\xff\xff"),
        _then(b"\x30\xff\xff\xff\x7f\x00\x01x" + bytes(4096)),
        _then(b"\x40\x02\xbe\xef"),
        _hang_up,
        lambda link: link.handshake().until_gone(),
    ]
    return hostile.Peer(context, scripts)


def _then(data: bytes) -> hostile.Script:
    def script(link: hostile.Link) -> None:
        link.greet()
        link.send(data)
        link.until_gone()

    return script


def _hang_up(link: hostile.Link) -> None:
    link.greet()
    link.packet()
    link.reset()
