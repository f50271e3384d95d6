"""What a chip does between reset and its program: the ROM's lines, and those of the bootloader it loads.

Pure: bytes of flash in, text and the outcome out. The texts are those of the chips' ROMs and of ESP-IDF's
second-stage bootloader as they come out of real boards; which of them are from a log and which are only
alike is in docs/virtual-board.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from host_tools import partitions
from host_tools.boards import Board
from host_tools.image import esp

_MOST_HEADERS = 8
"""Times that the ROM looks for a bootloader before it gives up."""
_BOOTLOADER_AREA = 0x8000
"""The bootloader ends where the partition table begins."""


class Reset(Enum):
    """Why a chip begins anew."""

    POWER_ON = "power on"
    """Also by the EN pin: the chip cannot tell."""
    SOFTWARE = "software"
    WATCHDOG = "watchdog"
    DEEP_SLEEP = "deep sleep"
    BROWNOUT = "brownout"
    RTC_WATCHDOG = "RTC watchdog"
    """The ROM starts it, and the program stops it; it bites when there is none."""
    BOOTLOADER = "bootloader"
    """The second-stage bootloader found nothing to start."""
    USB = "USB"
    """By DTR and RTS of the chip's own USB port."""


@dataclass(frozen=True)
class _Texts:
    banner: str
    reasons: dict[Reset, str]
    flash_boot: str
    download: str
    loading: str


_ESP32 = _Texts(
    "ets Jul 29 2019 12:21:46\r\n\r\n",
    {
        Reset.POWER_ON: "0x1 (POWERON_RESET)",
        Reset.SOFTWARE: "0xc (SW_CPU_RESET)",
        Reset.WATCHDOG: "0x8 (TG1WDT_SYS_RESET)",
        Reset.DEEP_SLEEP: "0x5 (DEEPSLEEP_RESET)",
        Reset.BROWNOUT: "0xf (RTCWDT_BROWN_OUT_RESET)",
        Reset.RTC_WATCHDOG: "0x10 (RTCWDT_RTC_RESET)",
        Reset.BOOTLOADER: "0x3 (SW_RESET)",
        Reset.USB: "0x1 (POWERON_RESET)",
    },
    "0x13 (SPI_FAST_FLASH_BOOT)",
    "0x3 (DOWNLOAD_BOOT(UART0/UART1/SDIO_REI_REO_V2))",
    "configsip: 0, SPIWP:0xee\r\n"
    "clk_drv:0x00,q_drv:0x00,d_drv:0x00,cs0_drv:0x00,hd_drv:0x00,wp_drv:0x00\r\n"
    "mode:DIO, clock div:2\r\n",
)
_NEWER_REASONS = {
    Reset.POWER_ON: "0x1 (POWERON)",
    Reset.SOFTWARE: "0xc (RTC_SW_CPU_RST)",
    Reset.WATCHDOG: "0x8 (TG1WDT_SYS_RST)",
    Reset.DEEP_SLEEP: "0x5 (DSLEEP)",
    Reset.BROWNOUT: "0xf (RTCWDT_BROWN_OUT_RST)",
    Reset.RTC_WATCHDOG: "0x10 (RTCWDT_RTC_RST)",
    Reset.BOOTLOADER: "0x3 (RTC_SW_SYS_RST)",
    Reset.USB: "0x15 (USB_UART_CHIP_RESET)",
}
_TEXTS = {
    "esp32": _ESP32,
    "esp32s3": _Texts(
        "ESP-ROM:esp32s3-20210327\r\nBuild:Mar 27 2021\r\n",
        _NEWER_REASONS,
        "0x8 (SPI_FAST_FLASH_BOOT)",
        "0x0 (DOWNLOAD(USB/UART0))",
        "SPIWP:0xee\r\nmode:DIO, clock div:1\r\n",
    ),
    "esp32c3": _Texts(
        "ESP-ROM:esp32c3-api1-20210207\r\nBuild:Feb  7 2021\r\n",
        {**_NEWER_REASONS, Reset.SOFTWARE: "0x3 (RTC_SW_SYS_RST)"},
        "0xd (SPI_FAST_FLASH_BOOT)",
        "0x5 (DOWNLOAD(USB/UART0/1))",
        "SPIWP:0xee\r\nmode:DIO, clock div:1\r\n",
    ),
    "esp32c6": _Texts(
        "ESP-ROM:esp32c6-20220919\r\nBuild:Sep 19 2022\r\n",
        {
            **_NEWER_REASONS,
            Reset.SOFTWARE: "0xc (SW_CPU)",
            Reset.WATCHDOG: "0x8 (TG1_WDT_HPSYS)",
            Reset.BROWNOUT: "0xf (LP_BOD_SYS)",
            Reset.RTC_WATCHDOG: "0x10 (LP_WDT_SYS)",
            Reset.BOOTLOADER: "0x3 (LP_SW_HPSYS)",
            Reset.USB: "0x15 (USB_UART_HPSYS)",
        },
        "0xc (SPI_FAST_FLASH_BOOT)",
        "0x4 (DOWNLOAD(USB/UART0/SDIO_FEI_FEO))",
        "SPIWP:0xee\r\nmode:DIO, clock div:2\r\n",
    ),
}


@dataclass(frozen=True)
class Start:
    """What a chip printed on its way. `failed` is the next reset when nothing was found to run."""

    text: str
    failed: Reset | None = None


def download(chip: str, why: Reset) -> str:
    """What the ROM prints that waits for a host."""
    texts = _TEXTS[chip]
    return f"{texts.banner}rst:{texts.reasons[why]},boot:{texts.download}\r\nwaiting for download\r\n"


def start(board: Board, why: Reset, read: Callable[[int, int], bytes]) -> Start:
    """Boot from flash, of which `read(offset, length)` gives the bytes."""
    texts = _TEXTS[board.chip]
    said = f"{texts.banner}rst:{texts.reasons[why]},boot:{texts.flash_boot}\r\n"
    place = board.features.bootloader_offset
    data = read(place, _BOOTLOADER_AREA - place)
    if data[0] != esp.MAGIC:
        header = int.from_bytes(data[:4], "little")
        return Start(said + f"invalid header: 0x{header:08x}\r\n" * _MOST_HEADERS, Reset.RTC_WATCHDOG)
    said += texts.loading
    try:
        bootloader = esp.parse(data)
    except esp.EspImageError as e:
        return Start(f"{said}csum err: {e}\r\n", Reset.RTC_WATCHDOG)
    if bootloader.chip_id != board.features.image_chip_id:
        return Start(f"{said}wrong chip id 0x{bootloader.chip_id:04x}\r\n", Reset.RTC_WATCHDOG)
    for segment in bootloader.segments:
        said += f"load:0x{segment.address:08x},len:0x{segment.size:x}\r\n"
    said += f"entry 0x{bootloader.entry:08x}\r\n"
    problems = _second_stage(board, bootloader.flash_size, read)
    if problems:
        errors = "".join(f"E ({60 + 6 * n}) {line}\r\n" for n, line in enumerate(problems))
        return Start(said + errors, Reset.BOOTLOADER)
    return Start(said)


def _second_stage(board: Board, flash_size: int, read: Callable[[int, int], bytes]) -> tuple[str, ...]:
    """The errors of ESP-IDF's bootloader; none when it starts a program."""
    raw = read(partitions.TABLE_OFFSET, partitions.TABLE_SIZE)
    unusable = ("boot: Failed to verify partition table", "boot: load partition table error!")
    try:
        table = partitions.decode(raw)
    except partitions.PartitionTableError:
        magic = int.from_bytes(raw[:2], "little")
        first = (
            f"flash_parts: partition 0 invalid magic number 0x{magic:x}"
            if magic != 0x50AA
            else "flash_parts: Incorrect MD5 checksum"
        )
        return (first, *unusable)
    for number, each in enumerate(table):
        if each.end > flash_size:
            return (
                f"flash_parts: partition {number} invalid - offset 0x{each.offset:x} size 0x{each.size:x} "
                f"exceeds flash chip size 0x{flash_size:x}",
                *unusable,
            )
    apps = sorted((p for p in table if p.type == partitions.TYPE_APP), key=lambda p: (p.subtype, p.offset))
    problems = []
    for app in apps:
        problem = _app_problem(app, board, read)
        if problem is None:
            return ()
        problems.append(problem)
        problems.append(f"boot: {'Factory' if app.subtype == 0 else 'OTA'} app partition is not bootable")
    return (*problems, "boot: No bootable app partitions in the partition table")


def _app_problem(app: partitions.Partition, board: Board, read: Callable[[int, int], bytes]) -> str | None:
    if read(app.offset, 1)[0] != esp.MAGIC:
        return f"esp_image: image at 0x{app.offset:x} has invalid magic byte (nothing flashed here?)"
    try:
        image = esp.parse(read(app.offset, app.size))
    except esp.EspImageError as e:
        return f"esp_image: image at 0x{app.offset:x}: {e}"
    wanted = board.features.image_chip_id
    if image.chip_id != wanted:
        return f"boot_comm: mismatch chip ID, expected {wanted}, found {image.chip_id}"
    return None
