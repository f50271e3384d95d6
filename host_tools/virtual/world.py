"""What is wired to a board: which part hangs on which pin, and how a bus carries their signals."""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field

from host_tools.virtual.name_server import NameServer
from host_tools.virtual.parts import AnalogSource, I2CDevice, OneWireDevice
from host_tools.virtual.radio import AccessPoint


class BusError(Exception):
    """The firmware's call fails with `errno`."""

    def __init__(self, number: int) -> None:
        super().__init__(errno.errorcode.get(number, str(number)))
        self.errno = number


@dataclass
class I2CBus:
    """The parts on one pair of lines, and the lines' own faults."""

    parts: list[I2CDevice] = field(default_factory=list)
    stuck: bool = False
    """The wiring itself holds SDA or SCL low: every transfer runs into the controller's time-out."""

    def transfer(self, address: int, data: bytes, count: int) -> bytes:
        """START, address, write `data`, then (repeated START) read `count` bytes, STOP."""
        if self.stuck or any(part.stuck for part in self.parts):
            raise BusError(errno.ETIMEDOUT)
        part = next((p for p in self.parts if p.address == address), None)
        if part is None:
            raise BusError(errno.ENODEV)
        if not part.write(data):  # of nothing: just whether the part acknowledges its address
            raise BusError(errno.ENODEV)
        return part.read(count) if count else b""


@dataclass
class OneWireBus:
    """The parts on one data line: open drain, so a 0 of any part is what everybody reads."""

    parts: list[OneWireDevice] = field(default_factory=list)
    stuck: bool = False
    """The line is held low: that looks like a presence pulse that never ends, and every bit reads as 0."""

    def reset(self) -> bool:
        present = [part.reset() for part in self.parts]
        return self.stuck or any(present)

    def read_bit(self) -> int:
        bits = [part.read_bit() for part in self.parts]
        return 0 if self.stuck or 0 in bits else 1

    def write_bit(self, bit: int) -> None:
        for part in self.parts:
            part.write_bit(0 if self.stuck else bit)

    def read_byte(self) -> int:
        return sum(self.read_bit() << i for i in range(8))

    def write_byte(self, value: int) -> None:
        for i in range(8):
            self.write_bit(value >> i & 1)


@dataclass
class World:
    """Everything around one board. Change it while the board runs: that is how a fault is made."""

    i2c: dict[tuple[int, int], I2CBus] = field(default_factory=dict)
    """By (SCL, SDA)."""
    onewire: dict[int, OneWireBus] = field(default_factory=dict)
    """By GPIO."""
    analog: dict[int, AnalogSource] = field(default_factory=dict)
    """By GPIO."""
    inputs: dict[int, Callable[[], int]] = field(default_factory=dict)
    """Levels put on input pins from outside, by GPIO."""
    access_points: list[AccessPoint] = field(default_factory=list)
    name_server: NameServer = field(default_factory=NameServer)
    """The one that DHCP names, wherever the board joins."""
