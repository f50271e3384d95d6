"""Virtual parts wired as a rig file says its sensors are, at values that tests can change."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from host_tools.boards import Board
from host_tools.settings.model import Bme280, CurrentLoop, Ds18b20, Sensor
from host_tools.settings.wiring import i2c_bus
from host_tools.virtual.parts.bme280 import BME280
from host_tools.virtual.parts.current_loop import CurrentLoop as Transmitter
from host_tools.virtual.parts.ds18b20 import DS18B20
from host_tools.virtual.stimulus import Stimulus, constant
from host_tools.virtual.world import I2CBus, OneWireBus, World

Part = BME280 | DS18B20 | Transmitter

_CELSIUS, _PASCAL, _PERCENT, _PROBE_CELSIUS = 21.5, 100653.0, 45.0, 19.0625


class Quantity:
    """A physical quantity at a part, from any thread. It is itself a stimulus: what the part is made with."""

    def __init__(self, first: float, now: Callable[[], float] = time.monotonic) -> None:
        self._first = first
        self._now = now
        self.clear()

    def follow(self, stimulus: Stimulus) -> None:
        """From now on it is what `stimulus` makes of the seconds since now."""
        self._followed = (stimulus, self._now())

    def clear(self) -> None:
        """It is again what it was at first, and stays so."""
        self.follow(constant(self._first))

    @property
    def value(self) -> float:
        """At this moment."""
        stimulus, since = self._followed
        return stimulus(self._now() - since)

    def __call__(self, seconds: float) -> float:
        return self.value


@dataclass
class Wired:
    """Parts and what is around them."""

    world: World = field(default_factory=World)
    parts: dict[str, Part] = field(default_factory=dict)
    """By the sensor's name."""
    quantities: dict[str, Quantity] = field(default_factory=dict)
    """By channel: "bme280/temperature"."""


def wire(sensors: Mapping[str, Sensor], board: Board) -> Wired:
    """Parts for these sensors, on the pins that they name or that the board has for them."""
    wired = Wired()
    for name, sensor in sensors.items():
        _add(wired, name, sensor, board)
    return wired


def _add(wired: Wired, name: str, sensor: Sensor, board: Board) -> None:
    now = time.monotonic

    def quantity(leaf: str, value: float) -> Quantity:
        made = wired.quantities[f"{name}/{leaf}"] = Quantity(value, now)
        return made

    match sensor:
        case Bme280():
            pins = i2c_bus(sensor, board)
            if pins is None:
                raise ValueError(f"no I2C bus for sensor {name} on board {board.name}; load_rig() refuses it")
            chip = BME280(
                now,
                quantity("temperature", _CELSIUS),
                quantity("pressure", _PASCAL),
                quantity("humidity", _PERCENT),
                address=sensor.address,
            )
            wired.world.i2c.setdefault(pins, I2CBus()).parts.append(chip)
            wired.parts[name] = chip
        case Ds18b20():
            rom = None if sensor.rom is None else bytes.fromhex(sensor.rom)
            probe = DS18B20(now, quantity("temperature", _PROBE_CELSIUS), rom=rom)
            wired.world.onewire.setdefault(sensor.pin, OneWireBus()).parts.append(probe)
            wired.parts[name] = probe
        case CurrentLoop():
            low, high = (float(end) for end in sensor.range)
            loop = Transmitter(
                now,
                quantity(sensor.quantity, low + 0.4 * (high - low)),
                low=low,
                high=high,
                shunt_ohm=sensor.shunt / 1000,
            )
            wired.world.analog[sensor.pin] = loop
            wired.parts[name] = loop
