"""What a whole node costs, and how fast it is there; on the virtual board, with one BME280."""

import re
import statistics
import time

from mpremote.transport_serial import SerialTransport

from host_tools import boards, image
from host_tools.virtual.board import VirtualBoard
from host_tools.virtual.world import World
from tests.bench.ground import Ground
from tests.bench.table import Row, number
from tests.host.stand import BME280_SPEC, Node, Stand, wait_until

_QSTR_BYTES = 11  # of a name in a pool of the 64-bit port: pointer, hash, length
_ROUNDS = 3
_MOST = 45_000
_FREE_HEAP = "import gc; gc.collect(); print(gc.mem_free())"
_NOTE = (
    "Against the same board without firmware. The names that MicroPython interns are counted one by one, as "
    "their pool doubles when it is full."
)

State = tuple[int, int, int]
"""Bytes of heap in use, number of interned names, bytes of their pools without their text."""


def rows(ground: Ground) -> list[Row]:
    stand = ground.stand
    bare = [_bare_board(stand) for _ in range(_ROUNDS)]
    boots = []
    for _ in range(_ROUNDS):
        node = stand.node(stand.settings(BME280_SPEC), node_id=f"boot{len(stand.nodes)}")
        began = time.monotonic()
        node.start()
        wait_until(lambda node=node: stand.payloads(node, "state"), "state")  # type: ignore[misc]
        boots.append(time.monotonic() - began)
    node.says("uplink: connected")
    wait_until(lambda: len(stand.payloads(node, "health")) >= 4, "health")
    health = stand.health(node)
    assert health is not None
    _, free, names, pool = bare[0]
    raw = free - health["heap_free"]
    fair = heap_between((0, names, pool), (raw, *_names(_interrupt(node))))
    prompt, boot = statistics.median(each[0] for each in bare), statistics.median(boots)
    for each in stand.nodes[-_ROUNDS:]:
        each.power_off()
    return [
        Row(
            "virtual board, power-on to the broker's first PUBACK",
            boot,
            "s",
            f"the bare board to its prompt: {number(prompt)} s",
            boot / prompt,
        ),
        Row(
            "heap of the node after connecting, one BME280",
            fair,
            "B",
            f"with the growth of MicroPython's pool of names: {number(raw)}",
            None,
            f"at most {number(_MOST)} B",
            fair <= _MOST,
            _NOTE,
        ),
    ]


def heap_between(before: State, after: State) -> int:
    """Heap that was taken between two states.

    A pool of names doubles when it is full, and whether it is depends on how many others took before. So the
    growth of pools is left out, and each name counted with its place in one instead.
    """
    used, names, pool = (late - early for early, late in zip(before, after, strict=True))
    return used - pool + names * _QSTR_BYTES


def all_names(said: str) -> list[tuple[int, int]]:
    """From qstr_info's lines: how many names there are, and the bytes of their pools without their text."""
    seen = re.findall(r"n_qstr=(\d+), n_str_data_bytes=(\d+), n_total_bytes=(\d+)", said)
    return [(int(count), int(total) - int(text)) for count, text, total in seen]


def _bare_board(stand: Stand) -> tuple[float, int, int, int]:
    """Seconds to the prompt; free heap, number of names and bytes of their pools, without any firmware."""
    board = boards.load_board("virtual")
    flash = stand.folder / "bare.bin"
    flash.write_bytes(image.compose(board, {}))
    said = bytearray()

    async def start() -> VirtualBoard:
        bare = VirtualBoard(flash, board, World(), bytes(6), on_output=said.extend)
        await bare.power_on()
        return bare

    began = time.monotonic()
    bare = stand.bench.run(start())
    wait_until(lambda: b">>> " in said, "the prompt")
    took = time.monotonic() - began
    port = SerialTransport(bare.port.path, timeout=10)
    port.enter_raw_repl(soft_reset=True)
    free = int(port.exec(_FREE_HEAP))
    names, pool = _names(port)
    port.close()
    stand.bench.run(bare.close())
    return took, free, names, pool


def _interrupt(node: Node) -> SerialTransport:
    port = SerialTransport(node.board.port.path, timeout=10)
    port.enter_raw_repl(soft_reset=False)
    return port


def _names(port: SerialTransport) -> tuple[int, int]:
    [names] = all_names(port.exec("import micropython; micropython.qstr_info()").decode())
    return names
