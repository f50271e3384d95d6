"""`limpet flash` on virtual boards: the images that they get, the command, and what is on them afterwards."""

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host_tools import boards, image, partitions
from host_tools.image import esp
from host_tools.virtual.bench import Bench
from tests.host.shell import limpet
from tests.host.virtual_rig import MAC, Rig

OLD = {"main.py": b"print('the old firmware')\n"}
OLD_SAYS = "the old firmware"
NEW_SAYS = "node: limpet "
KEPT = ("nvs", "phy_init", "identity", "spool")
"""Partitions that a node keeps."""


@functools.cache
def firmware() -> dict[str, bytes]:
    return image.firmware_files()


@functools.cache
def composed(kind: str = "virtual", program: int = 0) -> bytes:
    """An image with the firmware; with a `program` of that many bytes which no compression makes smaller."""
    board = boards.load_board(kind)
    flash = bytearray(image.compose(board, firmware(), stand_in=True))
    if program:
        app = partitions.find(board.partition_table(), "factory")
        chip = board.features
        noise = b"".join(number.to_bytes(4, "big") for number in _noise(program // 4))
        made = esp.build(chip.image_chip_id, board.flash_size, 0x3F400020, noise)
        flash[app.offset : app.offset + len(made)] = made
    return bytes(flash)


def used(kind: str = "virtual") -> bytes:
    """The flash of a board that has run an older firmware: something is in all that a node keeps."""
    board = boards.load_board(kind)
    flash = bytearray(image.compose(board, OLD, stand_in=True))
    for name in KEPT:
        place = partitions.find(board.partition_table(), name)
        flash[place.offset : place.offset + 64] = name.encode().ljust(64, b"\1")
    return bytes(flash)


def expected(before: bytes, wanted: bytes, kind: str = "virtual") -> bytes:
    """What is on a board that had `before`, when `wanted` was flashed."""
    flash = bytearray(before)
    for region in image.regions(boards.load_board(kind), wanted):
        flash[region.offset : region.offset + len(region.data)] = region.data
    return bytes(flash)


@dataclass(frozen=True)
class Flashed:
    """How `limpet flash --json` ended."""

    code: int
    report: dict[str, Any]
    err: str

    @property
    def boards(self) -> list[dict[str, Any]]:
        return list(self.report["boards"])

    @property
    def codes(self) -> list[int]:
        return [board["exit_code"] for board in self.boards]


def flash(ports: Sequence[str], file: Path, *words: str | Path, board: str = "virtual") -> Flashed:
    """Flash the image `file` to the boards on all `ports`."""
    options = [word for port in ports for word in ("--port", port)]
    done = limpet("flash", "--board", board, *options, "--image", file, "--json", *words)
    assert "Traceback" not in done.err, done.err
    assert done.out, done.err
    return Flashed(done.code, json.loads(done.out), done.err)


@contextmanager
def bench(folder: Path) -> Iterator[Callable[..., Rig]]:
    """A function that puts one more board on the bench, with a MAC of its own; as `Rig` takes its words."""
    with Bench() as made:
        count = 0

        def put(
            flash: bytes | None = None, kind: str = "virtual", mac: bytes | None = None, **words: Any
        ) -> Rig:
            nonlocal count
            count += 1
            board = boards.load_board(kind)
            content = b"\xff" * board.flash_size if flash is None else flash
            return Rig(
                made,
                folder / f"{count}.bin",
                content,
                kind=board,
                mac=mac or MAC[:5] + bytes([count]),
                rfc2217=("127.0.0.1", 0),
                **words,
            )

        yield put


def _noise(count: int) -> Iterator[int]:
    state = 1
    for _ in range(count):
        state = (state * 1664525 + 1013904223) % 2**32
        yield state
