"""A serial line to a board: opened without resetting it, and over RFC 2217 without pyserial's pauses."""

from host_tools.line.opening import BAUDRATE, open_line

__all__ = ["BAUDRATE", "open_line"]
