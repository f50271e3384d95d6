"""The way back into a node of the production profile: a button, held at the start and then let go.

What the node must not give away goes first: its identity, then its settings. Only a node without both has an
open serial port, so wherever the power fails in between, the port stays locked or has nothing behind it.
"""

import os
import time

import machine
from esp32 import Partition
from micropython import const

_SETTINGS = const("/limpet.json")
_BEGINS = const(b'{"v":')  # as the host writes them (docs/formats.md)
_BLOCK = const(4096)
_CHUNK = const(256)
_SETTLE_MS = const(2)  # for the line, once it is pulled up
_LOOK_MS = const(10)
_LET_GO_MS = const(30000)


def look(pin, hold_ms):
    """Return at once unless the button pulls its `pin` low. Held for `hold_ms`, and then let go, it wipes
    the node, which starts anew. A line that stays low is no button, but a fault: nothing is wiped then.

    Raises OSError if the flash fails: then the serial port must stay locked.
    """
    button = machine.Pin(pin, machine.Pin.IN, machine.Pin.PULL_UP)
    time.sleep_ms(_SETTLE_MS)
    if _low_ms(button, hold_ms) < hold_ms:
        return
    print("way in: let go of the button, and all that this node knows is wiped")
    if _low_ms(button, _LET_GO_MS) < _LET_GO_MS:
        wipe()
        print("way in: wiped; the serial port is open")
        machine.reset()
    print("way in: the button is stuck; nothing is wiped")


def wipe():
    """Erase the identity and the settings. The readings that no broker has stay in the spool."""
    for identity in Partition.find(Partition.TYPE_DATA, label="identity"):
        for block in range(identity.ioctl(4, 0)):
            identity.ioctl(6, block)
        _check_blank(identity)
    # A file that is removed stays in the flash until its blocks are needed. So first its data is programmed
    # to zeros, where it is and where older versions of it were.
    head, zeros = bytearray(len(_BEGINS)), bytes(_CHUNK)
    for files in Partition.find(Partition.TYPE_DATA, label="vfs"):
        for block in range(files.ioctl(4, 0)):
            files.readblocks(block, head, 0)
            if head == _BEGINS:
                for at in range(0, _BLOCK, _CHUNK):
                    files.writeblocks(block, zeros, at)
    os.remove(_SETTINGS)


def _low_ms(button, most_ms):
    """For how long the button's line stays low, at most `most_ms`."""
    began = time.ticks_ms()
    passed = 0
    while passed < most_ms and not button.value():
        time.sleep_ms(_LOOK_MS)
        passed = min(time.ticks_diff(time.ticks_ms(), began), most_ms)
    return passed


def _check_blank(partition):
    chunk, blank = bytearray(_CHUNK), b"\xff" * _CHUNK
    for block in range(partition.ioctl(4, 0)):
        for at in range(0, _BLOCK, _CHUNK):
            partition.readblocks(block, chunk, at)
            if chunk != blank:
                raise OSError("the identity could not be erased")
