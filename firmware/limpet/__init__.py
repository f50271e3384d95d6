"""limpet: sensor-node firmware for ESP32 boards on MicroPython."""

__version__ = "0.1.0"
RELEASED = 1795305600  # 2026-11-22 in unix time: no node of this firmware has lived before
