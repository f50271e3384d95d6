"""A link with faults: a TCP proxy that delays, stalls, throttles, goes dark, forgets or resets connections.

It stands between a client and a server; without another address to listen at, the client is on this machine.
Left out, because a proxy cannot do it: lost or reordered packets (to those who use TCP they are a stall);
silence below TCP (our kernel acknowledges what the silent side should, so a sender notices by its own
deadlines, not by TCP's); the retransmission timer, so what waited for the end of a blackout goes on at once;
delay of TCP's own handshake. UDP does not pass.
Dice are seeded, for each connection and way anew; how a stream falls into chunks is up to the kernel.
"""

import asyncio
import contextlib
import random
import select
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Self, TypeVar

from host_tools.virtual.bench import Bench

T = TypeVar("T")

Way = Literal["up", "down"]
"""`up` is from the client to the server."""

Side = Literal["client", "server"]

_LOOPBACK = "127.0.0.1"
_BACKLOG = 64
_CHUNK = 16384
_HELD = 16  # chunks on their way in one direction; then the sender has to wait
_SLICES = 20  # of a second's bytes: what a throttled link passes at once
_SYN = 0.02  # seconds in which a connect on loopback succeeds, unless it is dropped
_HEADER = 5
_APPLICATION_DATA = 23


@dataclass(frozen=True)
class Conditions:
    """How the link is while it carries traffic. The default does nothing."""

    latency: float = 0.0
    """Seconds, each way."""
    stall_chance: float = 0.0
    """0 to 1: how probable it is that a chunk stalls. What comes behind it waits too."""
    stall: tuple[float, float] = (0.1, 1.0)
    """Seconds of a stall: the shortest and the longest."""
    rate: float = 0.0
    """Bytes a second, each way of each connection; 0 is no limit."""


@dataclass(frozen=True)
class Cut:
    """Where a connection breaks: behind the `record`-th (from 1) record of TLS application data that goes
    `way`, or in the `middle` of it.

    What comes before the cut is delivered; then nothing passes in either direction, and `pause` seconds
    later, when both sides have read what they got, both get RST. In TLS 1.3 the end of the handshake is in
    records of application data too (RFC 8446 section 5.1), and counts.
    """

    way: Way
    record: int
    middle: bool = False
    pause: float = 0.05


@dataclass
class Traffic:
    """What was delivered in one direction: bytes, and whole records of TLS application data."""

    bytes: int = 0
    records: int = 0


@dataclass
class Connection:
    """One connection over the link. `end` is empty while it lasts. Then it is what ended it: `closed` (by
    client or server, with FIN or RST), `reset`, `cut`, `half-open`, or `unreachable` (the server)."""

    up: Traffic = field(default_factory=Traffic)
    down: Traffic = field(default_factory=Traffic)
    end: str = ""


Tap = Callable[[Connection, Way, bytes], None]
"""Is told what is delivered, just before; it runs in the event loop, and must be quick."""


class Records:
    """Follows a stream of TLS records (RFC 5246 section 6.2.1); `count` is of whole application data."""

    def __init__(self) -> None:
        self.count = 0
        self._header = bytearray()
        self._left = 0  # of the record's body

    def feed(self, data: bytes, cut: Cut | None = None) -> int | None:
        """Follow `data`, but not beyond the cut; where in it that is, or None when the cut is not in it."""
        at = 0
        while at < len(data):
            if len(self._header) < _HEADER:
                self._header.append(data[at])
                at += 1
                if len(self._header) < _HEADER:
                    continue
                self._left = int.from_bytes(self._header[3:], "big")
                self._half = self._left - self._left // 2
            is_data = self._header[0] == _APPLICATION_DATA
            is_last = is_data and cut is not None and self.count + 1 == cut.record
            stop = self._half if is_last and cut and cut.middle else 0
            step = min(self._left - stop, len(data) - at)
            self._left -= step
            at += step
            if self._left == 0:
                self._header.clear()
                self.count += is_data
            if is_last and self._left == stop:
                return at
        return None


class Proxy:
    """The link for code in an event loop: all of it must be called there. `Link` is for everybody else.

    `target` is where the server listens; put another one there for the connections to come. `tap` is told
    all that passes; put another one there, or None, at any time.
    """

    def __init__(
        self, host: str, port: int, seed: int = 0, *, address: str = _LOOPBACK, tap: Tap | None = None
    ) -> None:
        self.target = (host, port)
        self.address = address
        self.port = 0
        """Where clients connect, at `address`; the same as long as the link exists."""
        self.tap = tap
        self.conditions = Conditions()
        self.connections: list[Connection] = []
        """All that there were, oldest first."""
        self._seed = seed
        self._cuts: deque[Cut] = deque()
        self._relays: dict[asyncio.Task[None], _Relay] = {}
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._fillers: list[socket.socket] = []
        self._lit = asyncio.Event()

    async def open(self) -> None:
        """Begin to listen, at a free port. Raises OSError when `address` is none of this machine's."""
        self._listen()

    async def close(self) -> None:
        """Reset every connection and stop listening."""
        self._deafen()
        self.reset()
        await asyncio.gather(*self._relays, return_exceptions=True)

    # Faults

    def blackout(self) -> None:
        """Until `restore`: nothing passes, nothing is closed, and new connections are neither accepted nor
        refused."""
        if not self._lit.is_set():
            return
        self.restore()
        assert self._listener and self._accepting
        self._lit.clear()
        self._accepting.cancel()
        # The kernel accepts by itself as long as its queue has room, and drops what comes when it is full.
        self._listener.listen(0)
        while self._fill():
            pass

    def refuse(self) -> None:
        """Until `restore`: new connections are refused. Those that there are go on."""
        self.restore()
        self._deafen()

    def restore(self) -> None:
        """End a blackout or a refusal."""
        if self._listener is None:
            self._listen()
        elif not self._lit.is_set():
            self._listener.listen(_BACKLOG)
            self._accept_again(self._listener)

    def reset(self) -> None:
        """Break every connection with RST to both sides."""
        for relay in self._relays.values():
            relay.stop("reset", "client", "server")

    def half_open(self, told: Side | None = None) -> None:
        """Forget every connection: nothing of it passes any more, for good, and neither side hears of it.
        The side that is `told` gets RST, as if it had been gone and had come back."""
        for relay in self._relays.values():
            relay.stop("half-open", *([told] if told else []))

    def cut_next(self, *cuts: Cut) -> None:
        """Break the next connections that come: the first one at the first of these places, and so on. What
        was planned before is forgotten."""
        self._cuts = deque(cuts)

    # Listening

    def _listen(self) -> None:
        listener = self._listener = _new_socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.address, self.port))
        listener.listen(_BACKLOG)
        self.port = listener.getsockname()[1]
        self._accept_again(listener)

    def _accept_again(self, listener: socket.socket) -> None:
        self._lit.set()
        self._accepting = asyncio.create_task(self._accept(listener))

    def _deafen(self) -> None:
        if self._listener and self._accepting:
            self._accepting.cancel()
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        self._drop_fillers()

    def _fill(self) -> bool:
        """Take a place in the kernel's queue; False when it is full."""
        filler = _new_socket()
        filler.connect_ex((self.address, self.port))
        if select.select((), (filler,), (), _SYN)[1]:
            self._fillers.append(filler)
            return True
        filler.close()
        return False

    def _drop_fillers(self) -> set[tuple[str, int]]:
        """Close them; the addresses that they had."""
        addresses = {filler.getsockname() for filler in self._fillers}
        for filler in self._fillers:
            filler.close()
        self._fillers.clear()
        return addresses

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        ours = self._drop_fillers()
        while True:
            client, address = await loop.sock_accept(listener)
            if address in ours:
                ours.discard(address)
                client.close()
                continue
            connection = Connection()
            self.connections.append(connection)
            cut = self._cuts.popleft() if self._cuts else None
            dice = f"{self._seed}/{len(self.connections)}"
            relay = _Relay(
                connection, client, self.target, lambda: self.conditions, self._lit, cut, dice, self._tell
            )
            task = asyncio.create_task(relay.run())
            self._relays[task] = relay
            task.add_done_callback(lambda task: self._relays.pop(task))

    def _tell(self, connection: Connection, way: Way, data: bytes) -> None:
        if self.tap is not None:
            self.tap(connection, way, data)


class _Broken(Exception):
    """The cut is reached."""


_Line = asyncio.Queue[tuple[float, bytes]]
"""Chunks on their way, each with the loop's time when it is due; an empty one ends the stream."""


class _Relay:
    """Carries one connection, until both sides have closed it, one has reset it, or `stop`."""

    def __init__(
        self,
        connection: Connection,
        client: socket.socket,
        target: tuple[str, int],
        conditions: Callable[[], Conditions],
        lit: asyncio.Event,
        cut: Cut | None,
        dice: str,
        tap: Tap,
    ) -> None:
        self._connection = connection
        self._tap = tap
        self._sockets: dict[Side, socket.socket] = {"client": client, "server": _new_socket()}
        self._target = target
        self._conditions = conditions
        self._lit = lit
        self._cut = cut
        self._dice = dice
        self._records: dict[Way, Records] = {"up": Records(), "down": Records()}
        self._stop = asyncio.Event()
        self._told: tuple[Side, ...] = ()

    def stop(self, end: str, *told: Side) -> None:
        """End it, with RST to those who are told. What is half-open can still be reset."""
        if self._connection.end in ("", "half-open"):
            self._connection.end = end
            self._told = told
            self._stop.set()

    async def run(self) -> None:
        work = asyncio.create_task(self._work())
        work.add_done_callback(lambda _: self._stop.set())
        await self._stop.wait()
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        self._tell()
        while self._sockets:  # half-open: kept in silence until somebody ends it for good
            self._stop.clear()
            await self._stop.wait()
            self._tell()

    def _tell(self) -> None:
        for side in self._told:
            if side in self._sockets:
                _abort(self._sockets.pop(side))

    async def _work(self) -> None:
        try:
            await self._lit.wait()
            await asyncio.get_running_loop().sock_connect(self._sockets["server"], self._target)
        except OSError:
            self.stop("unreachable", "client", "server")
            return
        try:
            await self._carry()
        except _Broken:
            assert self._cut
            await asyncio.sleep(self._cut.pause)
            self.stop("cut", "client", "server")
        except OSError:
            await self._lit.wait()  # who resets in a blackout is not heard before its end
            self.stop("closed", "client", "server")
        else:
            self._connection.end = "closed"
            for sock in self._sockets.values():
                sock.close()
            self._sockets.clear()

    async def _carry(self) -> None:
        client, server = self._sockets["client"], self._sockets["server"]
        for sock in (client, server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        up: _Line = asyncio.Queue(_HELD)
        down: _Line = asyncio.Queue(_HELD)
        ways = (
            *(self._take(client, up), self._give("up", up, server)),
            *(self._take(server, down), self._give("down", down, client)),
        )
        tasks = [asyncio.create_task(each) for each in ways]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _take(self, source: socket.socket, line: _Line) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._lit.wait()
            data = await loop.sock_recv(source, _CHUNK)
            await line.put((loop.time() + self._conditions().latency, data))
            if not data:
                return

    async def _give(self, way: Way, line: _Line, sink: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        dice = random.Random(f"{self._dice}/{way}")
        while True:
            due, data = await line.get()
            conditions = self._conditions()
            pause = due - loop.time()
            if dice.random() < conditions.stall_chance:
                pause = max(pause, 0.0) + dice.uniform(*conditions.stall)
            await asyncio.sleep(pause)
            if not data:
                await self._lit.wait()
                sink.shutdown(socket.SHUT_WR)
                return
            size = max(1, int(conditions.rate / _SLICES)) if conditions.rate else len(data)
            for at in range(0, len(data), size):
                await self._lit.wait()
                await self._deliver(way, data[at : at + size], sink)
                if conditions.rate:
                    await asyncio.sleep(size / conditions.rate)

    async def _deliver(self, way: Way, data: bytes, sink: socket.socket) -> None:
        traffic = self._connection.up if way == "up" else self._connection.down
        end = self._records[way].feed(data, self._cut if self._cut and self._cut.way == way else None)
        self._tap(self._connection, way, data[:end])
        await asyncio.get_running_loop().sock_sendall(sink, data[:end])
        traffic.bytes += len(data[:end])
        traffic.records = self._records[way].count
        if end is not None:
            raise _Broken


class Link:
    """A Proxy for code without an event loop. It runs on `bench`, or on one of its own. Use it as a context
    manager; what it does and has is described at Proxy.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        seed: int = 0,
        address: str = _LOOPBACK,
        tap: Tap | None = None,
        bench: Bench | None = None,
    ) -> None:
        self._proxy = Proxy(host, port, seed, address=address, tap=tap)
        self._bench = bench
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            bench = self._bench or undo.enter_context(Bench())
            bench.run(self._proxy.open())
            undo.callback(lambda: bench.run(self._proxy.close()))
            self._call = bench.call
            self._stack = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def port(self) -> int:
        return self._proxy.port

    @property
    def connections(self) -> list[Connection]:
        return self._proxy.connections[:]

    @property
    def target(self) -> tuple[str, int]:
        return self._proxy.target

    @target.setter
    def target(self, target: tuple[str, int]) -> None:
        self._proxy.target = target

    @property
    def tap(self) -> Tap | None:
        return self._proxy.tap

    @tap.setter
    def tap(self, tap: Tap | None) -> None:
        self._proxy.tap = tap

    @property
    def conditions(self) -> Conditions:
        return self._proxy.conditions

    @conditions.setter
    def conditions(self, conditions: Conditions) -> None:
        self._proxy.conditions = conditions

    def blackout(self) -> None:
        self._call(self._proxy.blackout)

    def refuse(self) -> None:
        self._call(self._proxy.refuse)

    def restore(self) -> None:
        self._call(self._proxy.restore)

    def reset(self) -> None:
        self._call(self._proxy.reset)

    def half_open(self, told: Side | None = None) -> None:
        self._call(lambda: self._proxy.half_open(told))

    def cut_next(self, *cuts: Cut) -> None:
        self._call(lambda: self._proxy.cut_next(*cuts))


def _abort(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # not connected
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def _new_socket() -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    return sock
