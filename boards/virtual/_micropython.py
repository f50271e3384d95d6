"""micropython of the virtual board: `kbd_intr` says what Ctrl-C is to the chip, not to this process.

The unix port's own takes its signal handler away, and the next Ctrl-C would end the process.
"""

import sys

import _host
from micropython import *  # noqa: F403

_CTRL_C = 3


def kbd_intr(char):
    """-1: no character interrupts; 3: Ctrl-C does. Others are not modelled."""
    if char not in (-1, _CTRL_C):
        raise NotImplementedError("virtual board: only Ctrl-C (3) or none (-1)")
    _host.interruptible(char == _CTRL_C)


sys.modules["micropython"] = sys.modules[__name__]
