"""How long `limpet image build` takes once everything is there, and whether it makes the same bytes twice."""

import statistics

from host_tools import paths
from tests.bench.command import seconds
from tests.bench.ground import Ground
from tests.bench.table import Row
from tests.host.official import official

_BOARD = "esp32_generic"
_MOST_S = 2.0
_ROUNDS = 3
_NOTE = (
    f"`limpet image build --board {_BOARD} --node FILE --micropython FILE -o FILE` with the official image "
    "of MicroPython 1.27.0 and the documentation's example of a node file, from the start of the command to "
    f"its end; median of {_ROUNDS} after a first one that is not counted."
)


def rows(ground: Ground) -> list[Row]:
    files = [ground.folder / f"built-{i}.bin" for i in range(1 + _ROUNDS)]
    example = (paths.ROOT / "docs" / "node.example.toml").read_text()
    node = ground.folder / "node.toml"
    node.write_text(example.replace('board = "virtual"', f'board = "{_BOARD}"'))
    words = ("image", "build", "--board", _BOARD, "--node", node, "--micropython", official("esp32"), "-o")
    took = statistics.median([seconds("limpet", *words, file) for file in files][1:])
    are_same = len({file.read_bytes() for file in files}) == 1
    return [
        Row(
            "image build, warm",
            took,
            "s",
            f"{len(files)} builds {'are byte-identical' if are_same else '**differ**'}",
            None,
            "under 2 s, and byte-identical",
            took < _MOST_S and are_same,
            _NOTE,
        )
    ]
