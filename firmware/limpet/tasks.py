"""The node's scheduler. A task is a generator: it does a little, and yields the milliseconds it can wait.

It is asyncio's idea without asyncio: 4 kB less heap, nothing allocated in a turn, and no way to wait but
by yielding. Tasks take turns; what one does between two yields is what it can delay the others by.
"""

import gc
import sys
import time

from micropython import const

from limpet.log import log

_RESTART_MS = const(1000)


class Task:
    """Runs `part.run()`, and runs it again when it fails: one part's fault must not stop the others."""

    def __init__(self, name, part):
        self._name = name
        self._part = part
        self._steps = part.run()
        self._due = time.ticks_ms()

    def turn(self, now):
        """Do a step if it is time (`now` in ticks); the milliseconds until the next one."""
        wait = time.ticks_diff(self._due, now)
        if wait <= 0:
            try:
                wait = next(self._steps)
            except Exception as e:
                log(self._name, "failed, starts again")
                sys.print_exception(e)
                gc.collect()
                self._steps = self._part.run()
                wait = _RESTART_MS
            self._due = time.ticks_add(time.ticks_ms(), wait)
        return wait


def run(tasks):
    """Give the tasks their turns, for ever."""
    while True:
        pause = 1000
        for task in tasks:
            pause = min(pause, task.turn(time.ticks_ms()))
        time.sleep_ms(pause)
