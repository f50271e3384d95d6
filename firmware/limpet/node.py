"""The node: makes its parts from settings and identity, and keeps them running."""

import machine
from esp32 import Partition
from micropython import const

import limpet
from limpet.answerback import Answerback
from limpet.clock import Clock
from limpet.commands import Commands
from limpet.events import Events
from limpet.forget import forget
from limpet.log import log
from limpet.sampler import Sampler
from limpet.spool import Spool, SpoolError
from limpet.tasks import Task
from limpet.tasks import run as run_tasks
from limpet.uplink import Uplink
from limpet.wifi import Wifi

_RAM_SECTORS = const(3)
_RETRY_MS = const(10000)


def run(locked=False):
    """Start the node. It ends only by Ctrl-C on the serial port, unless that is `locked`."""
    log("node", "limpet " + limpet.__version__)
    answerback = Answerback(locked)
    while True:
        try:
            spool, tasks = _assemble(answerback)
            try:
                run_tasks(tasks)
            finally:
                spool.flush()  # Ctrl-C: somebody wants the board, and may reset it
        except Exception as e:
            # Not a reason to reset: whoever mends it needs the serial port.
            log("node", "cannot start: %s" % e)
        answerback.wait(_RETRY_MS)


def _assemble(answerback):
    """The spool, and the tasks that make the node. Raises what makes it impossible."""
    events = Events()
    config, node_id, certificate, context = _load(events)
    log("node", "I am '%s'" % node_id)
    answerback.node_id = node_id
    spool = _open_spool(node_id, events)
    forget(("identity", "settings", "recovery"))  # needed once, at the start
    wifi = Wifi(config["wifi"])
    clock = Clock(config["ntp"], wifi, spool.proof)
    sampler = Sampler(config.pop("sensors"), clock, spool)
    batch = config.get("spool") or {"readings": 1, "ms": 0}
    cause = machine.reset_cause()
    spool.start(sampler.channels, clock.offset_ms, clock.trust, batch["readings"], batch["ms"], cause)
    spool.slack = sampler.slack
    clock.on_mark = spool.mark
    clock.tell = events.tell
    uplink = Uplink(config, node_id, context, clock, spool, wifi, sampler, events, certificate)
    uplink.renewed = context is None
    parts = (
        ("sampler", sampler),
        ("spool", spool),
        ("wifi", wifi),
        ("clock", clock),
        ("uplink", uplink),
        ("commands", Commands(uplink, node_id)),
        ("answerback", answerback),
    )
    return spool, [Task(name, part) for name, part in parts]


def _load(events):
    """Settings, node id, fingerprint of the certificate, and SSLContext: None if an identity is on trial."""
    from limpet import identity, settings

    config = settings.load()
    who = identity.load()
    if who.damage:
        events.tell("identity", "%s; the other slot counts" % who.damage)
    return config, who.node_id, who.fingerprint, None if who.trial else who.context()


def _open_spool(node_id, events):
    """The spool in its partition; in RAM when there is none that can be used, for sampling must go on."""
    try:
        found = Partition.find(Partition.TYPE_DATA, label="spool")
        if not found:
            raise SpoolError("the partition table has no 'spool'")
        spool = Spool(found[0], node_id)
    except (SpoolError, OSError) as e:
        from limpet.ram import RamFlash

        events.tell("spool", "%s; readings are kept in RAM, and a reset loses them" % e)
        spool = Spool(RamFlash(_RAM_SECTORS), node_id)
    if spool.fault:
        events.tell("spool", spool.fault)
    return spool
