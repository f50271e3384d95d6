"""Has the node's commands answered, one at a time; docs/wire.md has them all.

All but `health` are orders for its identity (limpet.orders). The code for those is loaded with the first one,
and thrown away when none has come for a while.
"""

import time

from micropython import const

from limpet.forget import forget
from limpet.log import log

_LOOK_MS = const(50)
_KEEP_MS = const(20000)
_ORDERS = (b"key", b"put", b"use", b"identity")


class Commands:
    """Works on what `uplink` has got as its `command`, and gives it the `answer`."""

    def __init__(self, uplink, node_id):
        self._uplink = uplink
        self._node_id = node_id
        self._used = None  # when the code for orders was needed the last time

    def run(self):
        """Work on commands, for ever (a task)."""
        uplink = self._uplink
        while True:
            if uplink.command is not None and uplink.answer is None:
                payload = uplink.command[1]
                if payload == b"health":
                    uplink.answer = uplink.health()
                elif payload.split(b" ", 1)[0] in _ORDERS:
                    uplink.answer = yield from self._follow(payload)
                    self._used = time.ticks_ms()
                else:
                    uplink.answer = '{"error":"unknown command"}'
            elif self._used is not None and time.ticks_diff(time.ticks_ms(), self._used) > _KEEP_MS:
                self._used = None
                forget(("orders", "enrol", "csr", "p256", "identity"))
            yield _LOOK_MS

    def _follow(self, payload):
        """The answer to an order, as text (a task's step)."""
        try:
            from limpet import orders

            answer = yield from orders.follow(payload, self._node_id, self._uplink)
            return answer
        except MemoryError:  # before the code was loaded
            log("commands", "no memory")
            return '{"error":"no memory"}'
