"""docs/benchmarks.md: the figures as a person reads them."""

import os
import platform
import time
from collections.abc import Sequence

from host_tools import micropython
from tests.bench.table import Row, markdown, number


def report(figures: Sequence[Row], modules: Sequence[Row]) -> str:
    """The page. `modules` has two rows for each module, as tests.bench.modules gives them."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"
    missed = sum(row.met is False for row in figures)
    targets = sum(row.met is not None for row in figures)
    lines = [
        "# Benchmarks",
        "",
        f"Made by `make bench` on {time.strftime('%Y-%m-%d')} ({machine};",
        f"Python {platform.python_version()}, MicroPython {micropython.version()}, 64-bit).",
        "Peers ran in the same run: compare ratios, not seconds.",
        "Heap is that of MicroPython's unix port: objects take about half of it on an ESP32.",
        f"{targets - missed} of {targets} targets are met.",
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
        name = size.name.removesuffix(" .mpy")
        lines.append(f"| {name} | {number(size.value)} B | {number(heap.value)} B |")
    total = sum(row.value for row in modules[::2]), sum(row.value for row in modules[1::2])
    lines += [f"| together | {number(total[0])} B | {number(total[1])} B |", ""]
    return "\n".join(lines)
