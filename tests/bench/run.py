"""`make bench`: measures, prints, and writes docs/benchmarks.md and build/bench.json.

Speeds are given as ratios to a peer measured in the same run: machines differ, and are busy. With names of
figures as arguments (`python -m tests.bench.run session flash`) only those are measured, and nothing is
written.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from host_tools import paths
from tests.bench import (
    boards,
    building,
    deploying,
    flash,
    flashing,
    hil,
    issuing,
    keys,
    lateness,
    modules,
    path,
    provisioning,
    session,
    storm,
    whole_node,
    wire,
)
from tests.bench.ground import Ground
from tests.bench.report import report
from tests.bench.table import Row, markdown, write_json
from tests.host.stand import Stand

FIGURES: dict[str, Callable[[Ground], list[Row]]] = {
    "session": session.rows,
    "path": path.rows,
    "lateness": lateness.rows,
    "flash": flash.rows,
    "wire": wire.rows,
    "storm": storm.rows,
    "node": whole_node.rows,
    "boards": boards.rows,
    "building": building.rows,
    "flashing": flashing.rows,
    "deploying": deploying.rows,
    "keys": keys.rows,
    "issuing": issuing.rows,
    "provisioning": provisioning.rows,
    "hil": hil.rows,
}


def main(chosen: Sequence[str]) -> None:
    unknown = set(chosen) - FIGURES.keys()
    if unknown:
        raise SystemExit(f"There is no figure '{unknown.pop()}'; there are: {', '.join(FIGURES)}.")
    with tempfile.TemporaryDirectory(prefix="limpet-bench-") as name, Stand(Path(name)) as stand:
        ground = Ground(stand)
        figures: list[Row] = []
        for each in chosen or FIGURES:
            began = time.monotonic()
            figures += FIGURES[each](ground)
            print(f"{each}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        if chosen:
            print(markdown("Figures", figures))
            return
        sizes = modules.rows(ground)
    write_json([*figures, *sizes], paths.ROOT / "build" / "bench.json")
    page = report(figures, sizes)
    (paths.ROOT / "docs" / "benchmarks.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main(sys.argv[1:])
