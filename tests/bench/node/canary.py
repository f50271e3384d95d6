"""Runs inside MicroPython: how late this machine lets a process be that does nothing but wake up.

Arguments: period in ms, seconds. Prints a line of JSON: pairs of unix ms and lateness in microseconds.
"""

import json
import sys
import time


def main():
    period, seconds = int(sys.argv[1]) * 1000, float(sys.argv[2])
    seen = []
    due = time.ticks_us()
    for _ in range(int(seconds * 1000000) // period):
        due = time.ticks_add(due, period)
        wait = time.ticks_diff(due, time.ticks_us())
        if wait > 0:
            time.sleep_ms((wait + 999) // 1000)  # as the node's scheduler sleeps: in whole milliseconds
        seen.append((time.time_ns() // 1000000, time.ticks_diff(time.ticks_us(), due)))
    print(json.dumps(seen))


main()
