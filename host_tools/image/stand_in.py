"""What stands in flash where a virtual board has no stock MicroPython.

A virtual board starts only what its chip's ROM would start, and MicroPython's unix port then runs in the
program's place. So a bootloader and a program are there that are well-formed, and say what they are.
"""

from host_tools.image import esp

TEXT = "limpet stand-in: MicroPython's unix port runs in its place"
PROJECT = "limpet stand-in"
_VERSION = "1"
# Where each chip maps the constants of a program, and where its RAM for data is: esptool's DROM and DRAM.
_CONSTANTS = {"ESP32": 0x3F400020, "ESP32-S3": 0x3C000020, "ESP32-C3": 0x3C000020, "ESP32-C6": 0x42800020}
_RAM = {"ESP32": 0x3FFF0030, "ESP32-S3": 0x3FCE2820, "ESP32-C3": 0x3FCD5820, "ESP32-C6": 0x40875730}


def bootloader(chip: str, flash_size: int) -> bytes:
    """A bootloader for `chip`, called as esptool does, on `flash_size` bytes of flash."""
    return esp.build(esp.chip_id(chip), flash_size, _RAM[chip], esp.bootloader_description() + TEXT.encode())


def app(chip: str, flash_size: int) -> bytes:
    """A program for `chip`, called as esptool does, on `flash_size` bytes of flash."""
    content = esp.app_description(PROJECT, _VERSION) + TEXT.encode()
    return esp.build(esp.chip_id(chip), flash_size, _CONSTANTS[chip], content)
