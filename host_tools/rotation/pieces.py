"""What an identity gets from outside, cut into the commands that bring it. Nothing does I/O."""

import zlib
from collections.abc import Iterator


def put(data: bytes, room: int) -> Iterator[tuple[bytes, int]]:
    """The `put` commands that bring `data`, of at most `room` bytes each, with the offset behind them."""
    at = 0
    while at < len(data):
        words = b"put %d " % at
        piece = data[at : at + room - len(words)]
        at += len(piece)
        yield words + piece, at


def use(data: bytes) -> bytes:
    """The command that makes what was put count."""
    return b"use %d %08x" % (len(data), zlib.crc32(data))
