"""Requests and responses of the serial protocol (esptool's documentation, "Serial Protocol")."""

import struct
from dataclasses import dataclass
from functools import reduce
from operator import xor

from esptool.loader import ESPLoader

COMMANDS: dict[str, int] = dict(ESPLoader.ESP_CMDS)
HEADER = 8  # bytes
DATA_HEADER = 16  # bytes: length, sequence number and two zeros, in front of a block of data

_REQUEST, _RESPONSE = 0, 1


@dataclass(frozen=True)
class Request:
    """`announced` is the length that the header gives for `data`."""

    direction: int
    command: int
    announced: int
    checksum: int
    data: bytes

    @property
    def is_request(self) -> bool:
        """False for what a chip would send."""
        return self.direction == _REQUEST

    @property
    def is_whole(self) -> bool:
        """True if the header tells the length as it is."""
        return self.announced == len(self.data)

    def words(self) -> tuple[int, ...]:
        """`data` as 32-bit words; a rest of one to three bytes is left out."""
        return struct.unpack_from(f"<{len(self.data) // 4}I", self.data)

    def block(self) -> bytes:
        """What follows the header of a block of data."""
        return self.data[DATA_HEADER:]


def parse(frame: bytes) -> Request | None:
    """The request in `frame`; None if it is too short to have a header."""
    if len(frame) < HEADER:
        return None
    direction, command, announced, checksum = struct.unpack_from("<BBHI", frame)
    return Request(direction, command, announced, checksum, frame[HEADER:])


def response(command: int, value: int, body: bytes) -> bytes:
    """A response's frame. `body` includes the status."""
    return struct.pack("<BBHI", _RESPONSE, command, len(body), value) + body


def checksum(data: bytes) -> int:
    """Of a block of data."""
    return reduce(xor, data, int(ESPLoader.ESP_CHECKSUM_MAGIC))
