"""All that a node has in its flash, piece by piece, and as one image."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from host_tools import image
from host_tools.boards import Board


@dataclass(frozen=True)
class NodeImage:
    """Firmware, settings and identity for a board of this kind. What it holds in secret, its repr does not
    show."""

    board: Board
    files: Mapping[str, bytes] = field(repr=False)
    """By path: the firmware, and the settings as `limpet.json`."""
    identity: bytes = field(default=b"", repr=False)
    """The identity partition from its first byte on; empty for a blank one."""
    micropython: bytes | None = field(default=None, repr=False)
    """The stock image; None where the board names none."""
    stand_in: bool = False
    """Have the stand-in for MicroPython, which starts on virtual boards alone."""

    @property
    def settings(self) -> bytes:
        """The settings as the node reads them; empty when it has none."""
        return self.files.get(image.SETTINGS_NAME, b"")

    @property
    def is_locked(self) -> bool:
        """Whether the node lets nobody at its REPL (docs/production.md)."""
        try:
            return bool(json.loads(self.settings).get("profile") == "production")
        except (ValueError, AttributeError):  # damaged ones lock what has an identity
            return bool(self.settings and self.identity)

    def flash(self, *, with_identity: bool = True) -> bytes:
        """The whole flash. Raises ImageError when something is missing or does not fit."""
        identity = self.identity if with_identity else b""
        return image.compose(
            self.board, self.files, identity or None, self.micropython, stand_in=self.stand_in
        )

    @cached_property
    def sha256(self) -> str:
        """Of the whole flash."""
        return hashlib.sha256(self.flash()).hexdigest()

    @cached_property
    def firmware_sha256(self) -> str:
        """Of the firmware alone, the same whatever the node's settings and identity are: of the line
        `SHA-256 PATH` for each file, in the order of the paths."""
        digest = hashlib.sha256()
        for path, data in sorted(self.files.items()):
            if path != image.SETTINGS_NAME:
                digest.update(f"{hashlib.sha256(data).hexdigest()} {path}\n".encode())
        return digest.hexdigest()
