"""The node: makes its parts from settings and identity, and keeps them running."""

import gc
import sys
import time

from micropython import const

import limpet
from limpet.clock import Clock
from limpet.log import log
from limpet.queue import Queue
from limpet.sampler import Sampler
from limpet.tasks import Task
from limpet.tasks import run as run_tasks
from limpet.uplink import Uplink
from limpet.wifi import Wifi

_QUEUE_SIZE = const(120)  # two minutes at one reading a second; 12 bytes each
_RETRY_MS = const(10000)


def run():
    """Start the node. It ends only by Ctrl-C on the serial port."""
    log("node", "limpet " + limpet.__version__)
    while True:
        try:
            run_tasks(_assemble())
        except Exception as e:
            # Not a reason to reset: whoever mends it needs the serial port.
            log("node", "cannot start: %s" % e)
        time.sleep_ms(_RETRY_MS)


def _assemble():
    """The tasks that make the node. Raises what makes it impossible."""
    config, node_id, context = _load()
    # Read once, at the start: the code that did it need not stay in the heap.
    for name in ("identity", "settings"):
        del sys.modules["limpet." + name]
        delattr(limpet, name)
    gc.collect()
    log("node", "I am '%s'" % node_id)
    clock = Clock()
    queue = Queue(_QUEUE_SIZE)
    sampler = Sampler(config.pop("sensors"), clock, queue)
    wifi = Wifi(config["wifi"])
    uplink = Uplink(config, node_id, context, clock, queue, wifi, sampler)
    return [Task("sampler", sampler), Task("wifi", wifi), Task("uplink", uplink)]


def _load():
    from limpet import identity, settings

    config = settings.load()
    who = identity.load()
    return config, who.node_id, who.context()
