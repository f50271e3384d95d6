"""What day.py and life.py share: the job, the board's flash, and stand-ins for sensors, radio and chip.

It is imported before anything of the firmware's: then `sys.path` is theirs.
"""

import json
import ssl
import sys

with open(sys.argv[1]) as f:
    JOB = json.load(f)
sys.path[:] = [JOB["board"], ".frozen"]

import esp32  # noqa: E402
from _flash import Flash  # noqa: E402

sys.path[:] = JOB["search"] + [".frozen"]  # the board's sockets and time are not for us

HOLDOVER, SYNCED = 1, 2


class Machine:
    @staticmethod
    def reset_cause():
        return 1


sys.modules["machine"] = Machine


class Clock:
    """An offset to the uptime that the script sets, once and again."""

    drift = 0
    offset_ms = 0
    trust = 0
    on_mark = None

    def unix_ms(self, uptime_ms):
        return self.offset_ms + uptime_ms

    def is_synced(self):
        return self.trust == SYNCED

    def trust_text(self):
        return ("unknown", "holdover", "synced")[self.trust]

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
    sensors = ()
    missed = 0

    def __init__(self, channels):
        self.channels = channels

    def lateness(self):
        return 0


def power_on():
    """The flash of the job, as the board's."""
    esp32.flash = Flash(JOB["flash"])
    return esp32.flash


def spool_partition():
    return esp32.Partition("spool")


def settings(**more):
    """As the node reads them, for the broker of the job."""
    broker = {"host": "127.0.0.1", "port": JOB["port"], "name": JOB["name"]}
    return dict({"prefix": "limpet", "board": "virtual", "brokers": [broker]}, **more)


def context():
    """TLS with the identity of the job."""

    def read(name):
        with open("%s/%s.der" % (JOB["identity"], name), "rb") as f:
            return f.read()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(read("chain"), read("key"))
    context.load_verify_locations(cadata=read("trusted"))
    return context
