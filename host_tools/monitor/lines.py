"""Makes lines of what a serial port gives: pieces, garbage, and sometimes no end of line at all."""

MOST = 1000
"""Bytes of a line. What is longer is cut into pieces, so that no board can fill this machine's memory."""
PATIENCE_S = 0.5
"""A line that waits so long for its end is shown as it is: a prompt has none."""

_CONTINUATION = range(0x80, 0xC0)  # of UTF-8: not the first byte of a character


class Lines:
    """The lines of one board, without their ends; `now` is of time.monotonic()."""

    def __init__(self) -> None:
        self._rest = b""
        self._since = 0.0

    def feed(self, data: bytes, now: float) -> list[bytes]:
        """The lines that are whole with these bytes."""
        if data:
            self._since = now
        *whole, self._rest = (self._rest + data).split(b"\n")
        lines = [piece for line in whole for piece in _pieces(line.removesuffix(b"\r"))]
        *cut, self._rest = _pieces(self._rest)
        return lines + cut

    def late(self, now: float) -> list[bytes]:
        """The line that has waited too long for its end, if there is one."""
        return self.end() if self._rest and now - self._since >= PATIENCE_S else []

    def end(self) -> list[bytes]:
        """What is there of a line, when no more comes."""
        rest, self._rest = self._rest.removesuffix(b"\r"), b""
        return [rest] if rest else []


def _pieces(line: bytes) -> list[bytes]:
    """A line in pieces of at most MOST bytes; no character is cut."""
    pieces = []
    while len(line) > MOST:
        end = MOST
        while end > MOST - 3 and line[end] in _CONTINUATION:
            end -= 1
        pieces.append(line[:end])
        line = line[end:]
    return [*pieces, line]
