"""Power by a port of a USB hub that can switch it: the program uhubctl (2.2 and later).

It ends with exit code 0 when it has asked the hub, whatever the hub made of it. So what counts is the state
that it reads back and prints; twice for a hub of USB 3, which is two hubs to the host:

    Current status for hub 1-1 [2109:2817 VIA Labs, Inc. USB2.0 Hub, USB 2.10, 4 ports, ppps]
      Port 4: 0103 power enable connect [10c4:ea60 Silicon Labs CP2102 USB to UART Bridge Controller 0001]
    Sent power off request
    New status for hub 1-1 [2109:2817 VIA Labs, Inc. USB2.0 Hub, USB 2.10, 4 ports, ppps]
      Port 4: 0000 off
"""

import re
from collections.abc import Iterator
from typing import Literal

from host_tools.hil.blocked import Blocked
from host_tools.hil.program import Ended, ended
from host_tools.hil.rigs.power import UhubctlPower

To = Literal["on", "off"]

_RULE = 'SUBSYSTEM=="usb", DRIVER=="usb", MODE="0664", GROUP="dialout"'
_ALLOW = (
    f"put the line '{_RULE}' into /etc/udev/rules.d/52-usb.rules, run 'sudo udevadm trigger "
    "--attr-match=subsystem=usb', and be of the group dialout"
)
_HUB = re.compile(r"^(Current|New) status for hub (\S+) ")
_PORT = re.compile(r"^ +Port (\d+): [0-9a-f]{4}((?: [^ \[]+)*)")
_FORBIDDEN = re.compile(r"permission (?:problems|denied)|LIBUSB_ERROR_ACCESS", re.IGNORECASE)
_NO_HUB = "No compatible "


class Uhubctl:
    """One port of one hub."""

    def __init__(self, spec: UhubctlPower) -> None:
        self._spec = spec

    def on(self) -> None:
        self._switch("on")

    def off(self) -> None:
        self._switch("off")

    def _switch(self, to: To) -> None:
        spec = self._spec
        said = ended((spec.program, "-l", spec.location, "-p", str(spec.port), "-a", to))
        why = refusal(said, spec.location, spec.port, to)
        if why:
            raise Blocked(why)


def refusal(done: Ended, location: str, port: int, to: To) -> str | None:
    """Why the port is not `to` after all, with what to do, from what uhubctl said; None when it is."""
    where = f"port {port} of the USB hub {location}"
    states = list(_new_states(done.text, port))
    if not done.code and states and all(is_on == (to == "on") for _, is_on in states):
        return None
    if _FORBIDDEN.search(done.text):
        return f"uhubctl may not switch {where}: {_ALLOW}."
    if _NO_HUB in done.text:
        return (
            f"uhubctl finds no hub at {location} that can switch its ports: most cannot; 'uhubctl' alone "
            "lists those that can."
        )
    if done.code:
        return f"uhubctl failed with exit code {done.code}: {done.last_line.rstrip('.')}."
    if not states:
        return f"uhubctl does not say what became of {where}: see that the hub has such a port ('uhubctl')."
    stays = "on" if to == "off" else "off"
    return (
        f"{where[0].upper()}{where[1:]} stays {stays} though uhubctl asked it to go {to}: the hub does not "
        "switch that port; take another hub."
    )


def _new_states(text: str, port: int) -> Iterator[tuple[str, bool]]:
    """Hub and whether the port has power, for each hub that was asked to switch it."""
    hub = ""
    for line in text.splitlines():
        if found := _HUB.match(line):
            hub = found[2] if found[1] == "New" else ""
        elif (found := _PORT.match(line)) and hub and int(found[1]) == port:
            yield hub, "power" in found[2].split()
