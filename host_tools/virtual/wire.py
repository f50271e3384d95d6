"""Frames between supervisor and MicroPython of a board (boards/virtual/_host.py has the other end)."""

import struct
from collections.abc import Iterator

_HEAD = struct.Struct("<cH")


def reply(payload: bytes = b"", status: int = 0) -> bytes:
    """An answer: status 0, or the errno that the firmware's call raises."""
    return struct.pack("<BH", status, len(payload)) + payload


class Requests:
    """Takes bytes as they come and gives whole requests."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        """Yield (operation, payload) of every request that is complete."""
        self._buffer += data
        while len(self._buffer) >= _HEAD.size:
            operation, length = _HEAD.unpack_from(self._buffer)
            end = _HEAD.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[_HEAD.size : end])
            del self._buffer[:end]
            yield operation.decode("latin-1"), payload
