"""The node's log: one line an event on the serial port, with the seconds since start in front."""

import time

_started = time.ticks_ms()


def log(who, what):
    """`who` is the module that speaks, `what` a short text; never a secret."""
    ms = time.ticks_diff(time.ticks_ms(), _started)
    print("%7d.%03d %s: %s" % (ms // 1000, ms % 1000, who, what))
