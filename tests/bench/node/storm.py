"""Runs inside MicroPython: the reconnect decisions of a fleet, by limpet's own code, in simulated time.

Arguments: nodes, ms that the broker is away, ms of the first wait, number of fleets. Prints a line of JSON:
the most connects that the broker sees in any second of any fleet, the same with those that were refused while
it was away, and when the last node was back.
"""

import json
import sys

from limpet.backoff import Backoff


def attempts(outage_ms, first_ms):
    """When one node tries, in ms after the loss; the last attempt is the one that succeeds."""
    backoff = Backoff(first_ms)
    backoff.proved()
    at = 0
    while True:
        at += backoff.wait()
        yield at
        if at >= outage_ms:
            return


def peak(times):
    """The most of the sorted `times` within one second."""
    most = first = 0
    for i, at in enumerate(times):
        while at - times[first] >= 1000:
            first += 1
        most = max(most, i - first + 1)
    return most


def main():
    nodes, outage_ms, first_ms, fleets = [int(word) for word in sys.argv[1:5]]
    seen = tried = last = 0
    for _ in range(fleets):
        times = []
        for _ in range(nodes):
            times.extend(attempts(outage_ms, first_ms))
        times.sort()
        tried = max(tried, peak(times))
        seen = max(seen, peak([at for at in times if at >= outage_ms]))
        last = max(last, times[-1])
    print(json.dumps({"peak": seen, "tried": tried, "last_ms": last}))


main()
