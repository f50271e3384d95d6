"""`limpet virtual`: boards, wired like the demo's, for as long as the user wants them."""

import contextlib
import queue
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from host_tools import micropython, parts
from host_tools.errors import LimpetError
from host_tools.scratch import scratch_folder
from host_tools.virtual import control, scene
from host_tools.virtual.bench import Bench
from host_tools.virtual.board import VirtualBoard
from host_tools.virtual.kept import Kept, open_boards
from host_tools.virtual.limits import allow_files
from host_tools.virtual.time_server import TimeServer
from host_tools.virtual.weather import Weather, recorded_weather

_HOST = "127.0.0.1"
_FILES_A_BOARD = 16
"""Open files and sockets that a board with a network needs at the most, about."""
_FILES_BESIDE = 64


@dataclass(frozen=True)
class Running:
    """A board that runs, and how to reach it."""

    number: int
    board: str
    url: str
    tty: str
    mac: str
    folder: Path


def run(
    root: Path | None,
    board: str | None,
    *,
    count: int,
    blank: bool,
    first_port: int | None,
    ntp_port: int | None,
    log: BinaryIO | None,
    show: Callable[[list[Running]], None],
    remark: Callable[[str], None],
) -> None:
    """Boot so many boards and stay until Ctrl-C, or until nobody reads `log` any more.

    `root` is where they keep their flash; None for boards that are gone afterwards. `board` is what they are,
    `blank` begins with empty flash, `first_port` is the first board's TCP port, `ntp_port` that of a time
    server. `log` gets what the boards print, `show` how to reach them, and `remark` what is done before that.
    Raises LimpetError when a board cannot be had.
    """
    allow_files(count * _FILES_A_BOARD + _FILES_BESIDE)
    micropython.command()
    parts.umqtt_simple(remark)
    weather = recorded_weather(parts.weather_csv(remark), datetime.now(UTC))
    with contextlib.ExitStack() as stack:
        root = root or stack.enter_context(scratch_folder("virtual"))
        all_kept = stack.enter_context(open_boards(root, count, board, blank=blank))
        printed: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()
        bench = stack.enter_context(Bench())
        if ntp_port is not None:
            _open_time_server(bench, ntp_port)
        made = [
            _make(bench, each, weather, first_port and first_port + each.number - 1, printed if log else None)
            for each in all_kept
        ]
        show([_describe(kept, virtual) for kept, virtual in zip(all_kept, made, strict=True)])
        for virtual in made:
            bench.run(virtual.power_on())
        # Written by this thread: a reader that is slow, or gone, is no affair of the boards.
        with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
            lines = _Numbered(count)
            while True:
                number, data = printed.get()
                if log is not None:
                    log.write(lines.of(number, data.replace(b"\r", b"")))
                    log.flush()


def _open_time_server(bench: Bench, port: int) -> None:
    try:
        bench.on_close(bench.run(TimeServer.open(port=port)).close)
    except OSError as error:
        raise LimpetError(
            f"No time server can listen on UDP port {port} ({error.strerror}): choose another --ntp."
        ) from None


def _make(
    bench: Bench,
    kept: Kept,
    weather: Weather,
    port: int | None,
    printed: "queue.SimpleQueue[tuple[int, bytes]] | None",
) -> VirtualBoard:
    def on_output(data: bytes) -> None:
        if printed:
            printed.put((kept.number, data))

    async def make() -> VirtualBoard:
        return VirtualBoard(
            kept.flash,
            kept.board,
            scene.wire(weather),
            kept.mac,
            on_output=on_output,
            rfc2217=(_HOST, port or 0),
            paced=True,
        )

    virtual = bench.run(make())
    bench.on_close(virtual.close)
    server = bench.run(control.serve(virtual, kept.folder))

    async def silence() -> None:
        server.close()
        (kept.folder / control.SOCKET).unlink(missing_ok=True)

    bench.on_close(silence)
    return virtual


def _describe(kept: Kept, virtual: VirtualBoard) -> Running:
    return Running(
        kept.number, kept.board.name, virtual.url, virtual.port.path, kept.mac.hex(":"), kept.folder
    )


class _Numbered:
    """Puts the board's number before each of its lines; not when there is one board alone."""

    def __init__(self, count: int) -> None:
        self._alone = count == 1
        self._begun: dict[int, bytes] = {}

    def of(self, number: int, data: bytes) -> bytes:
        if self._alone:
            return data
        *lines, self._begun[number] = (self._begun.get(number, b"") + data).split(b"\n")
        return b"".join(b"%d: %s\n" % (number, line) for line in lines)
