"""`make bench`: measures, prints, and writes docs/benchmarks.md and build/bench.json.

Speeds are given as ratios to a peer measured in the same run: machines differ, and are busy.
"""

import ast
import json
import os
import platform
import re
import statistics
import subprocess
import tempfile
import time
from itertools import pairwise, starmap
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from mpremote.transport_serial import SerialTransport

from host_tools import boards, image, micropython, parts, paths
from host_tools.virtual.board import VirtualBoard
from host_tools.virtual.world import World
from tests.bench.table import Row, markdown, number, write_json
from tests.host.stand import BME280_SPEC, Node, Stand, wait_until

NODE = Path(__file__).parent / "node"
QSTR_BYTES = 11  # of a name in a pool of the 64-bit port: pointer, hash, length
ROUNDS = 3
_FREE_HEAP = "import gc; gc.collect(); print(gc.mem_free())"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="limpet-bench-") as name:
        folder = Path(name)
        mpy = _unpack_firmware(folder / "mpy")
        with Stand(folder) as stand:
            uplink = _throughput(stand, folder, mpy)
            node = _node(stand)
        modules = _modules(mpy)
    rows = uplink + node + modules
    write_json(rows, paths.ROOT / "build" / "bench.json")
    report = _report(uplink + node, modules)
    (paths.ROOT / "docs" / "benchmarks.md").write_text(report)
    print(report)


def _unpack_firmware(folder: Path) -> Path:
    for name, data in image.firmware_files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def _micropython(script: Path, words: list[str], search: list[Path], heap: str) -> str:
    command = [*micropython.command(), "-X", f"heapsize={heap}", str(script), *words]
    environment = {**os.environ, "MICROPYPATH": ":".join([*map(str, search), ".frozen"])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return done.stdout


def _throughput(stand: Stand, folder: Path, mpy: Path) -> list[Row]:
    identity = stand.authority.issue_node("bench")
    (folder / "node.der").write_bytes(identity.chain[0])
    (folder / "node.key.der").write_bytes(identity.key)
    (folder / "ca.der").write_bytes(stand.authority.certificate.public_bytes(Encoding.DER))
    search = [mpy, parts.umqtt_simple()]

    def measure(which: str, count: int) -> dict[str, float]:
        words = [which, str(stand.broker.port), str(count), str(folder)]
        result: dict[str, float] = json.loads(_micropython(NODE / "client.py", words, search, "300k"))
        return result

    ours, theirs = [], []
    for _ in range(ROUNDS):  # in turn, so that a busy moment hits both
        theirs.append(40 / measure("umqtt", 40)["seconds"])
        ours.append(8000 / measure("limpet", 8000)["seconds"])
    ratio = statistics.median(ours) / statistics.median(theirs)
    session, simple = measure("limpet", 1)["heap"], measure("umqtt", 1)["heap"]
    return [
        Row(
            "QoS 1 messages of 64 bytes confirmed a second, TLS, window 64",
            statistics.median(ours),
            "1/s",
            f"umqtt.simple 1.3.4 on {stand.broker.title}: {number(statistics.median(theirs))}",
            ratio,
            "at least 100×",
            ratio >= 100,
        ),
        Row(
            "heap of the MQTT session: import, connect over TLS, one publish",
            session,
            "B",
            f"umqtt.simple 1.3.4 alone: {number(simple)}",
            session / simple,
        ),
    ]


def _node(stand: Stand) -> list[Row]:
    """What a whole node costs, and how fast it is there; on the virtual board, with one BME280."""
    bare_times = [_bare_board(stand) for _ in range(ROUNDS)]
    boots = []
    for _ in range(ROUNDS):
        node = stand.node(stand.settings(BME280_SPEC), node_id=f"boot{len(stand.nodes)}")
        began = time.monotonic()
        node.start()
        wait_until(lambda node=node: stand.payloads(node, "state"), "state")  # type: ignore[misc]
        boots.append(time.monotonic() - began)
    node.says("uplink: connected")
    wait_until(lambda: len(stand.payloads(node, "health")) >= 4, "health")
    health = stand.health(node)
    assert health is not None
    bare_free, bare_names, bare_pool = bare_times[0][1:]
    raw = bare_free - health["heap_free"]
    names, pool = _names(_interrupt(node))
    fair = _heap((0, bare_names, bare_pool), (raw, names, pool))
    bare = statistics.median(each[0] for each in bare_times)
    boot = statistics.median(boots)
    return [
        Row(
            "virtual board, power-on to the broker's first PUBACK",
            boot,
            "s",
            f"the bare board to its prompt: {bare:.2f} s",
            boot / bare,
        ),
        Row(
            "heap of the node after connecting, one BME280",
            fair,
            "B",
            f"with the growth of MicroPython's pool of names: {number(raw)}",
            None,
            "at most 45,000 B",
            fair <= 45000,
        ),
    ]


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
    said = port.exec("import micropython; micropython.qstr_info()").decode()
    [names] = _all_names(said)
    return names


def _all_names(said: str) -> list[tuple[int, int]]:
    """From qstr_info's lines: how many names there are, and the bytes of their pools without their text."""
    seen = re.findall(r"n_qstr=(\d+), n_str_data_bytes=(\d+), n_total_bytes=(\d+)", said)
    return [(int(count), int(total) - int(text)) for count, text, total in seen]


def _heap(before: tuple[int, int, int], after: tuple[int, int, int]) -> int:
    """Heap that was taken between two states: bytes in use, number of names, bytes of their pools.

    A pool of names doubles when it is full, and whether it is depends on how many others took before. So the
    growth of pools is left out, and each name counted with its place in one instead.
    """
    used, names, pool = (late - early for early, late in zip(before, after, strict=True))
    return used - pool + names * QSTR_BYTES


def _modules(mpy: Path) -> list[Row]:
    files = sorted((mpy / "limpet").rglob("*.mpy"))
    order = _import_order({_dotted(path.relative_to(mpy)): path for path in files})
    stock = [mpy, paths.VIRTUAL_BOARD, parts.umqtt_simple()]
    said = _micropython(NODE / "modules.py", order, stock, "1m")
    used = [int(number) for number in re.findall(r"^used (\d+)", said, re.MULTILINE)]
    states = [(each, *names) for each, names in zip(used, _all_names(said), strict=True)]
    costs = dict(zip(order, starmap(_heap, pairwise(states)), strict=True))
    rows = []
    for name in order:
        path = mpy / name.replace(".", "/")
        size = (
            path.with_suffix(".mpy") if path.with_suffix(".mpy").exists() else path / "__init__.mpy"
        ).stat()
        rows.append(Row(f"`{name}` .mpy", size.st_size, "B"))
        rows.append(Row(f"`{name}` heap after import", costs[name], "B"))
    return rows


def _dotted(path: Path) -> str:
    name = path.with_suffix("").as_posix().replace("/", ".")
    return name.removesuffix(".__init__")


def _import_order(modules: dict[str, Path]) -> list[str]:
    """Each module behind those that it imports, so that each is counted for itself."""
    needs = {name: _imports(name, modules) for name in modules}
    order: list[str] = []

    def place(name: str) -> None:
        if name not in order:
            for needed in sorted(needs[name]):
                place(needed)
            order.append(name)

    for name in sorted(modules):
        place(name)
    return order


def _imports(name: str, modules: dict[str, Path]) -> set[str]:
    source = paths.FIRMWARE / name.replace(".", "/")
    source = source / "__init__.py" if source.is_dir() else source.with_suffix(".py")
    found = {".".join(name.split(".")[: i + 1]) for i in range(name.count("."))}
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return (found & modules.keys()) - {name}


def _report(figures: list[Row], modules: list[Row]) -> str:
    machine = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"
    lines = [
        "# Benchmarks",
        "",
        f"Made by `make bench` on {time.strftime('%Y-%m-%d')} ({machine};",
        f"Python {platform.python_version()}, MicroPython {micropython.version()}, 64-bit).",
        "Peers ran in the same run: compare ratios, not seconds.",
        "Heap is that of MicroPython's unix port: objects take about half of it on an ESP32. The names that",
        "MicroPython interns are counted one by one, because their pool doubles when it is full.",
        "",
        markdown("Figures", figures),
        "## The firmware's modules",
        "",
        "Byte code on flash, and heap after import, each without what it imports itself.",
        "",
        "| module | .mpy | heap |",
        "|---|---|---|",
    ]
    for size, heap in zip(modules[::2], modules[1::2], strict=True):
        lines.append(
            f"| {size.name.removesuffix(' .mpy')} | {number(size.value)} B | {number(heap.value)} B |"
        )
    total = sum(row.value for row in modules[::2]), sum(row.value for row in modules[1::2])
    lines.append(f"| together | {number(total[0])} B | {number(total[1])} B |")
    lines += [
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
