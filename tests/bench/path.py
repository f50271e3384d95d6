"""The whole way of a reading, in a hurry: sampler, spool, uplink, TLS, and 20 ms to the broker and back."""

from host_tools.virtual.link import Conditions, Link
from tests.bench.bench_node import BenchNode
from tests.bench.ground import Ground
from tests.bench.session import LATENCY
from tests.bench.table import Row, number

_LEAVES = ["temperature", "pressure", "humidity"]
_COUNT = 8000  # measurements; all their readings fit into the spool
_NOTE = (
    "A whole node on the virtual board, with a sensor of three channels that is always due. Readings that an "
    "independent subscriber received while it sampled, a second. Beside it the uplink alone: the same node "
    "with a backlog in its spool and no more measurements to take."
)


def rows(ground: Ground) -> list[Row]:
    with Link("127.0.0.1", ground.stand.broker.port) as link:
        link.conditions = Conditions(latency=LATENCY)
        node = BenchNode(ground, link, _LEAVES, _COUNT, 1)
        end = node.wait_taken()
        node.wait_delivered()
        node.off()
        start = node.arrivals[0][0]
        whole = node.rate(start + (end - start) / 5, end)

        link.refuse()
        alone = BenchNode(ground, link, _LEAVES, _COUNT, 1)
        alone.wait_taken()
        link.restore()
        alone.wait_delivered()
        alone.off()
        start, end = alone.arrivals[0][0], alone.arrivals[-1][0]
        drained = alone.rate(start + (end - start) / 10, end)
    return [
        Row(
            "readings confirmed a second through sampler, spool and uplink, 20 ms round trip, TLS",
            whole,
            "1/s",
            f"the uplink alone: {number(drained)}",
            whole / drained,
            "at least 2,000",
            whole >= 2000,
            _NOTE,
        )
    ]
