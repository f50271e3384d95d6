"""Runs inside MicroPython: the loop that one writes with umqtt.simple: measure, publish, wait for the next.

Arguments: port, folder with the identity, period in ms, seconds. Prints a line of JSON: measurements taken,
and the worst lateness of one in microseconds.
"""

import json
import sys
import time

from tls_client import context_of, umqtt_client


def main():
    port, folder = int(sys.argv[1]), sys.argv[2]
    period, seconds = int(sys.argv[3]) * 1000, float(sys.argv[4])
    client = umqtt_client(port, context_of(folder))
    taken = worst = 0
    due = began = time.ticks_us()
    while time.ticks_diff(time.ticks_us(), began) < seconds * 1000000:
        late = time.ticks_diff(time.ticks_us(), due)
        worst = max(worst, late)
        taken += 1
        due = time.ticks_add(due, (late // period + 1) * period)  # what was missed is not made up for
        client.publish(b"limpet/bench/data", b"%d" % late, qos=1)
        wait = time.ticks_diff(due, time.ticks_us())
        if wait > 0:
            time.sleep_us(wait)
    print(json.dumps({"taken": taken, "worst": worst}))


main()
