"""`limpet image build`: from a board, a node file and MicroPython to a flash image in a file."""

import fcntl
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from host_tools import partitions, settings
from host_tools.boards import Board
from host_tools.image import contents, stock
from host_tools.image.errors import ImageError, ImageRefusedError
from host_tools.image.firmware import SETTINGS_NAME, firmware_files
from host_tools.image.flash import compose
from host_tools.image.pinned import Progress, micropython_image, quietly
from host_tools.partitions import PartitionTableError
from host_tools.pki.files import write_private

_BLANK = b"\xff"
_REPLACED = ("vfs",)  # of the partitions, what an image that was built has something in


@dataclass(frozen=True)
class Built:
    """A flash image, and what is in it."""

    board: str
    flash: bytes
    files: int
    """Files of the firmware."""
    has_settings: bool
    micropython: contents.MicroPython | None
    """None for the stand-in of a virtual board."""
    warnings: tuple[str, ...]
    """What the writer of the node file should know all the same."""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.flash).hexdigest()


def build(
    board: Board,
    node: Path | None = None,
    micropython: Path | None = None,
    progress: Progress = quietly,
    *,
    any_micropython: bool = False,
) -> Built:
    """Compose the image of `board` with this checkout's firmware and, if given, the settings of `node`.

    The same input gives the same bytes. Raises LimpetError.
    """
    files = firmware_files()
    count = len(files)
    given, warnings = node_files(node, board)
    stock_image = micropython_image(board, micropython, progress, any_micropython=any_micropython)
    flash = compose(board, {**files, **given}, micropython=stock_image)
    return Built(board.name, flash, count, bool(given), _micropython(board, flash), warnings)


def node_files(node: Path | None, board: Board) -> tuple[Mapping[str, bytes], tuple[str, ...]]:
    """The settings in the node file `node` as a file of the node's, and warnings; nothing without one.

    Raises ImageError when the node file is for another board than `board`.
    """
    if node is None:
        return {}, ()
    checked = settings.check(node)
    if checked.board.name != board.name:
        raise ImageError(
            f"{node} is for board '{checked.board.name}', not for '{board.name}': name the same one in both."
        )
    text = settings.dump(settings.to_node_json(checked.node_file, board))
    return {SETTINGS_NAME: text}, checked.warnings


def check_target(path: Path) -> None:
    """Raise LimpetError when `write` would not write to `path`; nothing was fetched or composed yet then."""
    if path.is_dir():
        raise ImageError(f"{path} is a folder: name a file in it.")
    if not path.parent.is_dir():
        raise ImageError(f"There is no folder {path.parent}: make it, or name another file.")
    if not path.exists():
        return
    if not path.is_file():
        raise ImageRefusedError(f"{path} is not a file: name another, and flash a board by 'limpet flash'.")
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            may = _was_built(file.read())
    except BlockingIOError:
        raise ImageRefusedError(
            f"{path} is the flash of a virtual board that runs: end that one, or name another file."
        ) from None
    except OSError as error:
        raise ImageError(f"{path} cannot be read ({error.strerror}): name another file.") from None
    if not may:
        raise ImageRefusedError(
            f"{path} is there already, and is no image as 'limpet image build' makes it: name another file, "
            "or remove this one."
        )


def write(path: Path, built: Built) -> None:
    """Write the image, in one step and for its owner alone: settings hold the Wi-Fi password.

    Raises LimpetError.
    """
    check_target(path)
    write_private(path.resolve(), built.flash)


def _was_built(data: bytes) -> bool:
    """Whether nothing would be lost with this file: it is empty, or an image that no board has used.

    A board writes to nvs, phy_init or spool as soon as it runs, and an identity cannot be made again.
    """
    if not data:
        return True
    try:
        table = partitions.decode(data[partitions.TABLE_OFFSET :])
    except PartitionTableError:
        return False
    kept = [each for each in table if each.type != partitions.TYPE_APP and each.name not in _REPLACED]
    return all(not data[each.offset : each.end].strip(_BLANK) for each in kept)


def _micropython(board: Board, flash: bytes) -> contents.MicroPython | None:
    app = stock.app_partition(board.partition_table())
    found = contents.program(lambda offset, size: flash[app.offset :][offset : offset + size], is_slow=False)
    return found.micropython if isinstance(found, contents.Program) else None
