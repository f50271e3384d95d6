"""The boards that tests run on, a module for each rung, with one face: a test never knows which it is."""

from host_tools.hil.board.image import NodeImage
from host_tools.hil.board.network import Network
from host_tools.hil.board.opening import open_board
from host_tools.hil.board.protocol import Board, Power, Radio
from host_tools.hil.errors import HilError

__all__ = ["Board", "HilError", "Network", "NodeImage", "Power", "Radio", "open_board"]
