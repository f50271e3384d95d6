"""Asks chips in their ROM's bootloader: kind, MAC, flash. That resets them, twice. A process for each port:
esptool is made for one board at a time, and a process that hangs can be ended.

`python -m host_tools.devices.probe PORT` is that process: it prints one JSON object.
"""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass

from host_tools.devices.port import Port
from host_tools.errors import LimpetError

PROBE_S = 45.0
"""For one chip, its process included. One that answers takes two seconds; else several resets are tried."""
_CONNECT_S = 4.0


@dataclass(frozen=True)
class Chip:
    """What a chip says of itself."""

    name: str
    """As esptool calls it: `ESP32-S3`."""
    mac: str
    flash_size: int
    """Bytes; 0 when the flash does not tell."""
    encrypted: bool
    secure_boot: bool


def probe(port: Port) -> Chip | str:
    """The chip behind a port, which restarts; or a sentence that says why there is none."""
    words = [sys.executable, "-m", "host_tools.devices.probe", port.name]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=PROBE_S - 5, check=False)
    except subprocess.TimeoutExpired:
        return f"{port.name}: the bootloader does not come to an end; reset the board, and see to its cable."
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return f"{port.name}: the bootloader could not be asked ({last}); try again."
    return str(answer["error"]) if "error" in answer else Chip(**answer)


def _ask(name: str) -> Chip:
    from host_tools.esp.chip import connect

    with connect(name, deadline=_CONNECT_S) as chip:
        try:
            security = chip.security
            return Chip(chip.name, chip.mac, chip.flash_size, security.encrypted, security.secure_boot)
        finally:
            chip.reset()


if __name__ == "__main__":
    try:
        said = asdict(_ask(sys.argv[1]))
    except LimpetError as error:
        said = {"error": str(error)}
    print(json.dumps(said))
