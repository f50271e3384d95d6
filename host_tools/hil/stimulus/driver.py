"""What drives, or at least knows, one physical quantity at a sensor."""

from typing import Protocol


class Driver(Protocol):
    """Values are in the channel's unit. All of it raises Blocked when the hardware does not do its part."""

    tolerance: float
    """How far what the sensor reads may be from `value` for reasons that are not the sensor's."""

    def set(self, value: float) -> None:
        """Have the quantity be that from now on."""

    def value(self) -> float:
        """What it is at this moment, as far as is known."""

    def clear(self) -> None:
        """Leave it as it was before the first `set`."""
