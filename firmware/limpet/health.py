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


def about(node_id, board, profile, certificate, channels):
    """The text of `about`, in pieces: with many channels it is longer than is good to hold at once."""
    micropython = ".".join([str(n) for n in sys.implementation[1][:3]])  # type: ignore[index]
    yield '{"node":"%s","firmware":"%s","board":"%s","micropython":"%s","profile":"%s","certificate":"%s"' % (
        node_id,
        __version__,
        board,
        micropython,
        profile,
        certificate,
    )
    yield ',"channels":['
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


def health(clock, spool, wifi, sampler, uplink):
    """The text of `health`; docs/wire.md has the keys."""
    gc.collect()
    free = gc.mem_free()
    sensors = ",".join(['"%s":"%s"' % (s.name, text(s.reason)) for s in sampler.sensors])
    return (
        '{"uptime":%d,"clock":"%s","drift":%s,"reset":"%s","boot":%d,"heap_free":%d,"spool":%d,"spool_size":%d,'
        '"lost":%d,"damaged":%d,"late_ms":%d,"missed":%d,"connects":%d,"malformed":%d,"joins":%d,"rssi":%s,'
        '"error":%s,"sensors":{%s}}'
        % (
            clock.uptime_ms() // 1000,
            clock.trust_text(),
            fixed(clock.drift, 1),
            _RESET_CAUSES.split(",")[machine.reset_cause()],
            spool.boot,
            free,
            len(spool),
            spool.capacity,
            spool.lost,
            spool.damaged,
            sampler.lateness(),
            sampler.missed,
            uplink.connects,
            uplink.session.malformed,
            wifi.joins,
            json.dumps(wifi.rssi()),
            json.dumps(uplink.error),
            sensors,
        )
    )
