"""The host side of limpet: what the `limpet` command does."""

from importlib.metadata import version

__version__ = version("limpet")
