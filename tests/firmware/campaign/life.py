"""One life of a node, from power-on to a power cut or to the end of its phases.

Runs inside MicroPython: the firmware's Spool, Reader, Uplink and Session with a real broker, on a flash in
a file. Fake are the sensors, the radio and the clock; a second goes by with each reading. Argument: a
file of JSON with what this life is to do. It prints what a witness outside of the node writes down:
    a VALUE UNIX_MS   append() is about to be called, for a reading taken then
    c SEQ EPOCH       it has returned: the reading is durable
    m, M              a time server is about to tell the time; the spool has made a mark of it
    e {…}             the end, with what the spool says of itself
"""

import json
import os
import time

import stand_ins
from limpet.events import Events
from limpet.spool import Spool
from limpet.uplink import Uplink
from stand_ins import JOB

CHANNELS = [
    ("bme280/temperature", "Cel", 2, -4000, 8500, 1000),
    ("probe/temperature", "Cel", 4, -55, 125, 1000),
]
PERIOD_MS = 1003
DRAIN_MS = 60000


class Clock(stand_ins.Clock):
    """Uptime that jumps on with each reading."""

    def __init__(self):
        self._start = time.ticks_ms()
        self._skipped = 0
        self.now()

    def now(self):
        self.s, self.ms = divmod(self.uptime_ms(), 1000)

    def uptime_ms(self):
        return self._skipped + time.ticks_diff(time.ticks_ms(), self._start)

    def skip(self, ms):
        self._skipped += ms
        self.now()


class Life:
    def __init__(self):
        self.flash = stand_ins.power_on()
        if JOB["cut"]:
            operation, how, seed = JOB["cut"]
            # Nothing of this process goes on: no handler, no `finally`, no farewell to the broker.
            self.flash.cut_power(operation, how, seed, die=lambda: os.system("kill -9 $PPID"))
        self.spool = Spool(stand_ins.spool_partition(), JOB["node"])
        self.clock = Clock()
        self.spool.start(CHANNELS)
        self.clock.on_mark = self.spool.mark
        self.spool.slack = lambda: JOB["slack_ms"]
        self._chores = self.spool.run()
        settings = stand_ins.settings(keepalive=30, batch_ms=5, retry_ms=20)
        parts = stand_ins.Wifi(), stand_ins.Sampler(CHANNELS), Events()
        self.uplink = Uplink(settings, JOB["node"], stand_ins.context(), self.clock, self.spool, *parts)
        self._steps = self.uplink.run()

    def run(self):
        for name, number in JOB["phases"]:
            if name == "off":  # the uplink does not come to its turn: nothing is sent or acknowledged
                self._sample(number)
            elif name == "on":
                for _ in range(number):
                    self._sample(1)
                    self._serve(1)
            elif name == "sync":
                print("m")
                self.clock.sync(JOB["booted_ms"])
                print("M")
            elif name == "drain":
                self._serve(DRAIN_MS, self._is_drained)
        spool = self.spool
        end = {
            "lost": spool.lost,
            "damaged": spool.damaged,
            "errors": spool.errors,
            "fault": spool.fault,
            "first": spool.first,
            "next": spool.next,
            "pending": len(spool),
            "operations": self.flash.programs + self.flash.erases,
            "connects": self.uplink.connects,
            "error": self.uplink.error,
        }
        print("e " + json.dumps(end))

    def _sample(self, count):
        spool, clock = self.spool, self.clock
        for _ in range(count):
            clock.skip(PERIOD_MS)
            seq = spool.next
            s, ms, channel = clock.s, clock.ms, seq % 2
            unix_ms = JOB["booted_ms"] + s * 1000 + ms
            value = unix_ms - JOB["zero_ms"]  # no other reading has it
            print("a %d %d" % (value, unix_ms))
            spool.append(s, ms, channel, 0, value)
            print("c %d %s" % (seq, spool.epoch))
            next(self._chores)

    def _serve(self, ms, until=None):
        end = time.ticks_add(time.ticks_ms(), ms)
        while True:
            wait = next(self._steps)
            if until is not None and until():
                return
            if time.ticks_diff(end, time.ticks_ms()) <= 0:
                return
            time.sleep_ms(min(wait, 2))

    def _is_drained(self):
        return not len(self.spool)


Life().run()
