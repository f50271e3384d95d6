"""From what a rig file says of its port to the port that is there now."""

from collections.abc import Callable, Sequence

from host_tools.devices.identify import side_by_side
from host_tools.devices.port import Port, ports
from host_tools.devices.probe import PROBE_S, Chip, probe
from host_tools.errors import NoDeviceError
from host_tools.hil.rigs import PortChoice


def find_port(
    choice: PortChoice,
    list_ports: Callable[[], list[Port]] = ports,
    ask: Callable[[Port], Chip | str] = probe,
) -> Port:
    """The port by its URL, its USB socket, or the MAC address of the chip behind it.

    For a MAC address chips are asked in their bootloaders, which resets the boards that no program has open;
    not where the port itself tells it. Raises NoDeviceError when it is not there.
    """
    if choice.url:
        return Port(choice.url, named=True)
    there = list_ports()
    if choice.usb:
        return _in_socket(choice.usb, there)
    assert choice.mac
    return _told(choice.mac, there) or _asked(choice.mac, there, ask)


def _in_socket(location: str, there: Sequence[Port]) -> Port:
    # A bridge with several ports, or a chip's own USB, has the number of the interface behind a colon.
    found = [port for port in there if port.location and location in (port.location, _socket(port.location))]
    if len(found) == 1:
        return found[0]
    if found:
        several = " and ".join(f"{port.location} ({port.name})" for port in found)
        raise NoDeviceError(f"USB socket {location} has several ports, {several}: name one of them.")
    others = ", ".join(sorted({_socket(port.location) for port in there if port.location}))
    raise NoDeviceError(
        f"Nothing is plugged into USB socket {location}: plug the board in, or correct the rig's port"
        + (f"; there are {others}." if others else ".")
    )


def _socket(location: str) -> str:
    return location.partition(":")[0]


def _told(mac: str, there: Sequence[Port]) -> Port | None:
    """The one whose serial number is the MAC address, as the chips' own USB ports have it."""
    digits = mac.replace(":", "")
    found = [port for port in there if (port.serial_number or "").replace(":", "").lower() == digits]
    return found[0] if len(found) == 1 else None


def _asked(mac: str, there: Sequence[Port], ask: Callable[[Port], Chip | str]) -> Port:
    boards = [port for port in there if port.may_be_a_board]
    answers = side_by_side(ask, boards, PROBE_S)
    for port, answer in answers.items():
        if isinstance(answer, Chip) and answer.mac == mac:
            return port
    silent = [answer for answer in answers.values() if isinstance(answer, str)]
    others = [f"{port.name} is {answer.mac}" for port, answer in answers.items() if isinstance(answer, Chip)]
    why = "; ".join((*others, *(text.rstrip(".") for text in silent))) or "no port here looks like a board's"
    raise NoDeviceError(
        f"The board with MAC address {mac} is not there ({why}): plug it in, or correct the rig."
    )
