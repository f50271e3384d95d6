"""What hangs on the virtual board's pins: parts modelled at the level of registers, slots and voltages.

A part is a plain object. It is asked by its bus, it asks nobody; it learns the time from a function that
it is given, and the world from a stimulus (host_tools/virtual/stimulus.py).
"""

from collections.abc import Callable
from typing import Protocol

from host_tools.errors import LimpetError

Now = Callable[[], float]
"""The time in seconds, from any origin, never going back."""


class I2CDevice(Protocol):
    """A part on an I2C bus."""

    address: int
    """Its seven-bit address."""

    @property
    def stuck(self) -> bool:
        """Whether the part holds SDA or SCL low, so that no transfer on its bus, to anyone, ever ends."""

    def write(self, data: bytes) -> bool:
        """Take START, address and `data` (none: just the address); tell whether all was acknowledged."""

    def read(self, n: int) -> bytes:
        """Give `n` bytes after START and address; 0xFF is read where nobody drives the line."""


class OneWireDevice(Protocol):
    """A part on a 1-Wire bus, which joins the answers of all parts: a 0 wins."""

    def reset(self) -> bool:
        """See the master's reset pulse; tell whether the line is then pulled low (a presence pulse)."""

    def write_bit(self, bit: int) -> None:
        """See a write slot."""

    def read_bit(self) -> int:
        """See a read slot; give 0 to pull the line low in it."""


class AnalogSource(Protocol):
    """A voltage at a pin."""

    def microvolts(self) -> int:
        """The true voltage at this moment, in microvolts against ground."""


def known_fault(part: str, fault: str | None, faults: tuple[str, ...]) -> str | None:
    """Return `fault` when `part` has it, or None for none. Raises LimpetError for another word."""
    if fault is None or fault in faults:
        return fault
    raise LimpetError(f"A {part} has no fault {fault!r}; it has {', '.join(faults)}.")
