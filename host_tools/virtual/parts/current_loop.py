"""A 4–20 mA transmitter after NAMUR NE 43, and the shunt that makes a voltage of its current.

A value beyond the range drives the current to 3.8 or 20.5 mA and no further, as NE 43 wants it. Left out: the
loop's supply and burden, the transmitter's time lag, noise, and the tolerance of the shunt.
"""

from host_tools.virtual.parts import Now, known_fault
from host_tools.virtual.stimulus import Stimulus

_FAULT_MA = {"wire-break": 0.0, "under-range": 3.7, "over-range": 20.8, "over-current": 22.0}

FAULTS = tuple(_FAULT_MA)
"""
wire-break    no current
under-range   3.7 mA: between measured values and the failure signal
over-range    20.8 mA, likewise
over-current  22 mA: the transmitter's failure signal, or a short circuit
"""


class CurrentLoop:
    """A transmitter with 4 mA at `low` and 20 mA at `high`; `quantity` is a function of the seconds since it
    was made. `fault` is one of FAULTS, or None; setting another word raises LimpetError."""

    def __init__(
        self, now: Now, quantity: Stimulus, *, low: float, high: float, shunt_ohm: float = 100.0
    ) -> None:
        if low == high:
            raise ValueError(f"the range of a current loop has two ends, not {low} twice")
        self._now = now
        self._made = now()
        self._quantity = quantity
        self._low = low
        self._high = high
        self._shunt_ohm = shunt_ohm
        self._fault: str | None = None

    @property
    def fault(self) -> str | None:
        return self._fault

    @fault.setter
    def fault(self, fault: str | None) -> None:
        self._fault = known_fault("current loop", fault, FAULTS)

    def milliamperes(self) -> float:
        """The current in the loop."""
        if self._fault is not None:
            return _FAULT_MA[self._fault]
        value = self._quantity(self._now() - self._made)
        return max(3.8, min(20.5, 4 + 16 * (value - self._low) / (self._high - self._low)))

    def microvolts(self) -> int:
        return round(self.milliamperes() * self._shunt_ohm * 1000)
