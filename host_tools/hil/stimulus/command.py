"""A quantity that a program of the user's sets: of an oven, a flow controller, a bench supply."""

from host_tools.hil.blocked import Blocked
from host_tools.hil.program import run
from host_tools.hil.rigs.fields import VALUE
from host_tools.hil.rigs.stimulus import CommandStimulus

_PATIENCE_S = 60.0


class Command:
    """Each is a program and its arguments, and has done it when it ends with exit code 0."""

    tolerance = 0.0

    def __init__(self, spec: CommandStimulus) -> None:
        self._spec = spec
        self._last: float | None = None

    def set(self, value: float) -> None:
        run([word.replace(VALUE, f"{value:.10g}") for word in self._spec.set], _PATIENCE_S)
        self._last = value

    def value(self) -> float:
        if self._last is None:
            raise Blocked(
                "Nobody knows this quantity before it is set: a program sets it, and none reads it."
            )
        return self._last

    def clear(self) -> None:
        if self._last is not None and self._spec.reset:
            run(self._spec.reset, _PATIENCE_S)
        self._last = None
