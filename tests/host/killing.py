"""A process that is killed at one of its writes, by its number: so a test can kill it at each of them."""

import os
import signal
import traceback
from collections.abc import Callable


class Killed:
    """Counts what a process writes, and kills it with SIGKILL before one of that, or in the middle of it."""

    NAMES = ("pwrite", "ftruncate", "fsync", "replace", "rename", "mkdir", "unlink")

    def __init__(self, at: int) -> None:
        self._at = at
        self._count = 0
        for name in self.NAMES:
            setattr(os, name, self._counting(getattr(os, name)))

    def _counting(self, real: Callable[..., object]) -> Callable[..., object]:
        def call(*words: object, **options: object) -> object:
            self._count += 1
            if self._count == self._at:
                if real.__name__ == "pwrite":
                    descriptor, data, at = words
                    assert isinstance(data, bytes)
                    real(descriptor, data[: len(data) // 2], at)
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*words, **options)

        return call


def killed(act: Callable[[], object], at: int) -> bool:
    """Do `act` in a process of its own that dies at its write number `at`; False if it came to its end."""
    child = os.fork()
    if not child:
        try:
            Killed(at)
            act()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert not os.WIFEXITED(status) or not os.WEXITSTATUS(status), "it ended by itself, with an error"
    return os.WIFSIGNALED(status)
