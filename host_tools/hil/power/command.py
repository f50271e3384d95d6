"""Power by two programs of the user's: one for on, one for off."""

from host_tools.hil.program import run
from host_tools.hil.rigs.power import CommandPower


class Command:
    """Each is a program and its arguments, and has done it when it ends with exit code 0."""

    def __init__(self, spec: CommandPower) -> None:
        self._spec = spec

    def on(self) -> None:
        run(self._spec.on)

    def off(self) -> None:
        run(self._spec.off)
