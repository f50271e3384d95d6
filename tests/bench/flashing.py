"""`limpet flash` of several boards, side by side against one after the other, and of one that has it all."""

import statistics
from pathlib import Path

from host_tools import boards, image
from host_tools.partitions import SECTOR
from tests.bench.command import seconds
from tests.bench.ground import Ground
from tests.bench.table import Row, number
from tests.host.official import official
from tests.host.virtual_rig import BLANK, boards_on_bench

_BOARD = "esp32_generic"
_COUNT = 4
_BAUD = 921600
_SIDE_BY_SIDE, _AGAIN = 0.45, 0.25
_NOTE = (
    "`limpet flash --image FILE` of blank virtual boards behind RFC 2217, from the start of the command to "
    "its end: connecting, writing, verifying, restart, and the node's banner. The image is the official one "
    "of MicroPython 1.27.0 for the ESP32 with our table and filesystem. The line is paced at "
    f"{_BAUD:,} baud; the flash takes no time, and all boards run in one process."
)


def rows(ground: Ground) -> list[Row]:
    flash = ground.folder / "whole.bin"
    board = boards.load_board(_BOARD)
    whole = image.compose(board, image.firmware_files(), micropython=official("esp32").read_bytes())
    flash.write_bytes(whole)
    sectors = [whole[start : start + SECTOR] for start in range(0, len(whole), SECTOR)]
    size = SECTOR * sum(sector != b"\xff" * SECTOR for sector in sectors) / 1e6
    with boards_on_bench(_COUNT, _BOARD, BLANK, paced=True) as rigs:
        one_by_one = sum(_flash(flash, rig.url) for rig in rigs)
        again = statistics.median(_flash(flash, rig.url) for rig in rigs)
    together = _side_by_side(flash, paced=True)
    with boards_on_bench(_COUNT, _BOARD, BLANK) as rigs:
        free_one_by_one = sum(_flash(flash, rig.url) for rig in rigs)
    free_together = _side_by_side(flash, paced=False)
    return [
        Row(
            f"{_COUNT} boards flashed side by side with {size:.3g} MB, {_BAUD:,} baud",
            together,
            "s",
            f"one after the other: {number(one_by_one)} s",
            together / one_by_one,
            f"at most {_SIDE_BY_SIDE}×",
            together <= _SIDE_BY_SIDE * one_by_one,
            _NOTE,
        ),
        Row(
            "the same with lines that take no time",
            free_together,
            "s",
            f"one after the other: {number(free_one_by_one)} s",
            free_together / free_one_by_one,
            note=_NOTE,
        ),
        Row(
            "the second flash of an unchanged image",
            again,
            "s",
            f"the first: {number(one_by_one / _COUNT)} s",
            again / (one_by_one / _COUNT),
            f"at most {_AGAIN}×",
            again <= _AGAIN * one_by_one / _COUNT,
            _NOTE,
        ),
    ]


def _side_by_side(flash: Path, *, paced: bool) -> float:
    with boards_on_bench(_COUNT, _BOARD, BLANK, paced=paced) as rigs:
        return _flash(flash, *(rig.url for rig in rigs))


def _flash(image_file: Path, *ports: str) -> float:
    named = [word for port in ports for word in ("--port", port)]
    return seconds("limpet", "flash", "--board", _BOARD, "--image", image_file, "--baud", str(_BAUD), *named)
