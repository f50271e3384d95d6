"""A day of 1 Hz readings in seconds: the firmware's spool and uplink, in a time that waits for no one.

Runs inside MicroPython, with a real broker; fake are sensors, radio and clock. In the middle of the day the
broker is gone for longer than the spool holds. Argument: a file of JSON. It prints `outage` and `back`, each
time waits for a line (meanwhile the test stops and starts the broker), and `e {…}` at the end.
The ticks wrap after 2^30 ms as on a chip, and they do so during the day.
"""

import json
import ssl
import sys
import time

with open(sys.argv[1]) as f:
    JOB = json.load(f)
sys.path[:] = [JOB["board"], ".frozen"]

import esp32  # noqa: E402
from _flash import Flash  # noqa: E402

sys.path[:] = JOB["search"] + [".frozen"]  # the board's sockets and time are not for us

_PERIOD = 1 << 30
WRAPS_AT_MS = 5 * 3600 * 1000
SYNCED = 2
PACK = 45  # readings; somewhat more than go into one pack
CHANNELS = [("bme280/temperature", "Cel", 2, -4000, 8500, 1000)]


class Simulated:
    """In place of the module `time`."""

    ticks = _PERIOD - WRAPS_AT_MS
    sleep_ms = time.sleep_ms
    gmtime = time.gmtime
    time = time.time

    def ticks_ms(self):
        return self.ticks

    def ticks_add(self, ticks, delta):
        return (ticks + delta) % _PERIOD

    def ticks_diff(self, end, start):
        return (end - start + _PERIOD // 2) % _PERIOD - _PERIOD // 2

    def pass_by(self, ms):
        self.ticks = (self.ticks + ms) % _PERIOD


class Machine:
    @staticmethod
    def reset_cause():
        return 1


sleep_ms = time.sleep_ms
sys.modules["time"] = simulated = Simulated()
sys.modules["machine"] = Machine

from limpet.events import Events  # noqa: E402
from limpet.mqtt import CLOSED, UP  # noqa: E402
from limpet.spool import Spool  # noqa: E402
from limpet.uplink import Uplink  # noqa: E402


class Clock:
    """Uptime without a wrap, and an offset that the script sets."""

    drift = 0
    s = ms = 0
    offset_ms = 0
    trust = 0
    on_mark = None

    def now(self):
        pass

    def uptime_ms(self):
        return self.s * 1000 + self.ms

    def unix_ms(self, uptime_ms):
        return self.offset_ms + uptime_ms

    def is_synced(self):
        return self.trust == SYNCED

    def trust_text(self):
        return "synced" if self.trust else "unknown"

    def sync(self, offset_ms):
        self.offset_ms, self.trust = offset_ms, SYNCED
        self.on_mark(offset_ms, SYNCED)


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


class Task:
    def __init__(self, steps):
        self.steps = steps
        self.due = simulated.ticks

    def turn(self):
        if simulated.ticks_diff(self.due, simulated.ticks) <= 0:
            self.due = simulated.ticks_add(simulated.ticks, next(self.steps))


def main():
    esp32.flash = Flash(JOB["flash"])
    spool = Spool(esp32.Partition("spool"), JOB["node"])
    clock = Clock()
    spool.start(CHANNELS)
    spool.slack = lambda: 900
    clock.on_mark = spool.mark
    settings = {
        "prefix": "limpet",
        "board": "virtual",
        "keepalive": 300,  # longer than from pack to pack: in this time an answer to a ping would be late
        "batch_ms": 60000,
        "health_s": 600,
        "brokers": [{"host": "127.0.0.1", "port": JOB["port"], "name": JOB["name"]}],
    }
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(read("chain"), read("key"))
    context.load_verify_locations(cadata=read("trusted"))
    uplink = Uplink(settings, JOB["node"], context, clock, spool, Wifi(), Sampler(), Events())
    delivery = uplink.run()
    tasks = Task(spool.run()), Task(delivery)

    def settle(most):
        """The network is quick: what is sent is acknowledged before time goes on, if there is a session."""
        while uplink.session.state not in (CLOSED, UP):
            next(delivery)
            sleep_ms(1)
        while len(spool) > most and uplink.session.state == UP:
            if not most:
                simulated.pass_by(20)  # so that the last batch is due
            next(delivery)
            sleep_ms(1)

    for second in range(JOB["seconds"]):
        simulated.pass_by(1000)
        clock.s, clock.ms = second, second % 7
        if second == JOB["outage_from"]:
            settle(0)
            ask("outage")
        elif second == JOB["outage_to"]:
            ask("back")
        spool.append(second, second % 7, 0, 0, second * 31 % 20011 - 9000)
        if second % 3600 == 5:  # the time is known after 5 seconds, and corrected every hour
            clock.sync(JOB["booted_ms"] + second // 3600 * JOB["correction_ms"])
        for task in tasks:
            task.turn()
        settle(PACK)
    settle(0)
    end = {
        "lost": spool.lost,
        "damaged": spool.damaged,
        "errors": spool.errors,
        "pending": len(spool),
        "capacity": spool.capacity,
        "connects": uplink.connects,
        "erases": esp32.flash.erases,
        "programmed": esp32.flash.bytes_programmed,
    }
    print("e " + json.dumps(end))


def ask(word):
    print(word)
    sys.stdin.readline()


def read(name):
    with open("%s/%s.der" % (JOB["identity"], name), "rb") as f:
        return f.read()


main()
