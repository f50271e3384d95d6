"""What a reading costs on the wire."""

import time

from host_tools.virtual.link import Link
from tests.bench.bench_node import BenchNode
from tests.bench.ground import Ground
from tests.bench.session import UMQTT
from tests.bench.table import Row, number
from tests.host.stand import wait_until

_ALONE = 40
_ALONE_PERIOD_MS = 200
_BACKLOG = 999  # readings, of three channels
_SETTLE_S = 1.0  # for the last PUBACK
_NOTE = (
    "Bytes of TCP's payload in both directions, PUBACKs and TLS included, of a whole node (`n01`, channels "
    f"like `bme280/temperature`) that delivers {_ALONE} readings one by one, or {_BACKLOG} of three channels "
    "at once; less those of the same node that delivers one reading: handshake, `state` and `about` so drop "
    "out."
)


def rows(ground: Ground) -> list[Row]:
    with Link("127.0.0.1", ground.stand.broker.port) as link:
        base = _bytes(ground, link, ["temperature"], 1, 200)
        alone = (_bytes(ground, link, ["temperature"], 1 + _ALONE, _ALONE_PERIOD_MS) - base) / _ALONE
        leaves = ["temperature", "pressure", "humidity"]
        base = _bytes(ground, link, leaves, 1, 10, late=True)
        count = _BACKLOG // len(leaves)
        backlog = (_bytes(ground, link, leaves, 1 + count, 10, late=True) - base) / _BACKLOG
        peer = (_peer_bytes(ground, link, 1 + _ALONE) - _peer_bytes(ground, link, 1)) / _ALONE
    return [
        Row(
            "TLS bytes on the wire for each reading, alone",
            alone,
            "B",
            f"a message of 64 bytes by {UMQTT}: {number(peer)}",
            alone / peer,
            target="at most 190",
            met=alone <= 190,
            note=_NOTE,
        ),
        Row(
            "TLS bytes on the wire for each reading, in a backlog of 1,000",
            backlog,
            "B",
            target="at most 40",
            met=backlog <= 40,
            note=_NOTE,
        ),
    ]


def _bytes(
    ground: Ground, link: Link, leaves: list[str], count: int, period_ms: int, *, late: bool = False
) -> int:
    """What a node's only connection carried; `late`: it connects when all measurements are taken."""
    if late:
        link.refuse()
    node = BenchNode(ground, link, leaves, count, period_ms, batch_ms=0 if not late else 200)
    node.wait_taken()
    link.restore()
    node.wait_delivered()
    time.sleep(_SETTLE_S)
    connection = link.connections[-1]
    node.off()
    odd = [r for r in node.readings[len(leaves) :] if r.quality != "synced"]
    assert not odd, f"{len(odd)} readings were taken before the clock was set"
    return connection.up.bytes + connection.down.bytes


def _peer_bytes(ground: Ground, link: Link, count: int) -> int:
    """What umqtt.simple's connection carried for so many messages."""
    ground.run("client.py", "umqtt", link.port, count, ground.identity)
    wait_until(lambda: link.connections[-1].end, "the end of the connection")
    connection = link.connections[-1]
    return connection.up.bytes + connection.down.bytes
