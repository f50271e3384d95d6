"""Descriptors that end with this process.

Python keeps each of its descriptors from the programs that a process starts (O_CLOEXEC, PEP 446). A child
that is forked and starts none (multiprocessing, a daemon) shares them all the same, and with them a flock()
or the open end of a pipe: it would hold both when we are long dead. So each such child closes these first.
"""

import os
import threading
from collections.abc import Callable

_lock = threading.Lock()
_open: set["Unshared"] = set()


class Unshared:
    """A descriptor, made by `make` while no other thread can fork."""

    def __init__(self, make: Callable[[], int]) -> None:
        with _lock:
            self._number: int | None = make()
            _open.add(self)

    @property
    def closed(self) -> bool:
        """Closed here, or this process is a child that was forked since."""
        return self._number is None

    def fileno(self) -> int:
        """The descriptor. Raises ValueError when it is closed."""
        if self._number is None:
            raise ValueError("The descriptor is closed.")
        return self._number

    def close(self) -> None:
        """Close it, if it is open."""
        with _lock:
            _open.discard(self)
            self._close()

    def _close(self) -> None:
        if self._number is not None:
            os.close(self._number)
            self._number = None


def _close_all() -> None:
    for each in _open:
        each._close()
    _open.clear()
    _lock.release()


os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_close_all)
