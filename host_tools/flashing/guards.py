"""What forbids flashing a board, decided before anything of it is erased. Pure."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the process that flashes needs no board files, and they take a while to load
    from host_tools.boards import Board


@dataclass(frozen=True)
class Found:
    """What a chip in its bootloader says of itself."""

    chip: str
    """As esptool calls it: "ESP32-S3"."""
    mac: str
    """Its base MAC address in lower case; empty when it may not tell."""
    flash_size: int
    """Bytes; 0 when the flash chip does not say."""
    revision: int
    """100 × major + minor."""
    encrypted: bool
    secure_boot: bool
    secure_download: bool


@dataclass(frozen=True)
class Allowed:
    """What the board may be."""

    board: "Board"
    macs: Collection[str] = ()
    """The MAC addresses one of which it must have, in lower case; empty for any."""
    revisions: tuple[int, int] = (0, 0xFFFF)
    """The least and the last revision of the chip that the image's bootloader starts on."""


def refusal(found: Found, allowed: Allowed, recorded: str | None = None) -> str | None:
    """Why this board must not be flashed, and what to do; None when it may be.

    `recorded` is the board that a fleet record takes it for.
    """
    board = allowed.board
    return (
        _security(found)
        or _identity(found, board, allowed.macs, recorded)
        or _flash(found.flash_size, board)
        or _revision(found.revision, allowed.revisions)
    )


def _security(found: Found) -> str | None:
    if found.secure_download:
        return "its secure download mode is on, so nobody can see what is on it: limpet cannot flash it."
    if found.encrypted:
        return "its flash encryption is on, so what is written would not start: limpet cannot flash it."
    if found.secure_boot:
        return "its secure boot is on, so it starts signed software only: limpet cannot flash it."
    return None


def _identity(found: Found, board: "Board", macs: Collection[str], recorded: str | None) -> str | None:
    wanted = board.features.esptool_name
    if found.chip != wanted:
        return (
            f"its chip is an {found.chip}, but board '{board.name}' has an {wanted}: name another "
            "--board, or another port."
        )
    if macs and found.mac not in macs:
        return (
            f"its MAC address is {found.mac}, not {' or '.join(macs)}: name another port, or another --mac."
        )
    if recorded is not None and recorded != board.name:
        return (
            f"the fleet record has {found.mac} as a board '{recorded}', not '{board.name}': name that "
            "--board, or another port."
        )
    return None


def _flash(size: int, board: "Board") -> str | None:
    if not size:
        return "its flash chip does not answer: see to the board's power."
    if size < board.flash_size:
        return (
            f"its flash has {_mib(size)}, but board '{board.name}' has {_mib(board.flash_size)}: name "
            "another --board."
        )
    return None


def _revision(revision: int, allowed: tuple[int, int]) -> str | None:
    least, last = allowed
    if least <= revision <= last:
        return None
    said = f"at least {_version(least)}" if revision < least else f"at most {_version(last)}"
    return f"its chip has revision {_version(revision)}, but the image needs {said}: use another image."


def _version(revision: int) -> str:
    return f"{revision // 100}.{revision % 100}"


def _mib(size: int) -> str:
    return f"{size / 0x100000:g} MiB"
