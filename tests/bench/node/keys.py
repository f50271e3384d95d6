"""Runs inside MicroPython: what a key and a request for its certificate cost. Prints a line of JSON.

Argument: how often.
"""

import gc
import json
import os
import sys
import time

from limpet import csr, p256
from limpet.p256 import G, N, P, run

NODE_ID = "bench"
ADDITIONS = 200
PASSES = 5


def ms(work):
    gc.collect()
    began = time.ticks_us()
    work()
    return time.ticks_diff(time.ticks_us(), began) / 1000


def key_and_request():
    """Generator, as limpet.enrol has it: a key, and the request for its certificate."""
    d, q = yield from p256.key_pair()
    return (yield from csr.request(NODE_ID, csr.private_key(d, q)))


def most_heap():
    """The most bytes that are in use at a time, garbage left out."""
    gc.collect()
    before = most = gc.mem_alloc()
    for _ in key_and_request():
        gc.collect()
        most = max(most, gc.mem_alloc())
    return most - before


def longest_step():
    """Milliseconds of the longest step, without collections of garbage and what else the machine does."""
    best = None
    for _ in range(PASSES):
        steps = key_and_request()
        took = []
        while True:
            gc.collect()
            began = time.ticks_us()
            try:
                next(steps)
            except StopIteration:
                break
            took.append(time.ticks_diff(time.ticks_us(), began))
        best = took if best is None else [min(best[i], each) for i, each in enumerate(took)]
    return max(best) / 1000


def plus(p, q):
    """Two points' sum as any textbook has it."""
    if p is None or q is None:
        return p or q
    if p == q:
        slope = 3 * (p[0] * p[0] - 1) * pow(2 * p[1], P - 2, P)
    else:
        slope = (q[1] - p[1]) * pow(q[0] - p[0], P - 2, P)
    x = (slope * slope - p[0] - q[0]) % P
    return x, (slope * (p[0] - x) - p[1]) % P


def times(k):
    total = None
    point = G
    while k:
        if k & 1:
            total = plus(total, point)
        point = plus(point, point)
        k >>= 1
    return total


def drawn():
    return int.from_bytes(os.urandom(32), "big") % (N - 1) + 1


def textbook():
    """A key and a signature, neither blinded nor checked."""
    d, k = drawn(), drawn()
    times(d)
    r = times(k)[0] % N
    return r, (1 + r * d) * pow(k, N - 2, N) % N


def additions(power):
    """Milliseconds for additions like those of limpet.p256, of numbers that are `power` times as long."""
    kept = p256.P, p256._B
    p256.P, p256._B = P**power, p256._B**power
    p, q = tuple(i**power for i in (G[0], G[1], N)), tuple(i**power for i in (N, G[0], G[1]))

    def work():
        for _ in range(ADDITIONS):
            p256._add(p, q)

    try:
        return ms(work)
    finally:
        p256.P, p256._B = kept


def main():
    count = int(sys.argv[1])
    short, long = [min(additions(power) for _ in range(count)) for power in (1, 2)]
    told = {
        "ms": min(ms(lambda: run(key_and_request())) for _ in range(count)),
        "textbook_ms": min(ms(textbook) for _ in range(count)),
        "step_ms": longest_step(),
        "heap": most_heap(),
        "longer": long / short,
    }
    print(json.dumps(told))


main()
