"""The node: makes its parts from settings and identity, and keeps them running."""

import asyncio
import gc
import sys
import time

from micropython import const

from limpet import __version__, identity, settings
from limpet.clock import Clock
from limpet.log import log
from limpet.queue import Queue
from limpet.sampler import Sampler
from limpet.uplink import Uplink
from limpet.wifi import Wifi

_QUEUE_SIZE = const(256)
_RETRY_MS = const(10000)


def run():
    """Start the node. It ends only by Ctrl-C on the serial port."""
    log("node", "limpet " + __version__)
    while True:
        try:
            asyncio.run(_serve(settings.load(), identity.load()))
        except (settings.SettingsError, identity.IdentityError) as e:
            # Not a reason to reset: whoever mends it needs the serial port.
            log("node", "cannot start: %s" % e)
        time.sleep_ms(_RETRY_MS)


async def _serve(config, who):
    log("node", "I am '%s'" % who.node_id)
    clock = Clock()
    queue = Queue(_QUEUE_SIZE)
    sampler = Sampler(config["sensors"], clock, queue)
    wifi = Wifi(config["wifi"])
    uplink = Uplink(config, who, clock, queue, wifi, sampler)
    gc.collect()
    await asyncio.gather(_keep("sampler", sampler), _keep("wifi", wifi), _keep("uplink", uplink))


async def _keep(name, part):
    """Run a part again whenever it fails: one part's fault must not stop the others."""
    while True:
        try:
            await part.run()
        except Exception as e:
            log(name, "failed, starts again")
            sys.print_exception(e)
            gc.collect()
        await asyncio.sleep_ms(1000)
