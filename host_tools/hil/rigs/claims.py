"""What a rig wants for itself alone: its board, the boards that act on it, and the switch of its supply."""

from collections.abc import Iterator, Sequence

from host_tools.hil.rigs.model import RigFile
from host_tools.hil.rigs.power import PowerSpec, RelayPower, TasmotaPower, UhubctlPower
from host_tools.hil.rigs.stimulus import BoardStimulus
from host_tools.userfile import KeyPath, UserFileError, read


def see_no_conflict(rigs: Sequence[RigFile]) -> None:
    """Raises UserFileError when two rigs claim one thing, with the names of both; a line for each thing."""
    first: dict[str, RigFile] = {}
    lines = []
    for rig in rigs:
        for path, thing in _claims(rig):
            other = first.setdefault(thing, rig)
            if other is not rig:
                at = read(rig.path).line(path)
                lines.append(
                    f"{rig.path}:{at}: the rigs '{other.name}' and '{rig.name}' both claim {thing}. "
                    f"Correct one of them; the other is in {other.path}."
                )
    if lines:
        raise UserFileError("\n".join(lines))


def _claims(rig: RigFile) -> Iterator[tuple[KeyPath, str]]:
    """Each thing in words that are the same in every file, and where this file names it."""
    if rig.port:
        yield ("port",), rig.port.called
    if rig.place:
        yield ("place",), rig.place.called
    for channel, spec in rig.stimulus.items():
        if isinstance(spec, BoardStimulus):
            yield ("stimulus", channel, "port"), spec.port.called
    switch = _switch(rig.power)
    if switch:
        yield ("power",), switch


def _switch(power: PowerSpec) -> str | None:
    """What switches this board and no other, where two files can be compared in that."""
    match power:
        case UhubctlPower(location=location, port=port):
            return f"port {port} of USB hub {location}"
        case RelayPower(port=port, channel=channel):
            return f"relay {channel} at {port}"
        case TasmotaPower(host=host, topic=topic, relay=relay):
            return f"relay {relay} of Tasmota device {topic} at {host}"
    return None
