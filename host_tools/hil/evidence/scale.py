"""A linear scale with round numbers on it: where a value is on the page, and which values get a mark."""

import math
from dataclasses import dataclass

_STEPS = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class Scale:
    """From values between `low` and `high` to places between `start` and `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The place of a value, to a tenth."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def holds(self, value: float) -> bool:
        """Whether a value has a place on it."""
        return self.low <= value <= self.high

    def ticks(self, most: int) -> list[tuple[float, str]]:
        """At most so many round values, each with its place and as text with the digits it needs."""
        step = nice_step((self.high - self.low) / most)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [(self(n * step), f"{n * step:,.{digits}f}") for n in range(first, last + 1)]


def nice_step(least: float) -> float:
    """The smallest of 1, 2, 5, 10, 20 … that is no less."""
    size = 10.0 ** math.floor(math.log10(least))
    return next((step * size for step in _STEPS if step * size >= least * (1 - 1e-9)), 10 * size)


def around(values: list[float]) -> tuple[float, float]:
    """A range that holds all values with some air; what never changes is in the middle of its range."""
    low, high = min(values), max(values)
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-3):
        air = max(abs(high) * 0.01, 0.5)
    else:
        air = (high - low) * 0.12
    return low - air, high + air
