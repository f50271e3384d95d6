"""Programs that the host loads into RAM: which addresses they fill, and so where they can be entered."""

_SEGMENTS = 16
_RAM = 512 * 1024  # bytes; no chip of ours has more


class RamError(Exception):
    """The block does not fit what was announced."""


class Ram:
    """Keeps no bytes: the program is not run, only believed to be what was loaded whole."""

    def __init__(self) -> None:
        self._segments: list[range] = []
        self._left = 0
        self._loading: range | None = None

    def begin(self, size: int, address: int) -> None:
        """A segment follows. Raises RamError if no RAM is so large."""
        if size > _RAM:
            raise RamError
        self._loading = range(address, address + size)
        self._left = size
        self._finish_if_whole()

    def load(self, block: bytes) -> None:
        """The next bytes of the segment. Raises RamError when there are too many, or none was begun."""
        if self._loading is None or len(block) > self._left:
            raise RamError
        self._left -= len(block)
        self._finish_if_whole()

    def has_code_at(self, address: int) -> bool:
        """True if a whole segment covers `address`."""
        return any(address in segment for segment in self._segments)

    def _finish_if_whole(self) -> None:
        if self._loading is not None and not self._left:
            self._segments = [*self._segments, self._loading][-_SEGMENTS:]
            self._loading = None
