"""The littlefs of a node, as the ESP32 port of MicroPython makes and mounts it."""

from collections.abc import Mapping
from pathlib import Path

from littlefs import LittleFS, LittleFSError, UserContext

from host_tools.image.errors import ImageError

BLOCK = 4096
FEWEST_BLOCKS = 2
"""littlefs keeps its root in a pair."""
# flashbdev.py of the stock image.
_GRAIN = 32


def littlefs(size: int, context: UserContext | None = None) -> LittleFS:
    """A littlefs of `size` bytes, neither formatted nor mounted: in memory, or where `context` reads it."""
    return LittleFS(
        context=context,
        block_size=BLOCK,
        block_count=size // BLOCK,
        read_size=_GRAIN,
        prog_size=_GRAIN,
        cache_size=4 * _GRAIN,
        lookahead_size=_GRAIN,
        mount=False,
    )


def filesystem(files: Mapping[str, bytes], size: int) -> bytes:
    """A littlefs of `size` bytes with `files`; the same files give the same bytes.

    Raises ImageError when they do not fit.
    """
    fs = littlefs(size)
    fs.format()
    fs.mount()
    try:
        for name, data in sorted(files.items()):
            parent = Path(name).parent.as_posix()
            if parent != ".":
                fs.makedirs(parent, exist_ok=True)
            with fs.open(name, "wb") as f:
                f.write(data)
    except LittleFSError as e:
        total = sum(map(len, files.values()))
        raise ImageError(
            f"The files ({total} bytes) do not fit into a filesystem of {size} bytes ({e})."
        ) from None
    fs.unmount()
    return bytes(fs.context.buffer)
