"""`limpet virtual`: one board, wired like the demo's, for as long as the user wants it."""

import contextlib
import sys
import tempfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from host_tools import boards, image, parts
from host_tools.demo import scene
from host_tools.demo.weather import recorded_weather
from host_tools.virtual.bench import Bench
from host_tools.virtual.board import VirtualBoard


def run(flash: Path | None, board_name: str, log: bool, say: Callable[[str], None]) -> None:
    """Boot a board and stay until Ctrl-C. `flash` is its flash file, which it keeps; None for one that is
    made now and gone afterwards. `log` copies its serial output to standard output.

    Raises LimpetError when the board is unknown or could not boot from the file.
    """
    board = boards.load_board(board_name)
    with contextlib.ExitStack() as stack:
        if flash is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="limpet-virtual-")))
            flash = folder / "flash.bin"
            flash.write_bytes(image.compose(board, image.firmware_files()))
        else:
            image.check_file(flash, board)
        world = scene.wire(recorded_weather(parts.weather_csv(say), datetime.now(UTC)))
        bench = stack.enter_context(Bench())
        chosen = flash

        async def power_on() -> VirtualBoard:
            virtual = VirtualBoard(chosen, board, world, scene.MAC, on_output=_copy if log else None)
            say(virtual.port.path)
            await virtual.power_on()
            return virtual

        bench.on_close(bench.run(power_on()).close)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


def _copy(data: bytes) -> None:
    sys.stdout.buffer.write(data.replace(b"\r", b""))
    sys.stdout.buffer.flush()
