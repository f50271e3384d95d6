"""Memory as READ_REG and WRITE_REG see it: eFuses, the flash's SPI controller, the watchdog, and RAM words.

Addresses and masks are those of esptool's class for the chip.
"""

import struct
from collections.abc import Callable
from typing import Any

from host_tools.crc8 import crc8
from host_tools.virtual.flash_chip import FlashChip
from host_tools.virtual.rom.efuses import Efuses
from host_tools.virtual.rom.spi_flash import SpiCommands, SpiController

_CRYSTAL = 40_000_000  # Hz
_WORDS = 1024  # written words that are remembered: a host must not fill our memory
_WATCHDOG_ON = 1 << 31

# Where esptool's classes have code instead of names: the ESP32's chip version 3.0 (D0WD-V3), from
# get_major_chip_version, get_pkg_version, get_chip_features and get_rom_cal_crystal_freq.
_ESP32_V3_WORD3 = 1 << 15 | 1 << 9 | 1 << 13
_ESP32_V3_WORD5 = 1 << 20
_ESP32_8M_CLOCK = 128
# The others' versions: block 1, word 3 (minor version; ESP32-S3 0.2, ESP32-C3 0.4, ESP32-C6 0.1).
_MINOR_VERSION = {"ESP32-S3": 2, "ESP32-C3": 4, "ESP32-C6": 1}

_PURPOSE_FLASH_ENCRYPTION = 4  # XTS_AES_128_KEY
_PURPOSE_SECURE_BOOT = 9  # SECURE_BOOT_DIGEST0


class Registers:
    """`baudrate` tells the line's rate now. `on_watchdog` is called when a watchdog is set to bite."""

    def __init__(
        self,
        target: Any,
        mac: bytes,
        efuses: Efuses,
        flash: FlashChip,
        baudrate: Callable[[], int],
        on_watchdog: Callable[[], None],
    ) -> None:
        self._target = target
        self._fixed = burnt(target, mac, efuses)
        self._spi = SpiController(target, SpiCommands(flash))
        self._words: dict[int, int] = {}
        self._baudrate = baudrate
        self._on_watchdog = on_watchdog

    def read(self, address: int) -> int:
        """A word; 0 where nothing is modelled."""
        if self._spi.owns(address):
            return self._spi.read(address)
        if address == getattr(self._target, "UART_CLKDIV_REG", None):
            return _CRYSTAL // self._baudrate()
        if address in self._fixed:
            return self._fixed[address]
        return self._words.get(address, 0)

    def write(self, address: int, value: int, mask: int = 0xFFFFFFFF) -> None:
        """The bits of `mask` become those of `value`."""
        value = value & mask | self.read(address) & ~mask
        if self._spi.owns(address):
            self._spi.write(address, value)
        elif address in self._words or len(self._words) < _WORDS:
            self._words[address] = value
        if address == getattr(self._target, "RTC_CNTL_WDTCONFIG0_REG", None) and value & _WATCHDOG_ON:
            key = self._words.get(self._target.RTC_CNTL_WDTWPROTECT_REG)
            if key == self._target.RTC_CNTL_WDT_WKEY:
                self._on_watchdog()


def burnt(target: Any, mac: bytes, efuses: Efuses) -> dict[int, int]:
    """What cannot be written: eFuses and ROM, as far as esptool reads them."""
    words: dict[int, int] = {}

    def put(address: int, value: int) -> None:
        words[address] = words.get(address, 0) | value

    upper, lower = struct.unpack(">HI", mac)
    if efuses.flash_encryption:
        put(target.EFUSE_SPI_BOOT_CRYPT_CNT_REG, _lowest_bit(target.EFUSE_SPI_BOOT_CRYPT_CNT_MASK))
    if target.CHIP_NAME == "ESP32":
        base = target.EFUSE_RD_REG_BASE
        put(target.CHIP_DETECT_MAGIC_REG_ADDR, target.MAGIC_VALUE)
        put(base + 4, lower)
        put(base + 8, crc8(mac) << 16 | upper)
        put(base + 12, _ESP32_V3_WORD3)
        put(base + 16, _ESP32_8M_CLOCK)
        put(base + 20, _ESP32_V3_WORD5)
        put(target.APB_CTL_DATE_ADDR, target.APB_CTL_DATE_V << target.APB_CTL_DATE_S)
        calibration = _CRYSTAL * 40 // (15625 * _ESP32_8M_CLOCK)
        put(target.RTCCALICFG1, calibration << target.TIMERS_RTC_CALI_VALUE_S)
        if efuses.flash_encryption:
            put(base, 1 << 16)  # the key's block is read-protected
        if efuses.secure_boot:
            put(target.EFUSE_RD_ABS_DONE_REG, target.EFUSE_RD_ABS_DONE_1_MASK)
        return words
    put(target.MAC_EFUSE_REG, lower)
    put(target.MAC_EFUSE_REG + 4, upper | (0xFFFE << 16 if target.CHIP_NAME == "ESP32-C6" else 0))
    put(target.EFUSE_BLOCK1_ADDR + 12, _MINOR_VERSION[target.CHIP_NAME] << 18)
    if efuses.secure_boot:
        put(target.EFUSE_SECURE_BOOT_EN_REG, target.EFUSE_SECURE_BOOT_EN_MASK)
    first, second = key_purposes(efuses)[:2]
    put(target.EFUSE_PURPOSE_KEY0_REG, first << target.EFUSE_PURPOSE_KEY0_SHIFT)
    put(target.EFUSE_PURPOSE_KEY1_REG, second << target.EFUSE_PURPOSE_KEY1_SHIFT)
    return words


def key_purposes(efuses: Efuses) -> bytes:
    """Of the key blocks 0 to 6."""
    encryption = _PURPOSE_FLASH_ENCRYPTION if efuses.flash_encryption else 0
    boot = _PURPOSE_SECURE_BOOT if efuses.secure_boot else 0
    return bytes((encryption, boot, 0, 0, 0, 0, 0))


def security_info(target: Any, efuses: Efuses) -> bytes:
    """What GET_SECURITY_INFO answers, without the status: flags, counter, key purposes, chip, API version."""
    flags = efuses.secure_boot << 0 | efuses.secure_download << 2
    counter = 1 if efuses.flash_encryption else 0
    return struct.pack("<IB7sII", flags, counter, key_purposes(efuses), target.IMAGE_CHIP_ID, 0)


def _lowest_bit(mask: int) -> int:
    return mask & -mask
