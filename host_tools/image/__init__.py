"""Images: what stands in a board's flash. Fetching, composing, explaining them (docs/images.md)."""

from host_tools.image.errors import ImageError, ImageRefusedError
from host_tools.image.firmware import SETTINGS_NAME, firmware_files
from host_tools.image.flash import Region, compose, regions
from host_tools.image.pinned import micropython_image
from host_tools.image.volume import filesystem

__all__ = [
    "SETTINGS_NAME",
    "ImageError",
    "ImageRefusedError",
    "Region",
    "compose",
    "filesystem",
    "firmware_files",
    "micropython_image",
    "regions",
]
