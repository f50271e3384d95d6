"""A day of 1 Hz readings in seconds: the firmware's spool and uplink, in a time that waits for no one.

Runs inside MicroPython, with a real broker; fake are sensors, radio and clock. In the middle of the day the
broker is gone for longer than the spool holds. Argument: a file of JSON. It prints `outage` and `back`, each
time waits for a line (meanwhile the test stops and starts the broker), and `e {…}` at the end.
The ticks wrap after 2^30 ms as on a chip, and they do so during the day.
"""

import json
import sys
import time

import stand_ins
from stand_ins import JOB

_PERIOD = 1 << 30
WRAPS_AT_MS = 5 * 3600 * 1000
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


sleep_ms = time.sleep_ms
sys.modules["time"] = simulated = Simulated()

from limpet.events import Events  # noqa: E402
from limpet.mqtt import CLOSED, UP  # noqa: E402
from limpet.spool import Spool  # noqa: E402
from limpet.uplink import Uplink  # noqa: E402


class Clock(stand_ins.Clock):
    """Uptime without a wrap, which the script sets."""

    s = ms = 0

    def now(self):
        pass

    def uptime_ms(self):
        return self.s * 1000 + self.ms


class Task:
    def __init__(self, steps):
        self.steps = steps
        self.due = simulated.ticks

    def turn(self):
        if simulated.ticks_diff(self.due, simulated.ticks) <= 0:
            self.due = simulated.ticks_add(simulated.ticks, next(self.steps))


def main():
    flash = stand_ins.power_on()
    spool = Spool(stand_ins.spool_partition(), JOB["node"])
    clock = Clock()
    spool.start(CHANNELS)
    spool.slack = lambda: 900
    clock.on_mark = spool.mark
    settings = stand_ins.settings(
        keepalive=300,  # longer than from pack to pack: in this time an answer to a ping would be late
        batch_ms=60000,
        health_s=600,
    )
    parts = stand_ins.Wifi(), stand_ins.Sampler(CHANNELS), Events()
    uplink = Uplink(settings, JOB["node"], stand_ins.context(), clock, spool, *parts)
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
        "erases": flash.erases,
        "programmed": flash.bytes_programmed,
    }
    print("e " + json.dumps(end))


def ask(word):
    print(word)
    sys.stdin.readline()


main()
