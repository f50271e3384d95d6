"""Says who the node is to whoever asks on the serial port, as terminals did. The question is SYN.

So the host tools find a node without stopping or resetting it. ASCII has ENQ for that, but MicroPython's
prompt takes it for its paste mode, and who asks does not know yet what is listening; to a prompt SYN means
nothing. Whatever else is typed is read and forgotten. Ctrl-C does not come this way: it stops the node.
"""

import select
import sys
import time

from micropython import const

import limpet

_SYN = const(0x16)
_LOOK_MS = const(250)
_MOST = const(64)  # bytes in a turn: the sampler must not wait for somebody who types without end


class Answerback:
    """`node_id` is None as long as the node has none; the answer then says '-'. Of a node whose serial port
    is `locked` it ends with the name of the profile."""

    def __init__(self, locked=False):
        self.node_id = None
        self._suffix = " production" if locked else ""
        self._byte = bytearray(1)
        self._read = sys.stdin.buffer.readinto
        self._typed = select.poll()
        self._typed.register(sys.stdin, select.POLLIN)

    def run(self):
        """Answer for ever (a task). Nothing is allocated while nobody asks."""
        while True:
            if self._asked():
                print("limpet", limpet.__version__, "node", (self.node_id or "-") + self._suffix)
            yield _LOOK_MS

    def wait(self, ms):
        """Answer for about `ms`, when there is no node that could run tasks."""
        answering = self.run()
        while ms > 0:
            pause = next(answering)
            time.sleep_ms(pause)
            ms -= pause

    def _asked(self):
        """Read what was typed; whether a SYN was among it."""
        asked = False
        for _ in range(_MOST):
            if not self._has_typed() or not self._read(self._byte):
                break
            asked = asked or self._byte[0] == _SYN
        return asked

    def _has_typed(self):
        for _, event in self._typed.ipoll(0):
            return event & select.POLLIN
        return 0
