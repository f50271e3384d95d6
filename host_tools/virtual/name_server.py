"""The name server of a virtual board's network: DNS (RFC 1035) over UDP, the host's resolver behind it."""

import asyncio
import ipaddress
import socket
import struct
from collections.abc import Sequence

from host_tools.virtual.parts import known_fault

FAULTS = ("silent", "no-such-name", "server-failure", "nonsense", "wrong-id", "cut-off")

_HEADER = struct.Struct(">HHHHHH")
_QUERY = 0x0100  # recursion desired
_RESPONSE = 0x8180  # recursion available
_CUT_OFF = 0x0200
_OK = 0
_SERVER_FAILURE = 2
_NO_SUCH_NAME = 3
_A_IN = struct.pack(">HH", 1, 1)
_NAMED_IN_QUESTION = b"\xc0\x0c"
_TTL = 60
_TEMPORARY = {socket.EAI_AGAIN, socket.EAI_FAIL}


class NameServer:
    """Answers on a loopback port, once it is open. Change it while it runs: that is how a fault is made.

    `names` says what the host's resolver does not know, or knows otherwise: IPv4 addresses by name (an empty
    list: the name has none). `fault` is one of FAULTS, `delay` the seconds that an answer takes. `asked` are
    the names that were asked for.
    """

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}
        self.delay = 0.0
        self.asked: list[str] = []
        self._fault: str | None = None
        self._transport: asyncio.DatagramTransport | None = None
        self._answering: set[asyncio.Task[None]] = set()

    @property
    def fault(self) -> str | None:
        return self._fault

    @fault.setter
    def fault(self, fault: str | None) -> None:
        self._fault = known_fault("name server", fault, FAULTS)

    async def open(self) -> int:
        """Start, unless it has; the port."""
        if self._transport is None:
            loop = asyncio.get_running_loop()
            self._transport, _ = await loop.create_datagram_endpoint(
                lambda: _Datagrams(self), local_addr=("127.0.0.1", 0)
            )
        return int(self._transport.get_extra_info("sockname")[1])

    async def close(self) -> None:
        for task in self._answering:
            task.cancel()
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def received(self, question: bytes, peer: tuple[str, int]) -> None:
        """Answer a datagram, in time."""
        task = asyncio.ensure_future(self._serve(question, peer))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _serve(self, question: bytes, peer: tuple[str, int]) -> None:
        name = asked_name(question)
        if name is None:
            return
        self.asked.append(name)
        fault = self.fault
        if fault == "silent":
            return
        await asyncio.sleep(self.delay)
        if fault == "no-such-name":
            reply = answer(question, code=_NO_SUCH_NAME)
        elif fault == "server-failure":
            reply = answer(question, code=_SERVER_FAILURE)
        elif fault == "nonsense":
            reply = b"I am not a name server.\n"
        else:
            reply = answer(question, *await self._look_up(name))
        if fault == "wrong-id":
            reply = bytes((reply[0] ^ 0xFF,)) + reply[1:]
        elif fault == "cut-off":
            reply = reply[:2] + bytes((reply[2] | _CUT_OFF >> 8,)) + reply[3:]
        if self._transport is not None:
            self._transport.sendto(reply, peer)

    async def _look_up(self, name: str) -> tuple[Sequence[str], int]:
        """Addresses and the answer's code."""
        if name in self.names:
            return self.names[name], _OK
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(name, None, family=socket.AF_INET, type=socket.SOCK_STREAM)
        except socket.gaierror as e:
            return [], _SERVER_FAILURE if e.errno in _TEMPORARY else _NO_SUCH_NAME
        except (OSError, UnicodeError):
            return [], _SERVER_FAILURE
        return [str(each[4][0]) for each in found], _OK


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._server.received(data, addr)


def asked_name(question: bytes) -> str | None:
    """The name in a query for an address (RFC 1035 §4.1), in small letters; None for anything else."""
    if len(question) < _HEADER.size:
        return None
    _, flags, questions, *others = _HEADER.unpack_from(question)
    labels, at = [], _HEADER.size
    while at < len(question) and 0 < question[at] < 64:
        labels.append(question[at + 1 : at + 1 + question[at]])
        at += 1 + question[at]
    if flags != _QUERY or questions != 1 or others != [0, 0, 0] or question[at:] != b"\0" + _A_IN:
        return None
    return b".".join(labels).decode("ascii", "replace").lower()


def answer(question: bytes, addresses: Sequence[str] = (), code: int = _OK) -> bytes:
    """The answer to a question with these IPv4 addresses (RFC 1035 §4.1.1, §4.1.3)."""
    records = b"".join(
        _NAMED_IN_QUESTION + _A_IN + struct.pack(">IH", _TTL, 4) + ipaddress.IPv4Address(address).packed
        for address in addresses
    )
    number = int.from_bytes(question[:2], "big")
    head = _HEADER.pack(number, _RESPONSE | code, 1, len(addresses), 0, 0)
    return head + question[_HEADER.size :] + records
