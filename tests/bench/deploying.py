"""`limpet deploy` beside `mpremote cp`, over a serial line as slow as a board's."""

import statistics
from pathlib import Path

from host_tools import image, micropython, paths
from tests.bench.command import seconds
from tests.bench.ground import Ground
from tests.bench.table import Row, number
from tests.host.virtual_rig import boards_on_bench, compose

_MODULE = "limpet/dns"  # of about the mean size
_ROUNDS = 5
_WHOLE, _ONE = 0.6, 0.2
_NOTE = (
    "Both commands from their start to their end, on a virtual board behind RFC 2217, with a line paced at "
    "115,200 baud. mpremote copies the same .mpy files; it neither compares nor verifies nor restarts the "
    f"board, as limpet does. The changed module is `{_MODULE}.mpy`; median of {_ROUNDS}."
)


def rows(ground: Ground) -> list[Row]:
    firmware = image.firmware_files()
    names = sorted({str(ground.firmware / name.partition("/")[0]) for name in firmware})
    with boards_on_bench(1, paced=True) as [board]:
        board.says(">>> ")
        copied = seconds("mpremote", "connect", board.url, "cp", "-r", *names, ":")
    with boards_on_bench(1, paced=True) as [board]:
        board.says(">>> ")
        whole = seconds("limpet", "deploy", "--port", board.url)
    before = compose({**firmware, f"{_MODULE}.mpy": _as_it_was(ground.folder)})
    times = []
    for _ in range(_ROUNDS):
        with boards_on_bench(1, flash=before, paced=True) as [board]:
            board.says("limpet ")
            times.append(seconds("limpet", "deploy", "--port", board.url))
    one = statistics.median(times)
    size = number(sum(map(len, firmware.values())) / 1000)
    return [
        Row(
            "deploy of the whole firmware to an empty board",
            whole,
            "s",
            f"{len(firmware)} files, {size} kB; mpremote cp -r: {number(copied)} s",
            whole / copied,
            f"at most {_WHOLE}×",
            whole <= _WHOLE * copied,
            _NOTE,
        ),
        Row(
            "deploy of one changed module",
            one,
            "s",
            f"of the whole firmware: {number(whole)} s",
            one / whole,
            f"at most {_ONE}×",
            one <= _ONE * whole,
            _NOTE,
        ),
    ]


def _as_it_was(folder: Path) -> bytes:
    """The module before a line was added to its source: each line that it knows has another number."""
    source = folder / "before.py"
    source.write_text(
        "# What follows stands a line lower.\n" + (paths.FIRMWARE / f"{_MODULE}.py").read_text()
    )
    return micropython.cross_compile(source, f"{_MODULE}.py")
