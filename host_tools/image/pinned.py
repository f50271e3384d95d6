"""The stock image of MicroPython for a board: from its official site, a mirror, or a file.

The board's file pins the image by its SHA-256. What was fetched is kept in the user's cache under its own
name, and checked against the pin each time it is used. Nothing that fails the check is kept.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from host_tools import paths
from host_tools.boards import Board, MicroPythonImage
from host_tools.image import download, files, stock
from host_tools.image.errors import ImageError, ImageRefusedError
from host_tools.image.recognise import mistaken

SITE = "https://micropython.org/resources/firmware"
VARIABLE = "LIMPET_MICROPYTHON_IMAGES"
"""Names another site, by its URL, or a folder with the images."""

Progress = Callable[[str, int, int | None], None]
"""Told an image's name, the bytes that have arrived, and how many there will be, if that is known."""

_REMEDY = "connect this machine to the network, or fetch the file elsewhere and name it by --micropython"


def quietly(_name: str, _done: int, _total: int | None) -> None:
    """No progress."""


def micropython_image(
    board: Board,
    local: Path | None = None,
    progress: Progress = quietly,
    *,
    any_micropython: bool = False,
) -> bytes | None:
    """The image of MicroPython for `board`, checked; None where the board names none, as `virtual` does.

    It is the file `local`, else the one in the cache, else it is fetched. A local file that is not the
    pinned image is taken only with `any_micropython`, and only if the board's chip can run it. Raises
    ImageRefusedError for what must not be used, ImageError for what cannot be had.
    """
    wanted = board.micropython
    if local is not None:
        data = files.read(local, "image of MicroPython")
        _check_local(data, str(local), board, any_micropython)
        return data
    if wanted is None:
        return None
    named = os.environ.get(VARIABLE) or SITE
    if not named.startswith(("http://", "https://")):
        data = files.read(Path(named) / wanted.name, "image of MicroPython")
        _check(data, f"{Path(named) / wanted.name}", board, wanted)
        return data
    return _cached(wanted) or _fetched(board, wanted, named, progress)


def _check_local(data: bytes, name: str, board: Board, any_micropython: bool) -> None:
    pin = board.micropython.sha256 if board.micropython else None
    digest = _sha256(data)
    if digest == pin:
        return
    stock.split(data, name, board.features.esptool_name, board.features.bootloader_offset)
    if any_micropython:
        return
    asked = (
        f"is not {board.micropython.name}, which '{board.name}' asks for (SHA-256 {digest}, not {pin})"
        if board.micropython
        else f"cannot be checked, because '{board.name}' names no image (its SHA-256 is {digest})"
    )
    raise ImageRefusedError(f"{name} {asked}: if you trust it, add --any-micropython.")


def _cached(wanted: MicroPythonImage) -> bytes | None:
    try:
        data = _place(wanted).read_bytes()
    except OSError:
        return None
    return data if _sha256(data) == wanted.sha256 else None


def _fetched(board: Board, wanted: MicroPythonImage, site: str, progress: Progress) -> bytes:
    url = f"{site.rstrip('/')}/{wanted.name}"

    def told(done: int, total: int | None) -> None:
        progress(wanted.name, done, total)

    host = download.host(url)
    try:
        data = download.get(url, board.flash_size, told)
    except download.DownloadError as error:
        raise ImageError(f"Cannot fetch {wanted.name} from {host}, {error}; {_REMEDY}.") from None
    _check(data, f"What {host} gave for {wanted.name}", board, wanted)
    _keep(data, wanted)
    return data


def _check(data: bytes, name: str, board: Board, wanted: MicroPythonImage) -> None:
    digest = _sha256(data)
    if digest == wanted.sha256:
        return
    wrong = mistaken(data)
    if wrong:
        raise ImageRefusedError(f"{name} is {wrong[0]}; nothing was kept: {_REMEDY}.")
    stock.split(data, name, board.features.esptool_name, board.features.bootloader_offset)
    raise ImageRefusedError(
        f"{name} is another image than the pinned one (SHA-256 {digest}, not {wanted.sha256}); nothing was "
        "kept: use a site that you trust."
    )


def _keep(data: bytes, wanted: MicroPythonImage) -> None:
    try:
        place = _place(wanted)
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as folder:
            # Made beside its place, then renamed: the cache has the whole file or none of it.
            fresh = Path(folder) / "image"
            fresh.write_bytes(data)
            fresh.replace(place)
    except OSError as error:
        raise ImageError(
            f"Cannot keep {wanted.name} in the cache folder: {error.strerror} ({error.filename}); make room "
            "and let it be written, or name another folder by XDG_CACHE_HOME."
        ) from None


def _place(wanted: MicroPythonImage) -> Path:
    return paths.cache_dir() / "micropython" / wanted.name


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
