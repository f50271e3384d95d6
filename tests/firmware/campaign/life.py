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
import ssl
import sys
import time

with open(sys.argv[1]) as f:
    JOB = json.load(f)
sys.path[:] = [JOB["board"], ".frozen"]

import esp32  # noqa: E402
from _flash import Flash  # noqa: E402

sys.path[:] = JOB["search"] + [".frozen"]  # the board's sockets and time are not for us


class Machine:
    @staticmethod
    def reset_cause():
        return 1


sys.modules["machine"] = Machine

from limpet.events import Events  # noqa: E402
from limpet.spool import Spool  # noqa: E402
from limpet.uplink import Uplink  # noqa: E402

HOLDOVER, SYNCED = 1, 2
CHANNELS = [
    ("bme280/temperature", "Cel", 2, -4000, 8500, 1000),
    ("probe/temperature", "Cel", 4, -55, 125, 1000),
]
PERIOD_MS = 1003
DRAIN_MS = 60000


class Clock:
    """Uptime that jumps on with each reading, and an offset that the script sets."""

    drift = 0

    def __init__(self, booted_ms):
        self._booted_ms = booted_ms
        self._start = time.ticks_ms()
        self._skipped = 0
        self.offset_ms = 0
        self.trust = 0
        self.on_mark = None
        self.now()

    def now(self):
        self.s, self.ms = divmod(self.uptime_ms(), 1000)

    def uptime_ms(self):
        return self._skipped + time.ticks_diff(time.ticks_ms(), self._start)

    def unix_ms(self, uptime_ms):
        return self.offset_ms + uptime_ms

    def is_synced(self):
        return self.trust == SYNCED

    def trust_text(self):
        return ("unknown", "holdover", "synced")[self.trust]

    def skip(self, ms):
        self._skipped += ms
        self.now()

    def sync(self):
        self.offset_ms, self.trust = self._booted_ms, SYNCED
        self.on_mark(self.offset_ms, self.trust)


class Wifi:
    joins = 1

    def is_up(self):
        return True

    def rssi(self):
        return -60

    def dns(self):
        return "127.0.0.1"


class Sampler:
    channels = CHANNELS
    sensors = ()
    missed = 0

    def lateness(self):
        return 0


class Life:
    def __init__(self):
        esp32.flash = self.flash = Flash(JOB["flash"])
        if JOB["cut"]:
            operation, how, seed = JOB["cut"]
            # Nothing of this process goes on: no handler, no `finally`, no farewell to the broker.
            self.flash.cut_power(operation, how, seed, die=lambda: os.system("kill -9 $PPID"))
        self.spool = Spool(esp32.Partition("spool"), JOB["node"])
        self.clock = Clock(JOB["booted_ms"])
        self.spool.start(CHANNELS)
        self.clock.on_mark = self.spool.mark
        self.spool.slack = lambda: JOB["slack_ms"]
        self._chores = self.spool.run()
        settings = {
            "prefix": "limpet",
            "board": "virtual",
            "keepalive": 30,
            "batch_ms": 5,
            "retry_ms": 20,
            "brokers": [{"host": "127.0.0.1", "port": JOB["port"], "name": JOB["name"]}],
        }
        context = _context(JOB["identity"])
        events = Events()
        self.uplink = Uplink(
            settings, JOB["node"], context, self.clock, self.spool, Wifi(), Sampler(), events
        )
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
                self.clock.sync()
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


def _context(folder):
    def read(name):
        with open("%s/%s.der" % (folder, name), "rb") as f:
            return f.read()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(read("chain"), read("key"))
    context.load_verify_locations(cadata=read("trusted"))
    return context


Life().run()
