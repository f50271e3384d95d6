"""What the MQTT session can do by itself, beside its peers: messages a second, and heap."""

import statistics

from host_tools.virtual.link import Conditions, Link
from tests.bench.ground import Ground
from tests.bench.table import Row, number

LATENCY = 0.010  # seconds each way
WINDOW = 64
LIMIT = WINDOW / (2 * LATENCY)
ROUNDS = 3
UMQTT, CHUMICRO = "umqtt.simple 1.3.4", "chumicro-mqtt 0.30.3"
# Messages to send: some seconds of each client, at 20 ms round trip and without delay.
_COUNTS = {"limpet": (8000, 16000), "umqtt": (24, 40), "chumicro": (8000, 8000)}

_SPEED = (
    "PUBACKs that came, divided by the seconds from the first publish to the last PUBACK; mutual TLS, "
    "64 bytes of payload, median of {} runs in turn. The delay is made by a proxy, which answers for TCP "
    "itself: a small write that Nagle's algorithm holds back waits less than on a real link. chumicro-mqtt "
    "has no window: it sends whatever it is given."
)
_HEAP = (
    "Bytes in use after import, connect and one acknowledged publish, less those in use before. Before are "
    "what the stock image has loaded (socket, struct and the like) and the SSLContext. MicroPython's pool of "
    "names grows with each client, and is counted. (mqtt_as 0.8.3, which PyPI does not have, took 31,600 B "
    "in an earlier measurement.)"
)


def rows(ground: Ground) -> list[Row]:
    """The speed with and without delay, and the heap."""
    with Link("127.0.0.1", ground.stand.broker.port) as link:
        link.conditions = Conditions(latency=LATENCY)
        far = _speeds(ground, link.port, 0)
        link.conditions = Conditions()
        near = _speeds(ground, ground.stand.broker.port, 1)
    note = _SPEED.format(ROUNDS)
    share = far["limpet"] / LIMIT
    return [
        Row(
            "QoS 1 messages of 64 bytes confirmed a second, 20 ms round trip, TLS, window 64",
            far["limpet"],
            "1/s",
            _beside(far),
            far["limpet"] / far["umqtt"],
            "at least 200×",
            far["limpet"] / far["umqtt"] >= 200,
            note,
        ),
        Row(
            "the same, as a share of what the window allows",
            share,
            "",
            f"64 ÷ 20 ms: {number(LIMIT)}, which is {number(LIMIT / far['umqtt'])}× umqtt.simple",
            None,
            "at least 0.8",
            share >= 0.8,
            note,
        ),
        Row(
            "QoS 1 messages of 64 bytes confirmed a second, no delay, TLS, window 64",
            near["limpet"],
            "1/s",
            _beside(near),
            near["limpet"] / near["umqtt"],
            "at least 100×",
            near["limpet"] / near["umqtt"] >= 100,
            note,
        ),
        _heap(ground),
    ]


def _speeds(ground: Ground, port: int, which: int) -> dict[str, float]:
    seen: dict[str, list[float]] = {name: [] for name in _COUNTS}
    for _ in range(ROUNDS):  # in turn, so that a busy moment hits all
        for name, counts in _COUNTS.items():
            told = ground.run("client.py", name, port, counts[which], ground.identity, heap="16m")
            seen[name].append(counts[which] / told["seconds"])
    return {name: statistics.median(speeds) for name, speeds in seen.items()}


def _beside(speeds: dict[str, float]) -> str:
    return f"{UMQTT}: {number(speeds['umqtt'])}; {CHUMICRO}: {number(speeds['chumicro'])}"


def _heap(ground: Ground) -> Row:
    def heap(name: str) -> int:
        told: dict[str, int] = ground.run("client.py", name, ground.stand.broker.port, 1, ground.identity)
        return told["heap"]

    ours, umqtt, chumicro = heap("limpet"), heap("umqtt"), heap("chumicro")
    return Row(
        "heap of the MQTT session after import, connect and one publish",
        ours,
        "B",
        f"{UMQTT}: {number(umqtt)}; {CHUMICRO}: {number(chumicro)}",
        ours / umqtt,
        "at most 12,000 B",
        ours <= 12000,
        _HEAP,
    )
