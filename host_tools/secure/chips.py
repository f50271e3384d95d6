"""The eFuses of each chip that flash encryption and secure boot need.

Sources: ESP-IDF Programming Guide, "Security Features Enablement Workflows", "Flash Encryption" and
"Secure Boot v2", for each chip; names as espefuse has them.
"""

from dataclasses import dataclass

Values = tuple[tuple[str, int], ...]
"""eFuses and what is burnt into them."""


@dataclass(frozen=True)
class Locks:
    """What to burn on one kind of chip."""

    oldest: str
    """What must be so of the chip's revision, or nothing."""
    encryption_block: str
    """Gets the flash encryption key, which its hardware alone can read from then on."""
    encryption_purpose: str | None
    encryption_on: Values
    """The counter, with all its bits, so that it counts no more."""
    digest_block: str
    """Gets the SHA-256 of the public key that images must be signed with."""
    digest_purpose: str | None
    other_digests: Values
    boot_on: Values
    download: Values
    """What the download mode could do with an encrypted flash."""
    debug: Values
    boot_paths: Values
    """Other ways to start a program."""
    protect: tuple[str, ...]
    """Each stands for a group that shares one write protection."""
    secure_download: str | None
    """Leaves a download mode that can write the flash; None where there is no such thing."""
    no_download: str


def _later(oldest: str, *caches: str) -> Locks:
    """The ESP32-S3, -C3 and -C6, which differ little."""
    return Locks(
        oldest=oldest,
        encryption_block="BLOCK_KEY0",
        encryption_purpose="XTS_AES_128_KEY",
        encryption_on=(("SPI_BOOT_CRYPT_CNT", 7),),
        digest_block="BLOCK_KEY1",
        digest_purpose="SECURE_BOOT_DIGEST0",
        other_digests=(("SECURE_BOOT_KEY_REVOKE1", 1), ("SECURE_BOOT_KEY_REVOKE2", 1)),
        boot_on=(("SECURE_BOOT_EN", 1),),
        download=(("DIS_DOWNLOAD_MANUAL_ENCRYPT", 1), *((name, 1) for name in caches)),
        debug=(("DIS_PAD_JTAG", 1), ("DIS_USB_JTAG", 1), ("SOFT_DIS_JTAG", 7)),
        boot_paths=(("DIS_DIRECT_BOOT", 1),),
        protect=("DIS_ICACHE", "RD_DIS"),
        secure_download="ENABLE_SECURITY_DOWNLOAD",
        no_download="DIS_DOWNLOAD_MODE",
    )


LOCKS = {
    "esp32": Locks(
        oldest="revision 3.0 or later: older ones have no secure boot v2, and keep their download mode",
        encryption_block="flash_encryption",
        encryption_purpose=None,
        encryption_on=(("FLASH_CRYPT_CNT", 127), ("FLASH_CRYPT_CONFIG", 0xF)),
        digest_block="secure_boot_v2",
        digest_purpose=None,
        other_digests=(),
        boot_on=(("ABS_DONE_1", 1),),
        download=(("DISABLE_DL_ENCRYPT", 1), ("DISABLE_DL_DECRYPT", 1), ("DISABLE_DL_CACHE", 1)),
        debug=(("JTAG_DISABLE", 1),),
        boot_paths=(("CONSOLE_DEBUG_DISABLE", 1),),
        protect=("DIS_CACHE", "RD_DIS"),
        secure_download=None,
        no_download="UART_DOWNLOAD_DIS",
    ),
    "esp32s3": _later("", "DIS_DOWNLOAD_ICACHE", "DIS_DOWNLOAD_DCACHE"),
    "esp32c3": _later("revision 0.3 or later: older ones have no secure boot v2", "DIS_DOWNLOAD_ICACHE"),
    "esp32c6": _later("", "DIS_DOWNLOAD_ICACHE"),
}
