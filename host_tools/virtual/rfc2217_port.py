"""The serial port of a virtual board as an RFC 2217 server: what pyserial opens as `rfc2217://HOST:PORT`.

Unlike a pseudo-terminal it has DTR, RTS and a baud rate. pyserial's PortManager speaks the protocol; this
is the port that it manages, and the network under it. One client at a time: while there is one, a second
finds the connection refused, as it finds a device busy. When the last one goes, both lines are released.
"""

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import cast

from serial.rfc2217 import IAC, IAC_DOUBLED, M_NORMAL, PortManager, Serial

from host_tools.errors import LimpetError
from host_tools.virtual.outbox import Outbox
from host_tools.virtual.pace import Pace

_KEEPALIVE = ((getattr(socket, "TCP_KEEPIDLE", None), 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
"""A client whose machine is gone frees the port after half a minute."""
_MOST_TYPED = 4096
"""Bytes on the way to the chip after which the client has to wait."""
_MOST_AT_ONCE = 16384
_LONGEST_SUBOPTION = 64
_QUEUE_S = 1.0


class _Nonsense(Exception):
    """The client does not speak RFC 2217."""


class Rfc2217Port:
    """Serves at `address` (host, port; 0 for any free port) from its making on.

    `on_input` gets what the client sends; `on_room` is called with False when the board should print no more
    for now, and with True when it may go on; `on_lines` gets DTR and RTS whenever the client has set one.
    """

    def __init__(
        self,
        address: tuple[str, int],
        on_input: Callable[[bytes], None],
        on_room: Callable[[bool], None],
        on_lines: Callable[[bool, bool], None],
        *,
        paced: bool = False,
        spoil_out: Callable[[bytes, int], bytes] = lambda data, _: data,
        spoil_in: Callable[[bytes, int], bytes] = lambda data, _: data,
    ) -> None:
        """`paced`: bytes take the time in both directions that they take at the client's baud rate.
        `spoil_out` and `spoil_in` make of bytes what arrives of them, when the client has this baud rate.
        """
        self._on_input = on_input
        self._on_lines = on_lines
        self._spoil_out, self._spoil_in = spoil_out, spoil_in
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox(self._send, self._want, on_room)
        self._wire = bytearray()  # escaped, and next to go
        self._typed = bytearray()  # on the way to the chip
        self._pace_out = Pace() if paced else None
        self._pace_in = Pace() if paced else None
        self._timer_out: asyncio.TimerHandle | None = None
        self._timer_in: asyncio.TimerHandle | None = None
        self._client: socket.socket | None = None
        self._reads = False
        self._queue: deque[socket.socket] = deque()
        self._listener: socket.socket | None = None
        self._hidden: asyncio.TimerHandle | None = None
        self._reserved = _reserve(address)
        self.address: tuple[str, int] = self._reserved.getsockname()[:2]
        self.settings = _Settings(self)
        self._manager = self._new_manager()
        self._listen()

    @property
    def url(self) -> str:
        """What a program opens."""
        host, port = self.address
        return f"rfc2217://{host}:{port}"

    @property
    def baudrate(self) -> int:
        """Bits a second, as the client has set them."""
        return self.settings.baudrate

    def write_data(self, data: bytes) -> None:
        """Bytes from the chip; without a client they are gone."""
        if self._client:
            self._outbox.write(self._spoil_out(data, self.baudrate))

    def write(self, data: bytes) -> None:
        """Bytes of the protocol, for PortManager."""
        if self._client:
            self._wire += data
            self._push()

    def vanish(self, seconds: float) -> None:
        """Be gone for so long, as a device that enumerates anew: the client is cut off, nobody gets in."""
        self._stop_listening()
        self._refuse_queue()
        self._drop()
        if self._hidden:
            self._hidden.cancel()
        self._hidden = self._loop.call_later(seconds, self._come_back)

    def close(self) -> None:
        if self._hidden:
            self._hidden.cancel()
        self._stop_listening()
        self._refuse_queue()
        self._drop()
        self._reserved.close()

    def purge_output(self) -> None:
        """Forget what the client has not got yet."""
        self._outbox.clear()

    def lines_changed(self) -> None:
        """The client has set DTR or RTS."""
        self._on_lines(self.settings.dtr, self.settings.rts)

    def _come_back(self) -> None:
        self._hidden = None
        self._listen()

    def _listen(self) -> None:
        if self._listener or self._hidden or self._client:
            return
        self._listener = _socket(self.address[0])
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._listener.bind(self.address)
        self._listener.listen()
        self._loop.add_reader(self._listener, self._accept)

    def _stop_listening(self) -> None:
        if self._listener:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self) -> None:
        while self._listener:
            try:
                client, _ = self._listener.accept()
            except OSError:  # no more, or it has gone again
                break
            self._queue.append(client)
        if not self._queue:
            return
        self._stop_listening()
        self._serve(self._queue.popleft())
        if self._queue:  # they came in the same moment; the first one may be about to go
            self._loop.call_later(_QUEUE_S, self._refuse_queue)

    def _refuse_queue(self) -> None:
        while self._queue:
            self._queue.popleft().close()

    def _serve(self, client: socket.socket) -> None:
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            if option is not None:
                client.setsockopt(socket.IPPROTO_TCP, option, value)
        self._client = client
        self.settings.reset()
        self._manager = self._new_manager()
        self._reads = False
        self._read_on(True)

    def _new_manager(self) -> PortManager:
        # Its annotations ask for pyserial's own ports; it uses what _Settings has, and `write`.
        return PortManager(cast(Serial, self.settings), cast(Serial, self))

    def _read(self) -> None:
        client = self._client
        if client is None:
            return
        try:
            data = client.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            try:
                self._take(data)
            except _Nonsense:
                self._next()
        else:  # what it has sent still arrives, as when a device is closed
            typed = bytes(self._typed)
            self._typed.clear()
            if typed:
                self._hand_in(typed)
            self._next()

    def _next(self) -> None:
        """This client has left, or has to."""
        self._drop()
        if self._queue:
            self._serve(self._queue.popleft())
        else:
            self._listen()

    def _take(self, data: bytes) -> None:
        # PortManager takes each byte by itself; most of a download has nothing for it.
        manager = self._manager
        while data and self._client:
            if manager.suboption is not None and len(manager.suboption) > _LONGEST_SUBOPTION:
                raise _Nonsense
            if manager.mode == M_NORMAL and manager.suboption is None:
                plain, found, data = data.partition(IAC)
                self._typed += plain
                if found and data.startswith(IAC):
                    self._typed += IAC
                    data = data[1:]
                    continue
                data = found + data
                self._pass_on()  # what was typed before a line changes comes before that
            try:
                self._typed += b"".join(manager.filter(data[:1]))
            except (struct.error, LookupError, TypeError, ValueError):
                raise _Nonsense from None
            data = data[1:]
        self._pass_on()

    def _pass_on(self) -> None:
        """Give the chip what has had the time to reach it."""
        pace = self._pace_in
        count = len(self._typed)
        if pace and count:
            count = pace.take(count, self.baudrate, self._loop.time())
        part = bytes(self._typed[:count])
        del self._typed[:count]
        if pace and self._typed and not self._timer_in:
            self._timer_in = self._loop.call_at(pace.free, self._pass_more)
        self._read_on(len(self._typed) <= _MOST_TYPED)
        if part:
            self._hand_in(part)

    def _hand_in(self, data: bytes) -> None:
        arrived = self._spoil_in(data, self.baudrate)
        if arrived:
            self._on_input(arrived)

    def _pass_more(self) -> None:
        self._timer_in = None
        self._pass_on()

    def _read_on(self, on: bool) -> None:
        """Whether to take more from the client: one that sends faster than the line carries has to wait."""
        if self._client and on is not self._reads:
            self._reads = on
            if on:
                self._loop.add_reader(self._client, self._read)
            else:
                self._loop.remove_reader(self._client)

    def _send(self, data: bytearray) -> int:
        if self._wire:
            return 0
        pace = self._pace_out
        count = min(len(data), _MOST_AT_ONCE)
        if pace:
            count = pace.take(count, self.baudrate, self._loop.time())
        self._wire += data[:count].replace(IAC, IAC_DOUBLED)
        self._push()
        return count

    def _want(self, on: bool) -> None:
        if on and not self._timer_out and not self._wire:
            when = self._pace_out.free if self._pace_out else self._loop.time()
            self._timer_out = self._loop.call_at(when, self._go_on)

    def _go_on(self) -> None:
        self._timer_out = None
        self._outbox.flush()

    def _push(self) -> None:
        client = self._client
        if client is None:
            return
        try:
            taken = client.send(self._wire) if self._wire else 0
        except BlockingIOError:
            taken = 0
        except OSError:  # it has gone; reading tells
            taken = len(self._wire)
        del self._wire[:taken]
        if self._wire:
            self._loop.add_writer(client, self._writable)
        else:
            self._loop.remove_writer(client)

    def _writable(self) -> None:
        self._push()
        if not self._wire:
            self._outbox.flush()

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        self._loop.remove_reader(client)
        self._loop.remove_writer(client)
        self._wire.clear()
        self._typed.clear()
        self._outbox.clear()
        for timer in (self._timer_in, self._timer_out):
            if timer:
                timer.cancel()
        self._timer_in = self._timer_out = None
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
        client.close()
        self.settings.release()


class _Settings:
    """The port as PortManager sees it: the names are those of pyserial's `Serial`."""

    cts = dsr = ri = cd = False  # nothing is wired to them

    def __init__(self, port: Rfc2217Port) -> None:
        self._port = port
        self._dtr = self._rts = False
        self.reset()

    def reset(self) -> None:
        self.baudrate = 115200
        self.bytesize = 8
        self.parity = "N"
        self.stopbits = 1
        self.xonxoff = self.rtscts = self.break_condition = False

    def release(self) -> None:
        """Both lines at once, as the kernel does when a device is closed."""
        if self._dtr or self._rts:
            self._dtr = self._rts = False
            self._port.lines_changed()

    @property
    def dtr(self) -> bool:
        return self._dtr

    @dtr.setter
    def dtr(self, on: bool) -> None:
        self._dtr = on
        self._port.lines_changed()

    @property
    def rts(self) -> bool:
        return self._rts

    @rts.setter
    def rts(self, on: bool) -> None:
        self._rts = on
        self._port.lines_changed()

    def reset_input_buffer(self) -> None:
        self._port.purge_output()

    def reset_output_buffer(self) -> None:
        """What the client sent has reached the chip already."""


def _socket(host: str) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made


def _reserve(address: tuple[str, int]) -> socket.socket:
    """A socket that has the port but never listens: it keeps the port while nobody may get in."""
    host, port = address
    try:
        if port:  # SO_REUSEPORT would let two boards share a port
            with _socket(host) as alone:
                alone.bind(address)
        reserved = _socket(host)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(address)
    except OSError as e:
        raise LimpetError(f"Port {port} of {host} cannot be used ({e.strerror}): name another one.") from None
    return reserved
