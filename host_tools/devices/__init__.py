"""What is plugged in: the serial ports of this machine, and what is behind each.

`ports` lists them, `opening` opens one without resetting the board, `identify` asks what is there.
"""

from host_tools.devices.port import Port, ports

__all__ = ["Port", "ports"]
