"""Runs inside MicroPython: what limpet.spool does to its flash. Prints a line of JSON.

Arguments: size of the partition, number of readings.
"""

import json
import sys
import time

from counting import Flash
from limpet.spool import Spool

CHANNELS = (
    ("bme280/temperature", "Cel", 2, -4000, 8500, 1000),
    ("bme280/pressure", "Pa", 2, 3000000, 11000000, 1000),
    ("bme280/humidity", "%RH", 2, 0, 10000, 1000),
)
UNIX_MS = 1764000000000
PACK = 40  # readings that are acknowledged together


def opened(flash):
    spool = Spool(flash, "bench")
    spool.slack = lambda: 1000
    return spool


def append(spool, work, start, end, acknowledge):
    """Readings as a node takes them: three a second, acknowledged soon or not at all."""
    for i in range(start, end):
        second, channel = divmod(i, len(CHANNELS))
        spool.append(second, 250, channel, 0, 2000 + i % 1000)
        if i % PACK == 0:
            if acknowledge:
                spool.ack(max(spool.cursor, spool.next - PACK))
            next(work)


def main():
    size, count = int(sys.argv[1]), int(sys.argv[2])
    flash = Flash(size)
    spool = opened(flash)
    spool.start(CHANNELS, UNIX_MS, 2)
    work = spool.run()
    append(spool, work, 0, count // 4, True)
    flash.reset()
    start, began = spool.next, time.ticks_us()
    append(spool, work, start, start + count, True)
    told = {
        "programmed": flash.programmed,
        "erased": flash.erased,
        "us": time.ticks_diff(time.ticks_us(), began) / count,
    }
    append(spool, work, spool.next, spool.next + size // 16, False)
    held = spool.next - spool.first
    flash.reset()
    again = opened(flash)
    told["recovered"] = flash.read
    told["held"] = again.next - again.first
    if (again.next, again.first, again.cursor) != (spool.next, spool.first, spool.cursor) or not held:
        raise ValueError("the recovered spool is another one")
    print(json.dumps(told))


main()
