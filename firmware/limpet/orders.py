"""Orders for the node's identity: a new key, its certificate in pieces, to take it in use (docs/wire.md).

What takes long is done in steps, between which the readings go on. Loaded by limpet.commands, when needed.
"""

import gc
import json
import time
from binascii import b2a_base64

from micropython import const

from limpet import enrol, identity
from limpet.log import log

_MOST_MS = const(180000)  # for one order
_HEX = const(b"0123456789abcdefABCDEF")


class OrderError(Exception):
    """An order that is none; the text is one sentence."""


def follow(payload, node_id, uplink):
    """Generator: the answer to one of these orders, as text; it yields milliseconds to wait.

    One that is malformed, or cannot be followed, is answered with an error. With a new identity it sets
    `renewed` of the uplink.
    """
    name, _, rest = payload.partition(b" ")
    steps = {b"key": _key, b"put": _put, b"use": _use, b"identity": _identity}[name](rest, node_id, uplink)
    began = time.ticks_ms()
    try:
        while True:
            yield next(steps)
            if time.ticks_diff(time.ticks_ms(), began) > _MOST_MS:
                raise OrderError("it took too long")
    except StopIteration as end:
        return json.dumps(end.value)
    except Exception as e:
        text = str(e) or type(e).__name__
        log("orders", "%s: %s" % (name.decode(), text))
        return json.dumps({"error": text})
    finally:
        steps.close()
        gc.collect()


def _key(rest, node_id, uplink):
    if rest == b"same":
        yield from enrol.copying()
        return {"ok": True, "sequence": enrol.sequence()}
    if rest:
        raise OrderError("expected 'key' or 'key same'")
    made = yield from enrol.making(node_id)
    return {"csr": b2a_base64(made).decode().strip(), "sequence": enrol.sequence()}


def _put(rest, node_id, uplink):
    offset, _, data = rest.partition(b" ")
    if not _is_number(offset) or not data:
        raise OrderError("expected 'put OFFSET BYTES'")
    enrol.put(int(offset), data)
    yield 0
    return {"at": int(offset) + len(data)}


def _use(rest, node_id, uplink):
    length, _, crc = rest.partition(b" ")
    if not _is_number(length) or len(crc) != 8 or not all(each in _HEX for each in crc):
        raise OrderError("expected 'use LENGTH CRC', the CRC with 8 hex digits")
    made = yield from enrol.committing(int(length), int(crc, 16))
    uplink.renewed = identity.load().trial
    return {"ok": True, "fingerprint": made}


def _identity(rest, node_id, uplink):
    if rest:
        raise OrderError("expected 'identity' alone")
    who = identity.load()
    yield 0
    return {"fingerprint": who.fingerprint, "trial": who.trial, "pending": who.pending}


def _is_number(text):
    return 0 < len(text) <= 5 and text.isdigit()
