"""Runs inside MicroPython: what a log file on littlefs does to its flash, flushed after each record.

Arguments: size of the partition, number of records of 16 bytes. Prints a line of JSON.
"""

import json
import sys
import time

import vfs
from counting import Flash

RECORD = bytes(range(16))
GRAIN = 32  # how the ESP32 port mounts its littlefs


def main():
    size, count = int(sys.argv[1]), int(sys.argv[2])
    flash = Flash(size)
    how = {"readsize": GRAIN, "progsize": GRAIN, "lookahead": GRAIN}
    vfs.VfsLfs2.mkfs(flash, **how)
    vfs.mount(vfs.VfsLfs2(flash, **how), "/flash")
    with open("/flash/log", "ab") as log:
        flash.reset()
        began = time.ticks_us()
        for _ in range(count):
            log.write(RECORD)
            log.flush()
        us = time.ticks_diff(time.ticks_us(), began) / count
        print(json.dumps({"programmed": flash.programmed, "erased": flash.erased, "us": us}))


main()
