"""A quantity that is not set, but known: from a better sensor beside the board's."""

import math

from host_tools.hil.blocked import Blocked
from host_tools.hil.program import run
from host_tools.hil.rigs.stimulus import ReferenceStimulus


class Reference:
    """A program prints its value, as the last of its lines."""

    def __init__(self, spec: ReferenceStimulus) -> None:
        self._read = spec.read
        self.tolerance = spec.tolerance

    def set(self, value: float) -> None:
        raise Blocked("This quantity is read from a reference sensor, and nothing on the rig can set it.")

    def value(self) -> float:
        said = run(self._read).strip()
        number = _number(said.splitlines()[-1]) if said else math.nan
        if not math.isfinite(number):
            found = repr(said.splitlines()[-1][:60]) if said else "nothing"
            raise Blocked(f"'{self._read[0]}' printed {found}, and should print a number: see to its sensor.")
        return number

    def clear(self) -> None:
        """It is as it is."""


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
