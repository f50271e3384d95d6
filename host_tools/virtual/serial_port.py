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

from host_tools.virtual.outbox import Outbox

_LOOK_AGAIN = 0.02
"""Seconds between two looks whether somebody has opened the port."""


class PtyPort:
    """`path` is what a program opens; `on_input` gets what it sends; `on_room` is called with False when the
    board should print no more for now, and with True when it may go on."""

    def __init__(self, on_input: Callable[[bytes], None], on_room: Callable[[bool], None]) -> None:
        self._on_input = on_input
        self._loop = asyncio.get_running_loop()
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        self.path = os.ttyname(slave)
        os.close(slave)
        os.set_blocking(self._master, False)
        self._hangup = select.poll()
        self._hangup.register(self._master, 0)
        self._outbox = Outbox(self._send, self._want, on_room)
        self._open = False
        self._closed = False
        self._watch()

    def write(self, data: bytes) -> None:
        """Send to whoever has the port open; nobody: it is gone."""
        if self._open or self._notice_reader():
            self._outbox.write(data)

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
        self._open = False
        self._loop.remove_reader(self._master)
        self._outbox.clear()

    def _send(self, data: bytearray) -> int:
        try:
            return os.write(self._master, data)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)

    def _want(self, on: bool) -> None:
        if on:
            self._loop.add_writer(self._master, self._outbox.flush)
        else:
            self._loop.remove_writer(self._master)
