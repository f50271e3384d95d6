"""The serial ports that boards may be on: this machine's, and those that LIMPET_PORTS names."""

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from serial.tools.list_ports import comports
from serial.tools.list_ports_common import ListPortInfo

VARIABLE = "LIMPET_PORTS"
"""Ports besides those that are plugged in, separated by spaces: pyserial URLs of boards on other machines."""

_MAKERS = {
    0x303A: "Espressif",
    0x10C4: "Silicon Labs",
    0x1A86: "WCH",
    0x0403: "FTDI",
    0x067B: "Prolific",
}
_BRIDGES = {
    (0x303A, 0x0002): "USB of the ESP32-S2",
    (0x303A, 0x1001): "USB-Serial/JTAG of the chip",
    (0x303A, 0x1002): "ESP-USB-Bridge",
    (0x303A, 0x4001): "MicroPython's own USB",
    (0x10C4, 0xEA60): "CP210x",
    (0x10C4, 0xEA70): "CP2105",
    (0x10C4, 0xEA71): "CP2108",
    (0x1A86, 0x7522): "CH340K",
    (0x1A86, 0x7523): "CH340",
    (0x1A86, 0x55D3): "CH343",
    (0x1A86, 0x55D4): "CH9102",
    (0x0403, 0x6001): "FT232R",
    (0x0403, 0x6010): "FT2232",
    (0x0403, 0x6011): "FT4232",
    (0x0403, 0x6014): "FT232H",
    (0x0403, 0x6015): "FT231X",
    (0x067B, 0x2303): "PL2303",
}
_TRIES = 5
_SYSFS = Path("/sys/class/tty")


@dataclass(frozen=True)
class Port:
    """One port. What is not USB has neither location nor ids; a URL has a name alone."""

    name: str
    """The device's path, or a pyserial URL: what `--port` takes."""
    location: str | None = None
    """The way through the USB hubs, as `1-2.3`: it tells identical bridges apart."""
    vid: int | None = None
    pid: int | None = None
    serial_number: str | None = None
    bridge: str | None = None
    """The chip between USB and the board's UART, where its ids tell it."""
    description: str = ""
    """What the device says of itself."""
    named: bool = False
    """The user has named it, so there is a board whatever it looks like."""

    @property
    def is_url(self) -> bool:
        return "://" in self.name

    @property
    def usb_id(self) -> str:
        """`10c4:ea60`; empty for what is not USB."""
        return "" if self.vid is None else f"{self.vid:04x}:{self.pid or 0:04x}"

    @property
    def may_be_a_board(self) -> bool:
        """Whether boards come with such a port. Others may be a modem's, or this machine's console: they are
        listed, and left alone."""
        return self.named or self.vid in _MAKERS


def ports(enumerate_ports: Callable[[], Iterable[ListPortInfo]] = comports) -> list[Port]:
    """Every port, in the order of the USB sockets; those of LIMPET_PORTS last."""
    found = [_port(info) for info in _listed(enumerate_ports) if _has_hardware(info)]
    found.sort(key=lambda port: (port.vid is None, _natural(port.location or ""), _natural(port.name)))
    for name in dict.fromkeys(os.environ.get(VARIABLE, "").split()):
        port = describe(name, found)
        found = [each for each in found if not _same_device(each.name, name)]
        found.append(port)
    return found


def describe(name: str, among: Iterable[Port]) -> Port:
    """The port that a user has named, with what is known of it. A link (/dev/serial/by-id) keeps its name."""
    for port in among:
        if _same_device(port.name, name):
            return replace(port, name=name, named=True)
    return Port(name, named=True)


def _listed(enumerate_ports: Callable[[], Iterable[ListPortInfo]]) -> list[ListPortInfo]:
    for _ in range(_TRIES):
        try:
            return list(enumerate_ports())
        except (TypeError, ValueError):  # pyserial, when a device goes while it reads what there is of it
            continue
    return []


def _port(info: ListPortInfo) -> Port:
    return Port(
        info.device,
        info.location,
        info.vid,
        info.pid,
        info.serial_number,
        _bridge(info.vid, info.pid),
        "" if info.description in (None, "n/a") else info.description,
    )


def _bridge(vid: int | None, pid: int | None) -> str | None:
    if vid is None or pid is None:
        return None
    return _BRIDGES.get((vid, pid)) or _MAKERS.get(vid)


def _has_hardware(info: ListPortInfo) -> bool:
    """Whether there is a UART behind the name: Linux has /dev/ttyS0 to ttyS3 or more whether it is or not."""
    if info.vid is not None:
        return True
    try:
        return (_SYSFS / Path(info.device).name / "type").read_text().strip() != "0"  # PORT_UNKNOWN
    except OSError:
        return True  # no such attribute: not a driver that makes them up


def _same_device(one: str, other: str) -> bool:
    if one == other:
        return True
    return "://" not in one + other and os.path.realpath(one) == os.path.realpath(other)


def _natural(text: str) -> list[tuple[int, str]]:
    """For sorting: ttyUSB10 comes after ttyUSB9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]
