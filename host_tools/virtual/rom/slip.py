"""SLIP (RFC 1055), with a frame delimiter at both ends as Espressif's loaders use it."""

from collections.abc import Iterator

_END, _ESC = b"\xc0", b"\xdb"
_ESC_END, _ESC_ESC = b"\xdb\xdc", b"\xdb\xdd"


def encode(frame: bytes) -> bytes:
    """`frame` as it goes over the line."""
    return _END + frame.replace(_ESC, _ESC_ESC).replace(_END, _ESC_END) + _END


class Decoder:
    """Frames of at most `limit` bytes out of a stream; what is longer or badly escaped is dropped.

    Bytes between frames are nobody's. Delimiters in a row are one: a stray one costs at most the next frame.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inside = False
        self._overlong = False
        self._raw = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The frames that `data` completes, one by one."""
        at = 0
        while at < len(data):
            end = data.find(_END, at)
            stop = len(data) if end < 0 else end
            if self._inside:
                self._collect(data[at:stop])
            at = stop + 1
            if end < 0:
                return
            if not self._inside or not (self._raw or self._overlong):
                self._inside = True
                continue
            self._inside = False
            frame = None if self._overlong else self._unescape()
            self._overlong = False
            self._raw.clear()
            if frame is not None:
                yield frame

    def _collect(self, piece: bytes) -> None:
        if self._overlong or len(self._raw) + len(piece) > 2 * self._limit:
            self._overlong = True
            self._raw.clear()
        else:
            self._raw += piece

    def _unescape(self) -> bytes | None:
        raw = bytes(self._raw)
        if raw.count(_ESC) != raw.count(_ESC_END) + raw.count(_ESC_ESC):
            return None
        frame = raw.replace(_ESC_END, _END).replace(_ESC_ESC, _ESC)
        return frame if len(frame) <= self._limit else None
