"""From what a rig file says of the power to what switches it."""

from host_tools.hil.board.protocol import Power
from host_tools.hil.power.command import Command
from host_tools.hil.power.relay import Relay
from host_tools.hil.power.tasmota import Tasmota
from host_tools.hil.power.told import Told
from host_tools.hil.power.uhubctl import Uhubctl
from host_tools.hil.rigs.power import CommandPower, PowerSpec, RelayPower, TasmotaPower, UhubctlPower
from host_tools.hil.timeline import Timeline


def make_power(spec: PowerSpec, timeline: Timeline) -> Power | None:
    """The supply that a rig file describes; nothing is switched, or looked for, yet. None when there is none,
    and when it comes with the board, as a virtual board's does, and that of a place in a lab."""
    power = _driver(spec)
    return power and Told(power, timeline)


def _driver(spec: PowerSpec) -> Power | None:
    match spec:
        case CommandPower():
            return Command(spec)
        case UhubctlPower():
            return Uhubctl(spec)
        case RelayPower():
            return Relay(spec)
        case TasmotaPower():
            return Tasmota(spec)
    return None
