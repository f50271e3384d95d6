"""Where things are: the firmware and the boards that come with the tools, and the folders we write to."""

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_SHIPPED = _PACKAGE / "shipped"

ROOT = _SHIPPED if _SHIPPED.is_dir() else _PACKAGE.parent
"""The folder that holds `firmware/` and `boards/`: the checkout, or what was installed with the package."""

FIRMWARE = ROOT / "firmware"
BOARDS = ROOT / "boards"
VIRTUAL_BOARD = BOARDS / "virtual"
RIGS = ROOT / "rigs"


def cache_dir() -> Path:
    """The folder for downloads that are checked by hash, made on first use (XDG Base Directory)."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    path = Path(base).expanduser() / "limpet"
    path.mkdir(parents=True, exist_ok=True)
    return path
