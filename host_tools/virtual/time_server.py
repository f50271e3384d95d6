"""A small SNTP server for virtual boards (RFC 4330, server mode): tells the time that `now` gives."""

import asyncio
import struct
import time
from collections.abc import Callable
from typing import Self, cast

_UNIX_TO_NTP = 2208988800
_VERSION_4_SERVER = 0x24
_STRATUM = 2


class TimeServer(asyncio.DatagramProtocol):
    """Answers on a loopback port. `now` gives unix seconds; put another function there for another time."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.now = now
        self.port = 0

    @classmethod
    async def open(cls, now: Callable[[], float] = time.time) -> Self:
        loop = asyncio.get_running_loop()
        transport, server = await loop.create_datagram_endpoint(lambda: cls(now), local_addr=("127.0.0.1", 0))
        server.port = transport.get_extra_info("sockname")[1]
        return server

    async def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if len(data) >= 48 and data[0] & 7 == 3:  # a client's question
            self._transport.sendto(answer(data, self.now()), addr)


def answer(question: bytes, now: float) -> bytes:
    """The answer to a client's 48 bytes at `now` (unix seconds), its transmit time coming back in it."""
    stamp = struct.pack(">II", int(now + _UNIX_TO_NTP) & 0xFFFFFFFF, int(now % 1 * 2**32))
    head = struct.pack(">BBbbII4s", _VERSION_4_SERVER, _STRATUM, 0, -20, 0, 0, b"LOCL")
    return head + stamp + question[40:48] + stamp + stamp
