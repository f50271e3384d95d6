"""From a rig file to its board."""

from host_tools.hil.board.protocol import Board, Power
from host_tools.hil.rigs import RigFile
from host_tools.hil.timeline import Timeline


def open_board(
    rig: RigFile, timeline: Timeline, *, power: Power | None = None, port: str | None = None
) -> Board:
    """The board of a rig, ready for `install`. `power` switches a bench board's supply, and `port` is where
    its labgrid place has it; else it is looked for as the rig file says.

    Raises LimpetError when it is not there, Blocked when this machine lacks the program that makes it.
    """
    if rig.rung == "virtual":
        from host_tools.hil.board.virtual import VirtualRung

        return VirtualRung(rig, timeline)
    if rig.rung == "emulator":
        from host_tools.hil.board.emulator import EmulatorRung

        return EmulatorRung(rig, timeline)
    from host_tools.hil.board.bench import BenchRung

    return BenchRung(rig, timeline, power, port)
