"""A small SNTP server for virtual boards (RFC 4330, server mode), with the faults that such servers have."""

import asyncio
import struct
import time
from collections.abc import Callable
from typing import Self, cast

from host_tools.virtual.parts import known_fault

FAULTS = ("silent", "unsynchronised", "kiss-of-death", "nonsense", "forged")

_UNIX_TO_NTP = 2208988800
_CLIENT = 3
_VERSION_4_SERVER = 0x24
_STRATUM = 2
_ALARM = 3


class TimeServer(asyncio.DatagramProtocol):
    """Answers on a UDP port. Change it while it runs: that is how a fault is made.

    `now` gives unix seconds; put another function there, and it lies. `leap` is the leap indicator (1: the
    day's last minute has 61 seconds, 2: it has 59). `delay` is the seconds that an answer lies in the server,
    which it says; `way` those that it needs on the way back, which nobody says. `fault` is one of FAULTS: no
    answer; stratum 16 with the alarm; RATE (RFC 5905 §7.4); text; next year's time, to a question that
    nobody asked. `asked` counts the questions.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.now = now
        self.leap = 0
        self.delay = 0.0
        self.way = 0.0
        self.asked = 0
        self.port = 0
        self._fault: str | None = None

    @classmethod
    async def open(
        cls, now: Callable[[], float] = time.time, port: int = 0, address: str = "127.0.0.1"
    ) -> Self:
        """Listen on UDP port `port` of this machine's `address`, or on a free one. Raises OSError when it is
        taken, or when the address is none of this machine's."""
        loop = asyncio.get_running_loop()
        transport, server = await loop.create_datagram_endpoint(lambda: cls(now), local_addr=(address, port))
        server.port = transport.get_extra_info("sockname")[1]
        return server

    async def close(self) -> None:
        self._transport.close()

    @property
    def fault(self) -> str | None:
        return self._fault

    @fault.setter
    def fault(self, fault: str | None) -> None:
        self._fault = known_fault("time server", fault, FAULTS)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if len(data) < 48 or data[0] & 7 != _CLIENT:
            return
        self.asked += 1
        if self.fault == "silent":
            return
        received = self.now()
        loop = asyncio.get_running_loop()

        def send() -> None:
            loop.call_later(self.way, self._send, self._answer(data, received), addr)

        loop.call_later(self.delay, send)

    def _send(self, data: bytes, addr: tuple[str, int]) -> None:
        if not self._transport.is_closing():
            self._transport.sendto(data, addr)

    def _answer(self, question: bytes, received: float) -> bytes:
        if self.fault == "nonsense":
            return b"I am not a time server.\n"
        if self.fault == "unsynchronised":
            return answer(question, received, self.now(), leap=_ALARM, stratum=16, reference=b"INIT")
        if self.fault == "kiss-of-death":
            return answer(question, received, self.now(), leap=_ALARM, stratum=0, reference=b"RATE")
        if self.fault == "forged":
            year = 365 * 86400
            return answer(bytes(len(question)), received + year, self.now() + year)
        return answer(question, received, self.now(), leap=self.leap)


def answer(
    question: bytes,
    received: float,
    sent: float,
    *,
    leap: int = 0,
    stratum: int = _STRATUM,
    reference: bytes = b"LOCL",
) -> bytes:
    """The answer to a client's 48 bytes (RFC 4330 §4), with their transmit time in it; times in unix s."""
    head = struct.pack(">BBbbII4s", leap << 6 | _VERSION_4_SERVER, stratum, 0, -20, 0, 0, reference)
    return head + _stamp(sent) + question[40:48] + _stamp(received) + _stamp(sent)


def _stamp(now: float) -> bytes:
    return struct.pack(">II", int(now + _UNIX_TO_NTP) & 0xFFFFFFFF, int(now % 1 * 2**32))
