"""The way from a virtual board to the network: a relay that lives and dies with its Wi-Fi.

For every host and port that the board asks for there is one loopback port that carries TCP and UDP to
it. While the radio is down nothing passes and nothing is closed, as on air: a connection stalls, and goes on
if the radio comes back in time. Left out: an unreachable host is noticed after the board's connect(), as a
reset, and not by it; the board's address is not the one that the peer sees.
"""

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import Callable
from typing import cast

_CHUNK = 16384
_PORTS = 20
"""Free TCP ports that are tried until one is free for UDP as well."""
_RETRY = 0.05
"""Seconds between two looks at a radio that is down."""


class Gateway:
    """Relays for one board. `is_up` says whether its radio carries traffic now."""

    def __init__(self, is_up: Callable[[], bool]) -> None:
        self._is_up = is_up
        self._relays: dict[tuple[str, int], _Relay] = {}

    async def port_for(self, host: str, port: int) -> int:
        """The loopback port that leads to `host`:`port`. Raises OSError when the name does not resolve."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        relay = self._relays.get((host, port))
        if relay is None:
            relay = _Relay(str(found[0][4][0]), port, self._is_up)
            await relay.open()
            self._relays[host, port] = relay
        return relay.port

    def drop(self) -> None:
        """Forget every connection without a word to either side, as a reset of the board does."""
        for relay in self._relays.values():
            relay.drop()

    async def close(self) -> None:
        for relay in self._relays.values():
            await relay.close()
        self._relays.clear()


class _Relay:
    def __init__(self, host: str, port: int, is_up: Callable[[], bool]) -> None:
        self._target = (host, port)
        self._is_up = is_up
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def open(self) -> None:
        """Serve, or leave nothing behind: a reset of the board may come in between."""
        for _ in range(_PORTS):
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
            self.port = self._server.sockets[0].getsockname()[1]
            try:
                self._datagrams, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                    lambda: _Datagrams(self._target, self._is_up), local_addr=("127.0.0.1", self.port)
                )
                return
            except OSError:  # somebody has that port for UDP
                self._server.close()
            except BaseException:
                self._server.close()
                raise
        raise OSError(errno.EADDRINUSE, "no port is free for both TCP and UDP")

    def drop(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        self._server.close()
        self._datagrams.close()
        self.drop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except (OSError, asyncio.CancelledError):  # cancelled by `drop`; asyncio 3.11 would log that
            _abort(writer)
            return
        _no_delay(far_writer)
        _no_delay(writer)
        ways = asyncio.gather(self._carry(reader, far_writer), self._carry(far_reader, writer))
        try:
            await ways
        except (OSError, asyncio.CancelledError):
            ways.cancel()
            # The board is gone, and the peer must learn that as it would from a vanished node: without a
            # TLS close. A reset does that at once; silence until the keepalive would be as true, but slow.
            _abort(far_writer)
            _abort(writer)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            data = await reader.read(_CHUNK)
            while not self._is_up():
                await asyncio.sleep(_RETRY)
            if not data:
                writer.close()
                return
            writer.write(data)
            await writer.drain()


class _Datagrams(asyncio.DatagramProtocol):
    """UDP: each of the board's sockets gets a socket of its own outside. Down means lost."""

    _MOST = 16

    def __init__(self, target: tuple[str, int], is_up: Callable[[], bool]) -> None:
        self._target = target
        self._is_up = is_up
        self._outside: dict[tuple[str, int], asyncio.DatagramTransport] = {}
        self._sending: set[asyncio.Future[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._inside = cast(asyncio.DatagramTransport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        for transport in self._outside.values():
            transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self._is_up():
            task = asyncio.ensure_future(self._send(data, addr))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send(self, data: bytes, addr: tuple[str, int]) -> None:
        transport = self._outside.get(addr)
        if transport is None:
            while len(self._outside) >= self._MOST:
                self._outside.pop(next(iter(self._outside))).close()
            loop = asyncio.get_running_loop()
            with contextlib.suppress(OSError):
                transport, _ = await loop.create_datagram_endpoint(
                    lambda: _Back(lambda answer: self._inside.sendto(answer, addr), self._is_up),
                    remote_addr=self._target,
                )
                self._outside[addr] = transport
        if transport is not None:
            transport.sendto(data)


class _Back(asyncio.DatagramProtocol):
    def __init__(self, deliver: Callable[[bytes], None], is_up: Callable[[], bool]) -> None:
        self._deliver = deliver
        self._is_up = is_up

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self._is_up():
            self._deliver(data)


def _no_delay(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _abort(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
