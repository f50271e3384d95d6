"""How the node is: what `about` and `health` say of it."""

import gc
import json
import os
import sys

import machine

from limpet import __version__
from limpet.reading import REASONS
from limpet.senml import fixed

_RESET_CAUSES = ("", "power-on", "reset", "watchdog", "deep sleep", "soft reset")


def about(node_id, board, channels):
    """The text of `about`, in pieces: with many channels it is longer than is good to hold at once."""
    micropython = ".".join([str(n) for n in sys.implementation[1][:3]])
    yield '{"node":"%s","firmware":"%s","board":"%s","micropython":"%s","channels":[' % (
        node_id,
        __version__,
        board,
        micropython,
    )
    comma = ""
    for c in channels:
        yield '%s{"n":"%s","u":"%s","period_ms":%d,"low":%s,"high":%s}' % (
            comma,
            c.name,
            c.unit,
            c.period_ms,
            fixed(c.low, c.decimals),
            fixed(c.high, c.decimals),
        )
        comma = ","
    yield "]}"


def health(clock, queue, wifi, sampler, uplink):
    """The text of `health`; docs/wire.md has the keys."""
    gc.collect()
    return json.dumps(
        {
            "uptime": clock.uptime_ms() // 1000,
            "clock": clock.trust,
            "reset": _RESET_CAUSES[machine.reset_cause()],
            "heap_free": gc.mem_free(),
            "queue": len(queue),
            "queue_size": queue.capacity,
            "lost": queue.lost,
            "connects": uplink.connects,
            "error": uplink.error,
            "joins": wifi.joins,
            "rssi": wifi.rssi(),
            "sensors": {s.name: REASONS[s.reason] for s in sampler.sensors},
        }
    )
