"""Requests as bytes, for tests that talk to a ROM without esptool."""

import struct
from pathlib import Path
from typing import NamedTuple

from host_tools.virtual.flash_chip import FlashChip
from host_tools.virtual.rom import slip
from host_tools.virtual.rom.efuses import Efuses
from host_tools.virtual.rom.engine import Rom
from host_tools.virtual.rom.packets import COMMANDS, checksum
from tests.host.rom_server import MAC, MIB

SYNC = b"\x07\x07\x12\x20" + 32 * b"\x55"


class Response(NamedTuple):
    """`body` with the status in it."""

    command: int
    value: int
    body: bytes


def frame(command: str | int, data: bytes = b"", sum_: int = 0) -> bytes:
    """A request as it is inside SLIP."""
    number = COMMANDS[command] if isinstance(command, str) else command
    return struct.pack("<BBHI", 0, number, len(data), sum_) + data


def words(*values: int) -> bytes:
    """32-bit words."""
    return struct.pack(f"<{len(values)}I", *values)


def block(command: str, number: int, data: bytes, sum_: int | None = None) -> bytes:
    """A request with a block of data."""
    return frame(command, words(len(data), number, 0, 0) + data, checksum(data) if sum_ is None else sum_)


def parse(data: bytes) -> Response:
    """A response's frame."""
    direction, command, length, value = struct.unpack_from("<BBHI", data)
    assert direction == 1
    assert length == len(data) - 8
    return Response(command, value, data[8:])


class Line:
    """A ROM and what it has sent."""

    def __init__(
        self, folder: Path, chip: str = "esp32", size: int = 4 * MIB, efuses: Efuses | None = None
    ) -> None:
        path = folder / f"{chip}.bin"
        path.write_bytes(b"\xff" * size)
        self.flash = FlashChip(path)
        self.sent = bytearray()
        self.runs = 0
        self.rom = Rom(chip, MAC, self.flash, self.sent.extend, efuses=efuses, on_run=self._ran)

    def _ran(self) -> None:
        self.runs += 1

    def raw(self, *frames: bytes) -> list[bytes]:
        """Send frames; the frames that come back."""
        self.rom.receive(b"".join(map(slip.encode, frames)))
        return self.taken()

    def taken(self) -> list[bytes]:
        """The frames that came since the last look."""
        data = bytes(self.sent)
        self.sent.clear()
        return list(slip.Decoder(65536).feed(data))

    def ask(self, request: bytes) -> Response:
        """Send one request that has one response."""
        (answer,) = self.raw(request)
        return parse(answer)

    def start_stub(self) -> None:
        """Load a program and run it, as esptool loads its stub."""
        self.ask(frame("MEM_BEGIN", words(64, 1, 0x1800, 0x4009F000)))
        self.ask(block("MEM_DATA", 0, bytes(64)))
        _, greeting = self.raw(frame("MEM_END", words(0, 0x4009F004)))
        assert greeting == b"OHAI"
