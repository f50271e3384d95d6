"""How the node is: what `about` and `health` say of it."""

import gc
import json
import sys

import machine
from micropython import const

from limpet import __version__
from limpet.reading import text
from limpet.senml import fixed

_RESET_CAUSES = const(",power-on,reset,watchdog,deep sleep,soft reset")  # by machine.reset_cause()


def about(node_id, board, channels):
    """The text of `about`, in pieces: with many channels it is longer than is good to hold at once."""
    micropython = ".".join([str(n) for n in sys.implementation[1][:3]])  # type: ignore[index]
    yield '{"node":"%s","firmware":"%s","board":"%s","micropython":"%s","channels":[' % (
        node_id,
        __version__,
        board,
        micropython,
    )
    comma = ""
    for name, unit, decimals, low, high, period_ms in channels:
        yield '%s{"n":"%s","u":"%s","period_ms":%d,"low":%s,"high":%s}' % (
            comma,
            name,
            unit,
            period_ms,
            fixed(low, decimals),
            fixed(high, decimals),
        )
        comma = ","
    yield "]}"


def health(clock, queue, wifi, sampler, uplink):
    """The text of `health`; docs/wire.md has the keys."""
    gc.collect()
    free = gc.mem_free()
    sensors = ",".join(['"%s":"%s"' % (s.name, text(s.reason)) for s in sampler.sensors])
    return (
        '{"uptime":%d,"clock":"%s","reset":"%s","heap_free":%d,"queue":%d,"queue_size":%d,"lost":%d,'
        '"connects":%d,"joins":%d,"rssi":%s,"error":%s,"sensors":{%s}}'
        % (
            clock.uptime_ms() // 1000,
            clock.trust,
            _RESET_CAUSES.split(",")[machine.reset_cause()],
            free,
            len(queue),
            queue.capacity,
            queue.lost,
            uplink.connects,
            wifi.joins,
            json.dumps(wifi.rssi()),
            json.dumps(uplink.error),
            sensors,
        )
    )
