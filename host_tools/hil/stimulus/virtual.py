"""What a virtual board's sensors see, and what is wrong with them."""

from collections.abc import Callable, Mapping
from typing import Protocol

from host_tools.virtual.stimulus import Stimulus, constant


class Quantity(Protocol):
    """A quantity at a virtual part (`host_tools.hil.board.wiring`)."""

    @property
    def value(self) -> float: ...

    def follow(self, stimulus: Stimulus) -> None: ...

    def clear(self) -> None: ...


class Part(Protocol):
    """A virtual part (`host_tools.virtual.parts`)."""

    fault: str | None


class Virtual:
    """One quantity of one part. It is what it is said to be, at once and exactly."""

    tolerance = 0.0

    def __init__(self, quantity: Quantity) -> None:
        self._quantity = quantity

    def set(self, value: float) -> None:
        self._quantity.follow(constant(value))

    def value(self) -> float:
        return self._quantity.value

    def clear(self) -> None:
        self._quantity.clear()


class Faults:
    """The parts by the names of their sensors. `inside` calls a function where their state may be touched."""

    def __init__(self, parts: Mapping[str, Part], inside: Callable[[Callable[[], None]], None]) -> None:
        self._parts = parts
        self._inside = inside

    @property
    def sensors(self) -> tuple[str, ...]:
        return tuple(self._parts)

    def set(self, sensor: str, fault: str | None) -> None:
        """Break a sensor, or None to mend it. Raises LimpetError for a fault that it cannot have."""
        part = self._parts[sensor]

        def change() -> None:
            part.fault = fault

        self._inside(change)

    def clear(self) -> None:
        """All are sound."""
        for sensor, part in self._parts.items():
            if part.fault:
                self.set(sensor, None)
