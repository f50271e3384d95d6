"""The serial port of a virtual board: a pseudo-terminal that any serial program opens like a device.

It stays the same across resets of the board. What the board prints while nobody has it open is lost, as
on a UART. A program that reads slowly slows the board down, as the baud rate would; one that has the port
open and reads nothing for a second loses what is printed from then on. Opening it does not reset the board:
a pseudo-terminal has no DTR and no RTS.
"""

import asyncio
import errno
import os
import pty
import select
import tty
from collections.abc import Callable

_LOOK_AGAIN = 0.02
"""Seconds between two looks whether somebody has opened the port."""
_MOST_PENDING = 16384
"""Bytes that wait for the reader before the board has to wait too."""
_PATIENCE = 1.0
"""Seconds that the board waits for a reader who takes nothing."""


class PtyPort:
    """`path` is what a program opens; `on_input` gets what it sends; `on_room` is called with False when the
    board should print no more for now, and with True when it may go on."""

    def __init__(self, on_input: Callable[[bytes], None], on_room: Callable[[bool], None]) -> None:
        self._on_input = on_input
        self._on_room = on_room
        self._loop = asyncio.get_running_loop()
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        self.path = os.ttyname(slave)
        os.close(slave)
        os.set_blocking(self._master, False)
        self._hangup = select.poll()
        self._hangup.register(self._master, 0)
        self._pending = bytearray()
        self._open = False
        self._closed = False
        self._waiting: asyncio.TimerHandle | None = None
        self._reader_sleeps = False
        self._watch()

    def write(self, data: bytes) -> None:
        """Send to whoever has the port open; nobody: it is gone."""
        if self._open or self._notice_reader():
            self._pending += data
            self._flush()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._ignore()
            os.close(self._master)

    def _watch(self) -> None:
        if not self._closed and not self._open and not self._notice_reader():
            self._loop.call_later(_LOOK_AGAIN, self._watch)

    def _notice_reader(self) -> bool:
        if self._closed or self._hangup.poll(0):
            return False
        self._open = True
        self._loop.add_reader(self._master, self._read)
        return True

    def _read(self) -> None:
        try:
            data = os.read(self._master, 4096)
        except BlockingIOError:
            return
        except OSError as e:
            if e.errno != errno.EIO:
                raise
            data = b""
        if data:
            self._on_input(data)
        else:  # the last program has closed it
            self._ignore()
            self._loop.call_later(_LOOK_AGAIN, self._watch)

    def _ignore(self) -> None:
        self._open = self._reader_sleeps = False
        self._pending.clear()
        self._loop.remove_reader(self._master)
        self._loop.remove_writer(self._master)
        self._tell_room()

    def _flush(self) -> None:
        try:
            taken = os.write(self._master, self._pending) if self._pending else 0
        except BlockingIOError:
            taken = 0
        except OSError:
            taken = len(self._pending)
        del self._pending[:taken]
        if taken:
            self._reader_sleeps = False
            self._forget_timer()
        if self._reader_sleeps:
            self._pending.clear()
        if self._pending:
            self._loop.add_writer(self._master, self._flush)
        else:
            self._loop.remove_writer(self._master)
        self._tell_room()

    def _tell_room(self) -> None:
        if len(self._pending) <= _MOST_PENDING:
            self._forget_timer()
            self._on_room(True)
        elif not self._waiting:
            self._waiting = self._loop.call_later(_PATIENCE, self._give_up)
            self._on_room(False)

    def _give_up(self) -> None:
        self._waiting = None
        self._reader_sleeps = True
        self._pending.clear()
        self._on_room(True)

    def _forget_timer(self) -> None:
        if self._waiting:
            self._waiting.cancel()
            self._waiting = None
