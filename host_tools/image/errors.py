"""What goes wrong with images."""

from host_tools.errors import LimpetError, RefusedError


class ImageError(LimpetError):
    """A flash image that cannot be had, made or explained, or that cannot boot."""


class ImageRefusedError(ImageError, RefusedError):
    """An image that must not be used: damaged, for another chip, or not the one that was asked for."""
