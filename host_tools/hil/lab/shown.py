"""What `labgrid-client` (26.0) prints of places and reservations, understood."""

import ast
import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from host_tools.hil.blocked import Blocked

_RESOURCE = re.compile(
    r"^(?:Acquired|Matching) resource '(?P<name>[^\n]*)' \((?P<exporter>[^/\n]*)/[^\n]*\):\n"
    r"(?P<values>(?:  [^\n]*\n?)+)",
    re.MULTILINE,
)
_SERIAL = "NetworkSerialPort"
_SWITCHES = frozenset(
    {
        "NetworkPowerPort",
        "NetworkSiSPMPowerPort",
        "NetworkSysfsGPIO",
        "NetworkUSBPowerPort",
        "NetworkYKUSHPowerPort",
        "PDUDaemonPort",
        "TasmotaPowerPort",
    }
)
"""Classes that `labgrid-client power` can switch."""


@dataclass(frozen=True)
class Resource:
    """A thing at a place. `there` is False for a port that is not plugged in at its host."""

    name: str
    exporter: str
    kind: str
    there: bool
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Shown:
    """A place: who has it, and what is there."""

    name: str
    acquired: str | None
    """`HOST/USER`."""
    changed: str
    """When that was last otherwise, by the coordinator's clock."""
    reservation: str | None
    """The token of the reservation that it is kept for."""
    resources: Sequence[Resource]

    @property
    def url(self) -> str:
        """The place's serial port, for pyserial. Raises Blocked unless there is one that can be reached."""
        ports = [each for each in self.resources if each.kind == _SERIAL]
        if len(ports) != 1:
            found = ", ".join(each.name for each in ports) or "none"
            raise Blocked(
                f"The place {self.name} should have one {_SERIAL}, and it has {found}: see its matches with "
                f"'labgrid-client -p {self.name} show', and that its exporter runs."
            )
        [port] = ports
        if not port.there or port.params.get("port") is None:
            raise Blocked(
                f"The serial port of the place {self.name} is not there: see whether the board is plugged in "
                f"at the host of its exporter {port.exporter}."
            )
        extra = port.params.get("extra", {})
        if extra.get("proxy_required"):
            raise Blocked(
                f"The exporter {port.exporter} of the place {self.name} lets nobody in but through an SSH "
                f"tunnel by way of {extra.get('proxy')}: run limpet on that host."
            )
        scheme = "rfc2217" if port.params.get("protocol", "rfc2217") == "rfc2217" else "socket"
        return f"{scheme}://{port.params['host']}:{port.params['port']}"

    @property
    def has_power(self) -> bool:
        """Whether labgrid can switch the board's supply."""
        return any(each.kind in _SWITCHES for each in self.resources)


@dataclass(frozen=True)
class Reservation:
    """A turn in the queue for a place; with `has_place` it is our turn."""

    token: str
    has_place: bool


def parse_show(text: str) -> Shown:
    """A place as `show` prints it. Raises Blocked if that is something else."""
    with _as_expected("show"):
        return Shown(
            name=_value(r"^Place '(.*)':$", text),
            acquired=None if (who := _value(r"^  acquired: (.*)$", text)) == "None" else who,
            changed=_value(r"^  changed: ([^.\n]*)", text),
            reservation=token[1]
            if (token := re.search(r"^  reservation: (.*)$", text, re.MULTILINE))
            else None,
            resources=[_resource(each) for each in _RESOURCE.finditer(text)],
        )


def parse_reservation(text: str) -> Reservation:
    """A reservation as `reserve` prints it. Raises Blocked if that is something else."""
    with _as_expected("reserve"):
        return Reservation(
            token=_value(r"^Reservation '(.*)':$", text),
            has_place=_value(r"^  state: (.*)$", text) == "allocated",
        )


def owner_of(token: str, text: str) -> str | None:
    """Whose reservation that is, `HOST/USER`, from what `reservations` prints."""
    found = re.search(rf"^Reservation '{re.escape(token)}':\n  owner: (.*)$", text, re.MULTILINE)
    return found[1] if found else None


@contextlib.contextmanager
def _as_expected(command: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, SyntaxError, KeyError, TypeError):
        raise Blocked(
            f"What 'labgrid-client {command}' prints is not as labgrid 26.0 has it: install that version."
        ) from None


def _value(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    if not found:
        raise ValueError(pattern)
    return found[1]


def _resource(found: re.Match[str]) -> Resource:
    values = ast.literal_eval(found["values"].strip())
    return Resource(
        found["name"], found["exporter"], values["cls"], bool(values["avail"]), dict(values["params"])
    )
