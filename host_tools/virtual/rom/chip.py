"""What the ROM loader and the flasher stub share: they run on the same chip, one after the other."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from host_tools.virtual.rom.agenda import Agenda
from host_tools.virtual.rom.efuses import Efuses
from host_tools.virtual.rom.flash_bus import FlashBus
from host_tools.virtual.rom.ram import Ram
from host_tools.virtual.rom.registers import Registers


@dataclass(frozen=True)
class Chip:
    """`target` is esptool's class for the chip. The callables are for an Agenda: when all is sent."""

    target: Any
    efuses: Efuses
    registers: Registers
    bus: FlashBus
    ram: Ram
    agenda: Agenda
    flash_size: int
    change_baudrate: Callable[[int], None]
    start_stub: Callable[[], None]
    start_rom: Callable[[], None]
    hang: Callable[[], None]  # a program that says nothing
    run: Callable[[], None]  # leave the download mode
