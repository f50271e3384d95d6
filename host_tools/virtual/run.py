"""`limpet virtual`: one board, wired like the demo's, for as long as the user wants it."""

import contextlib
import queue
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from host_tools import boards, image, micropython, parts
from host_tools.errors import LimpetError
from host_tools.pki import files
from host_tools.scratch import scratch_folder
from host_tools.virtual import scene
from host_tools.virtual.bench import Bench
from host_tools.virtual.board import VirtualBoard
from host_tools.virtual.weather import recorded_weather


def run(
    flash: Path | None,
    board_name: str,
    *,
    new: bool,
    log: BinaryIO | None,
    say: Callable[[str], None],
    remark: Callable[[str], None],
) -> None:
    """Boot a board and stay until Ctrl-C, or until nobody reads `log` any more.

    `flash` is its flash file, which it keeps; None for one that is gone afterwards. `new` makes the file
    first, with the firmware alone. `log` gets what the board prints; `say` the path of its serial port, and
    `remark` what is done before that.
    Raises LimpetError when the board is unknown, or could not boot from the file.
    """
    board = boards.load_board(board_name)
    micropython.command()
    parts.umqtt_simple(remark)
    world = scene.wire(recorded_weather(parts.weather_csv(remark), datetime.now(UTC)))
    with contextlib.ExitStack() as stack:
        if flash is None:
            flash, new = stack.enter_context(scratch_folder("virtual")) / "flash.bin", True
        if new:
            _make(flash, board)
        stack.enter_context(image.claim(flash, board))
        printed: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        bench = stack.enter_context(Bench())

        async def power_on() -> VirtualBoard:
            on_output = None if log is None else printed.put
            virtual = VirtualBoard(flash, board, world, scene.MAC, on_output=on_output)
            say(virtual.port.path)
            await virtual.power_on()
            return virtual

        bench.on_close(bench.run(power_on()).close)
        # Written by this thread: a reader that is slow, or gone, is no affair of the board's.
        with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
            while True:
                data = printed.get()
                if log is not None:
                    log.write(data.replace(b"\r", b""))
                    log.flush()


def _make(flash: Path, board: boards.Board) -> None:
    if files.exists(flash):
        raise LimpetError(f"{flash} exists already: leave --new out to use it, or name another file.")
    files.write_private(flash, image.compose(board, image.firmware_files()))
