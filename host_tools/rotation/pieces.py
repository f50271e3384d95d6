"""A certificate chain and trusted CAs as a node takes them: TLVs, cut into commands. Nothing does I/O."""

import struct
import zlib
from collections.abc import Iterator, Sequence

_TLV = struct.Struct("<BH")
_CERTIFICATE, _TRUSTED_CA = 3, 4


def tlvs(chain: Sequence[bytes], trusted: Sequence[bytes]) -> bytes:
    """The TLVs of the identity partition (docs/formats.md) for these DER certificates."""
    parts = [(_CERTIFICATE, each) for each in chain] + [(_TRUSTED_CA, each) for each in trusted]
    return b"".join(_TLV.pack(tag, len(value)) + value for tag, value in parts)


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
