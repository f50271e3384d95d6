"""The serial port of a virtual board: a pseudo-terminal that any serial program opens like a device.

It stays the same across resets of the board. What the board prints while nobody has it open is lost, as
on a UART. Opening it does not reset the board: a pseudo-terminal has no DTR and no RTS.
"""

import asyncio
import errno
import os
import pty
import select
import termios
import tty
from collections.abc import Callable

_LOOK_AGAIN = 0.02
"""Seconds between two looks whether somebody has opened the port."""
_MOST_PENDING = 65536


class PtyPort:
    """`path` is what a program opens; `on_input` gets what it sends."""

    def __init__(self, on_input: Callable[[bytes], None]) -> None:
        self._on_input = on_input
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
        self._watch()

    def write(self, data: bytes) -> None:
        """Send to whoever has the port open; nobody: it is gone."""
        if not self._open:
            return
        self._pending += data
        if len(self._pending) > _MOST_PENDING:
            del self._pending[: len(self._pending) - _MOST_PENDING]
        self._flush()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._ignore()
            os.close(self._master)

    def _watch(self) -> None:
        if self._closed:
            return
        if self._hangup.poll(0):
            self._loop.call_later(_LOOK_AGAIN, self._watch)
        else:
            self._open = True
            self._loop.add_reader(self._master, self._read)

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
        self._pending.clear()
        self._loop.remove_reader(self._master)
        self._loop.remove_writer(self._master)
        termios.tcflush(self._master, termios.TCIOFLUSH)

    def _flush(self) -> None:
        try:
            del self._pending[: os.write(self._master, self._pending)]
        except BlockingIOError:
            pass
        except OSError:
            self._pending.clear()
        if self._pending:
            self._loop.add_writer(self._master, self._flush)
        else:
            self._loop.remove_writer(self._master)
