"""Boards: one TOML file each in `boards/`, and what their chips can do.

A board file says what differs from board to board: flash size, partitions, the pins that are brought out
and their names, console and buses, and the MicroPython image that runs on it (docs/boards.md).
"""

from host_tools.boards.chips import CHIPS, Chip
from host_tools.boards.load import UnknownBoard, known_boards, load_board, named_board
from host_tools.boards.model import Board, BoardPartition, Console, I2CBus, MicroPythonImage, SPIBus

__all__ = [
    "CHIPS",
    "Board",
    "BoardPartition",
    "Chip",
    "Console",
    "I2CBus",
    "MicroPythonImage",
    "SPIBus",
    "UnknownBoard",
    "known_boards",
    "load_board",
    "named_board",
]
