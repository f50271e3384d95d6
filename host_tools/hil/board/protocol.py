"""What every rung's board can do, and what some can."""

from typing import TYPE_CHECKING, Literal, Protocol

from host_tools.hil.board.image import NodeImage
from host_tools.hil.board.network import Network
from host_tools.hil.listener import Listener

if TYPE_CHECKING:  # only rungs with a virtual board load it
    from host_tools.virtual.name_server import NameServer

RungName = Literal["virtual", "emulator", "bench"]


class Power(Protocol):
    """The supply of a board."""

    def on(self) -> None: ...

    def off(self) -> None: ...


class BoardPower(Power, Protocol):
    """A supply as its board has it."""

    @property
    def is_on(self) -> bool:
        """As far as this run knows."""


class Radio(Protocol):
    """The air around a board: its access point, and the name server that this one's DHCP tells."""

    @property
    def names(self) -> "NameServer":
        """`names.fault`, `names.names`, `names.delay` can be set at any time."""

    def off(self) -> None:
        """The access point goes."""

    def on(self) -> None:
        """It is back, with the password that it had at first."""

    def password(self, text: str | None) -> None:
        """It has another password from now on (None: none at all), and drops whoever has joined."""


class Board(Protocol):
    """A board with a serial port. Its methods raise HilError, or another LimpetError, when it fails them."""

    @property
    def rung(self) -> RungName: ...

    @property
    def port(self) -> str:
        """What pyserial opens: a device or a URL. One program at a time has it; first of all `log`."""

    @property
    def mac(self) -> str:
        """As esptool writes it: "24:0a:c4:00:00:01"."""

    @property
    def micropython(self) -> str:
        """The version that runs on it, such as "1.27.0"."""

    @property
    def log(self) -> Listener:
        """What it says."""

    @property
    def power(self) -> BoardPower | None:
        """None: its supply cannot be cut."""

    @property
    def radio(self) -> Radio | None:
        """None: the air around it is not ours."""

    @property
    def network(self) -> Network | None:
        """The Wi-Fi network that it is to join; None where there is none."""

    def install(self, image: NodeImage) -> None:
        """Make it have exactly this: firmware, settings, identity; the spool blank. Powered on if it was off,
        it boots from a power-on or a reset by its line at the end."""

    def reset(self) -> None:
        """Press its reset button."""

    def close(self) -> None:
        """Let it go. Nothing can be done with it afterwards."""
