"""What is plugged in: the serial ports of this machine, and what is behind each.

`ports` lists them, `identify` asks what is there, without resetting it.
"""

from host_tools.devices.port import Port, ports

__all__ = ["Port", "ports"]
