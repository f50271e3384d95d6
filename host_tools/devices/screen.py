"""How `limpet devices` shows a port to a person."""

from collections.abc import Iterator

from host_tools.devices.identify import Found
from host_tools.devices.port import Port
from host_tools.devices.probe import Chip

_MIB = 1024 * 1024


def lines(found: Found, mark: str = "") -> Iterator[str]:
    """The port, then what is behind it, indented."""
    indent = " " * (len(mark) + 4)
    yield "  ".join(filter(None, (mark + found.port.name, _plug(found.port))))
    yield indent + found.what.text
    if found.chip:
        yield indent + _chip(found.chip)
    if found.why_no_chip:
        yield indent + found.why_no_chip


def _plug(port: Port) -> str:
    if not port.usb_id:
        return port.description
    parts = [f"{port.bridge or port.description} {port.usb_id}".strip()]
    if port.location:
        parts.append(f"USB {port.location}")
    if port.serial_number:
        parts.append(f"serial number {port.serial_number}")
    return ", ".join(parts)


def _chip(chip: Chip) -> str:
    size = f"{chip.flash_size // _MIB} MiB flash" if chip.flash_size else "flash of unknown size"
    parts = [chip.name, chip.mac or "MAC not told", size]
    if chip.encrypted:
        parts.append("flash encryption on")
    if chip.secure_boot:
        parts.append("secure boot on")
    return ", ".join(parts)
