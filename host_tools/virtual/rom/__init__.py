"""The ROM bootloader of a virtual ESP32, and the flasher stub that esptool loads into it."""

from host_tools.virtual.rom.efuses import Efuses
from host_tools.virtual.rom.engine import CHIPS, Rom

__all__ = ["CHIPS", "Efuses", "Rom"]
