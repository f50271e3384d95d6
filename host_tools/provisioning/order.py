"""What shall be done to each board, made ready and checked before any of them is touched."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from host_tools import settings
from host_tools.boards import Board
from host_tools.flashing import source
from host_tools.flashing.plan import Span
from host_tools.image.build import build
from host_tools.image.pinned import Progress, quietly
from host_tools.partitions import Partition, find
from host_tools.provisioning.naming import Naming
from host_tools.telemetry.reach import Place, places_of

Key = Literal["node", "host"]


@dataclass(frozen=True)
class Order:
    """What shall be done."""

    board: Board
    image: source.Image
    """MicroPython and firmware, without settings and identity."""
    settings: bytes = field(repr=False)
    """The node's settings as a file; they hold the Wi-Fi password."""
    prefix: str
    places: tuple[Place, ...]
    """The brokers at which a node may appear."""
    naming: Naming
    key: Key
    bauds: tuple[int, ...]

    @property
    def settings_digest(self) -> str:
        """SHA-256 (hex) of the settings."""
        return hashlib.sha256(self.settings).hexdigest()

    def partition(self, name: str) -> Partition:
        """A partition of the board."""
        return find(self.board.partition_table(), name)

    def span(self, name: str) -> Span:
        """Where a partition lies."""
        place = self.partition(name)
        return Span(place.offset, place.size)


def prepared(
    node: Path,
    naming: Naming,
    *,
    key: Key,
    bauds: tuple[int, ...],
    broker: str | None = None,
    micropython: Path | None = None,
    any_micropython: bool = False,
    progress: Progress = quietly,
) -> tuple[Order, Sequence[str]]:
    """The order for the boards of a node file, and what its writer should know all the same.

    `broker` is where this machine reaches the node file's broker, HOST or HOST:PORT. Raises LimpetError.
    """
    checked = settings.check(node)
    places = tuple(places_of(checked.node_file, broker))
    text = settings.dump(settings.to_node_json(checked.node_file, checked.board))
    built = build(checked.board, None, micropython, progress, any_micropython=any_micropython)
    image = source.checked(built.flash, "The image", checked.board)
    order = Order(checked.board, image, text, checked.node_file.prefix, places, naming, key, bauds)
    return order, checked.warnings
