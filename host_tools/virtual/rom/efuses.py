"""What is burnt into a chip beyond its MAC address."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Efuses:
    """What forbids to flash the chip as if it were new.

    `secure_boot` is version 2. `secure_download`: the ROM serves a few commands only (ESP32-S3, -C3, -C6);
    the ESP32 has no such mode, its eFuse UART_DOWNLOAD_DIS turns the download mode off: it never answers.
    """

    flash_encryption: bool = False
    secure_boot: bool = False
    secure_download: bool = False
