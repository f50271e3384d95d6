"""limpet: sensor-node firmware for ESP32 boards on MicroPython."""

__version__ = "0.1.0"
