"""Nodes for tests of the rungs: what is installed on a board, and rig files of boards that are at hand."""

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from host_tools import image, settings
from host_tools.boards import Board
from host_tools.hil.board import Network, NodeImage
from host_tools.hil.rigs import RigFile, load_rig
from host_tools.pki import partition
from host_tools.pki.authority import Authority

_NOWHERE = "127.0.0.1"
BME280 = {"name": "bme280", "kind": "bme280", "period_ms": 200, "scl": 22, "sda": 21, "address": 0x76}


@functools.cache
def firmware() -> dict[str, bytes]:
    return image.firmware_files()


@functools.cache
def identity(node_id: str = "n01") -> bytes:
    """The identity partition of a node; its authority is nobody's afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        return partition.encode(Authority.create(Path(folder) / "pki").issue_node(node_id))


def node_image(
    board: Board, network: Network | None = None, sensors: Sequence[dict[str, Any]] = (), **options: Any
) -> NodeImage:
    """The firmware for a node whose broker does not exist; `options` are those of NodeImage."""
    values: dict[str, Any] = {
        "v": 1,
        "board": board.name,
        "prefix": "limpet",
        "keepalive": 10,
        "health_s": 1,
        "retry_ms": 300,
        "wifi": [network.settings()] if network else [],
        "brokers": [{"host": _NOWHERE, "port": 9, "name": "localhost"}],
        "ntp": [{"host": _NOWHERE, "port": 9}],
        "sensors": list(sensors),
    }
    files = {**firmware(), image.SETTINGS_NAME: settings.dump(values)}
    return NodeImage(board, **{"files": files, "identity": identity(), **options})


def rig_file(folder: Path, text: str, name: str = "desk") -> RigFile:
    """A rig file with this text."""
    path = folder / f"{name}.toml"
    path.write_text(text)
    return load_rig(str(path))


def bench_rig(folder: Path, url: str, board: str = "virtual") -> RigFile:
    """The rig file of a bench board with this URL."""
    return rig_file(folder, f'rung = "bench"\nboard = "{board}"\nport = {{ url = "{url}" }}\n')
