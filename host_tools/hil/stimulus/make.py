"""From what a rig file says of the stimuli to what tests call."""

from collections.abc import Mapping

from host_tools.hil.board.protocol import Board
from host_tools.hil.rigs import RigFile
from host_tools.hil.rigs.port import PortChoice
from host_tools.hil.rigs.stimulus import (
    BoardStimulus,
    CommandStimulus,
    ReferenceStimulus,
    StimulusSpec,
    VirtualStimulus,
)
from host_tools.hil.stimulus.board import ByBoard, FindPort, SecondBoard
from host_tools.hil.stimulus.command import Command
from host_tools.hil.stimulus.control import Stimulus
from host_tools.hil.stimulus.driver import Driver
from host_tools.hil.stimulus.reference import Reference
from host_tools.hil.stimulus.virtual import Faults, Quantity, Virtual
from host_tools.hil.timeline import Timeline


def make_stimulus(rig: RigFile, board: Board, timeline: Timeline, find_port: FindPort) -> Stimulus:
    """The stimuli of a rig whose board is open; nothing is set, or looked for, yet."""
    quantities: Mapping[str, Quantity] = {}
    faults = None
    if rig.rung == "virtual":
        from host_tools.hil.board.virtual import VirtualRung

        assert isinstance(board, VirtualRung)
        quantities, faults = board.quantities, Faults(board.parts, board.bench.call)
    boards = {
        spec.port: SecondBoard(spec.port, find_port)
        for spec in rig.stimulus.values()
        if isinstance(spec, BoardStimulus)
    }
    drivers = {
        channel: _driver(spec, boards, quantities.get(channel)) for channel, spec in rig.stimulus.items()
    }
    return Stimulus(rig.channels, drivers, faults, timeline)


def _driver(
    spec: StimulusSpec, boards: Mapping[PortChoice, SecondBoard], quantity: Quantity | None
) -> Driver:
    match spec:
        case BoardStimulus():
            return ByBoard(spec, boards[spec.port])
        case CommandStimulus():
            return Command(spec)
        case ReferenceStimulus():
            return Reference(spec)
        case VirtualStimulus():
            assert quantity is not None
            return Virtual(quantity)
