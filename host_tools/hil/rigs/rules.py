"""What must go together in a rig file: keys with the rung, tables with one another and with the board."""

from collections.abc import Collection, Iterator, Mapping

from host_tools.boards import CHIPS, Board
from host_tools.hil.rigs.channels import channels, leaves
from host_tools.hil.rigs.model import EmulatorSpec, Rig
from host_tools.hil.rigs.needs import is_built_in
from host_tools.hil.rigs.power import LabgridPower, PowerSpec
from host_tools.hil.rigs.stimulus import BoardStimulus, StimulusSpec
from host_tools.settings.model import Sensor
from host_tools.userfile import Problem, describe, did_you_mean, problem

_OF_QEMU = ("esp32", "esp32s3")
_OUT = "Leave this key out."
_NOT_VIRTUAL = {
    "host": f"a virtual board reaches this machine by itself. {_OUT}",
    "port": f"a virtual board brings its own port. {_OUT}",
    "place": f"a virtual board is on this machine, not in a lab. {_OUT}",
    "power": f"the power of a virtual board can be cut at any time. {_OUT}",
    "stimulus": f"what the sensors of a virtual board measure can be set as it is. {_OUT}",
    "wifi": f"a virtual board brings its own network. {_OUT}",
    "emulator": 'only a rig with rung = "emulator" has this key. Change the rung, or leave it out.',
}
_NOT_EMULATED = {
    "port": f"an emulator brings its own port. {_OUT}",
    "place": f"an emulator is on this machine, not in a lab. {_OUT}",
    "power": f"an emulator has no supply that could be cut. {_OUT}",
    "stimulus": f"nothing acts on the sensors of an emulator. {_OUT}",
}
_NOT_ON_A_BENCH = {"emulator": _NOT_VIRTUAL["emulator"]}
_NOT_IN_QEMU = {
    "host": f"QEMU has no Wi-Fi, so the board reaches no machine. {_OUT}",
    "wifi": f"QEMU has no Wi-Fi. {_OUT}",
    "sensors": f"QEMU has none of these sensors. {_OUT}",
}
_FOREIGN = {"virtual": _NOT_VIRTUAL, "emulator": _NOT_EMULATED, "bench": _NOT_ON_A_BENCH}


def rig_problems(rig: Rig, present: Collection[str], board: Board | None) -> Iterator[Problem]:
    """What does not go together at the top of the file. The rig may be a salvaged one (some fields absent);
    `present` are the keys of the file."""
    match rig:
        case Rig(rung=rung):
            yield from _foreign(_FOREIGN[rung], present)
            if rung == "bench":
                yield from _whereabouts(present)
            if rung == "emulator":
                yield from _emulator(rig, present, board)
    match rig:
        case Rig(capabilities=declared):
            yield from _declared(declared)


def power_problems(power: PowerSpec | None, present: Collection[str]) -> Iterator[Problem]:
    """What is wrong with the power for this rig."""
    if isinstance(power, LabgridPower) and "place" not in present:
        text = 'labgrid switches the power of its places alone. Write place = { name = "…" }.'
        yield problem(("power", "kind"), text)


def stimulus_problems(
    rig: Rig, specs: Mapping[str, StimulusSpec | None], sensors: Mapping[str, Sensor], tables: object
) -> Iterator[Problem]:
    """Stimuli for what no sensor measures, or by the board that they are for. Rig and sensors may be salvaged
    ones; `tables` are the file's of the sensors."""
    known = channels(sensors)
    written = tables.keys() if isinstance(tables, Mapping) else frozenset[str]()
    # Of these nobody knows what they measure.
    doubtful = {name for name in written if name not in sensors or not leaves(sensors[name])}
    own = getattr(rig, "port", None)
    for name, spec in specs.items():
        if own and isinstance(spec, BoardStimulus) and spec.port.called == own.called:
            text = f"{own.called} is the board under test. Name the second board, which acts on it."
            yield problem(("stimulus", name, "port"), text)
        if name in known or name.partition("/")[0] in doubtful:
            continue
        if known:
            text = f"no sensor measures {describe(name)}. {did_you_mean(name, known)}"
        else:
            text = "the rig has no sensors to act on. Write tables [sensors.NAME], or leave this one out."
        yield problem(("stimulus", name), text)


def _foreign(sentences: Mapping[str, str], present: Collection[str]) -> Iterator[Problem]:
    for key, text in sentences.items():
        if key in present:
            yield problem((key,), text)


def _whereabouts(present: Collection[str]) -> Iterator[Problem]:
    if "port" in present and "place" in present:
        text = "a place of labgrid has its own port. Keep one of port and place."
        yield problem(("port",), text)
    elif "port" not in present and "place" not in present:
        text = (
            'this key is missing: where is the board? Write port = { mac = "…" }, { usb = "…" } or '
            '{ url = "…" }, or for a lab place = { name = "…" }.'
        )
        yield Problem(("port",), text, at=())


def _emulator(rig: Rig, present: Collection[str], board: Board | None) -> Iterator[Problem]:
    if "emulator" not in present:
        text = 'this key is missing. Write emulator = { kind = "qemu" } or { kind = "esp-emu" }.'
        yield Problem(("emulator",), text, at=())
    if board and board.micropython is None:
        text = f"{describe(board.name)} has no MicroPython for a chip. Name another, such as esp32_generic."
        yield problem(("board",), text)
    match rig:
        case Rig(emulator=EmulatorSpec(kind="qemu")):
            yield from _foreign(_NOT_IN_QEMU, present)
            if board and board.micropython and board.chip not in _OF_QEMU:
                played = " or an ".join(CHIPS[chip].esptool_name for chip in _OF_QEMU)
                text = f"QEMU plays an {played}, and this board has an {board.features.esptool_name}."
                yield problem(("board",), f"{text} Name another, such as esp32_generic.")


def _declared(declared: Collection[str]) -> Iterator[Problem]:
    known: set[str] = set()
    for index, word in enumerate(declared):
        path = ("capabilities", index)
        if is_built_in(word):
            yield problem(
                path, f"whether a rig has {describe(word)} follows from its other keys. Leave it out here."
            )
        elif word in known:
            yield problem(path, f"{describe(word)} stands in the list twice. Keep it once.")
        known.add(word)
