"""The ROM bootloader of a virtual ESP32, and the flasher stub that esptool loads into it."""
