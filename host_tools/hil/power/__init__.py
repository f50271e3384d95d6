"""What switches a board's supply: programs, hub ports, relays, outlets; and the fixture that cuts it.

A driver's `on` and `off` return when it is done, as far as the hardware tells, and raise Blocked when it is
not. What is on may be switched on again, and what is off, off.
"""

from host_tools.hil.board.protocol import Power
from host_tools.hil.power.control import FlashPower, PowerControl
from host_tools.hil.power.make import make_power

__all__ = ["FlashPower", "Power", "PowerControl", "make_power"]
