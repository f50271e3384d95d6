"""Power by a USB relay of the LCUS family (CH340, 9600 baud): 0xA0, channel, 1 or 0, and their sum.

The relay says nothing back: only a look at the board shows that it has switched (`limpet hil check`).
"""

from host_tools.errors import NoDeviceError
from host_tools.hil.blocked import Blocked
from host_tools.hil.rigs.power import RelayPower
from host_tools.line import open_line

_BAUDRATE = 9600
_START = 0xA0


class Relay:
    """One relay of such a board; closed, it lets the node have power."""

    def __init__(self, spec: RelayPower) -> None:
        self._spec = spec

    def on(self) -> None:
        self._say(True)

    def off(self) -> None:
        self._say(False)

    def _say(self, closed: bool) -> None:
        try:
            line = open_line(self._spec.port)
        except NoDeviceError as error:
            raise Blocked(f"The relay cannot be reached: {error}") from None
        try:
            line.baudrate = _BAUDRATE
            line.write(message(self._spec.channel, closed))
            line.flush()
        except OSError as error:
            raise Blocked(
                f"The relay at {self._spec.port} takes no bytes ({error}): see to its cable."
            ) from None
        finally:
            line.close()


def message(channel: int, closed: bool) -> bytes:
    """What closes or opens a relay."""
    body = (_START, channel, int(closed))
    return bytes((*body, sum(body) & 0xFF))
