"""Hardware in the loop: the whole suite on one board and on four, and what a test's set-up costs."""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from host_tools import paths
from host_tools.errors import LimpetError
from host_tools.hil.rig import Rig
from host_tools.hil.rigs import load_rig
from tests.bench.ground import Ground
from tests.bench.table import Row, number

_BOARDS = 4
_SIDE_BY_SIDE = 0.45
_SET_UPS = 10
_LIMPET = Path(sys.executable).parent / "limpet"
_NOTE = (
    "`limpet hil run` of tests/hil on virtual boards, without retries, from the start of the command to its "
    "end. With `--split` the boards share the tests."
)
_SET_UP = (
    "The fixture `node` of one test after another: a new broker with a console, the flash installed anew, "
    "and the first reading at the broker. Beside it the same board, switched on with what it has, to the "
    "next reading at a broker that runs. Medians."
)


def rows(ground: Ground) -> list[Row]:
    one, first, count = _run(ground.folder / "hil-1", 1)
    four, _, _ = _run(ground.folder / "hil-4", _BOARDS)
    set_up, boot = _set_up()
    return [
        Row(f"the suite on one virtual board, {count} tests", one, "s", note=_NOTE),
        Row(
            f"the suite on {_BOARDS} virtual boards side by side",
            four,
            "s",
            f"on one: {number(one)} s",
            four / one,
            f"at most {_SIDE_BY_SIDE}×",
            four <= _SIDE_BY_SIDE * one,
            _NOTE,
        ),
        Row("from `limpet hil run` to the begin of the first test", first, "s", note=_NOTE),
        Row(
            "set-up of the fixture `node`",
            set_up,
            "s",
            f"the board alone, power-on to a reading: {number(boot)} s",
            set_up / boot,
            note=_SET_UP,
        ),
    ]


def _run(out: Path, boards: int) -> tuple[float, float, int]:
    """Seconds of a whole run, seconds to the begin of its first test, and its tests."""
    command: list[str | Path] = [_LIMPET, "hil", "run", "--rig", f"virtual:{boards}", "--retries", "0"]
    command += ["--split"] if boards > 1 else []
    began, clock = time.monotonic(), time.time()
    done = subprocess.run(
        [*command, "--out", out, "--ledger", out / "hil.db"],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began
    if done.returncode:
        raise LimpetError(f"The suite does not pass: see {out / 'report.html'}, and\n{done.stdout}")
    results = json.loads((out / "results.json").read_text())["results"]
    return seconds, min(each["started"] for each in results) - clock, len(results)


def _set_up() -> tuple[float, float]:
    """Seconds of the fixture, and of a power-on of the same board to the next reading."""
    set_ups, boots = [], []
    with Rig(load_rig("virtual", paths.RIGS)) as rig:
        for _ in range(_SET_UPS):
            began = time.monotonic()
            with rig.test():
                node = rig.in_service()
                set_ups.append(time.monotonic() - began)
                rig.power.off()
                came = len(rig.broker.readings(node, settle=None))
                began = time.monotonic()
                rig.power.on()
                rig.broker.wait_for_readings(node, came + 1)
                boots.append(time.monotonic() - began)
    return statistics.median(set_ups), statistics.median(boots)
