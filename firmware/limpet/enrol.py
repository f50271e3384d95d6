"""How the node comes by a new identity: a key born here, the request for its certificate, the certificate.

All of it happens in the slot of the identity partition that does not count (docs/formats.md). Its header is
written last: until then, and wherever the power fails, the identity in the other slot stands. Whoever was cut
off begins again; what is done already stays. docs/identity.md tells an identity's whole life.

The private key is returned to nobody, printed nowhere, and in no exception's text. Where an order cannot be
followed there is an EnrolError, where flash fails an OSError.
"""

import gc
import hashlib
import struct
from binascii import crc32, unhexlify

import network
import uctypes
from micropython import const

from limpet import csr, identity, p256
from limpet.p256 import run

_WARM_MS = const(100)  # from the radio's start to the first random number
_BLOCK = const(4096)
_BLOCKS = const(2)  # of a slot
_PURPOSE = b"limpet endorsement\0"
_ENDORSEMENT = b"\x06\x40\x00"  # its tag and length
_ENDORSEMENT_SIZE = const(67)


class EnrolError(Exception):
    """An order that cannot be followed as things are; the text says why, and what to do."""


def request(node_id):
    """The request for a certificate, as `making` gives it; for the REPL, which can wait."""
    return run(making(node_id))


def making(node_id):
    """Generator: a request (CSR, DER) for the certificate of `node_id`, on a new key of its own.

    It yields milliseconds to wait, and returns the request. The key is in the spare slot before anything is
    given out; where one waits there already for this node id, it serves again. Raises EnrolError, or
    p256.FaultError if the chip is at fault.
    """
    if not identity.is_node_id(node_id.encode()):
        raise EnrolError("'%s' is no node id" % node_id)
    spare, current = _spare()
    radio = network.WLAN(network.WLAN.IF_STA)
    was_on = radio.active()
    try:
        if not was_on:
            # Without it the chip's random numbers are not random.
            radio.active(True)
            yield _WARM_MS
        held = spare.waiting()
        if held and held[0] == node_id and not (current and held[1] == current.key):
            key = held[1]
        else:
            d, q = yield from p256.key_pair()
            key = csr.private_key(d, q)
            yield from spare.begin(node_id, key)
        made = yield from csr.request(node_id, key)
    finally:
        radio.active(was_on)
    _wipe(key)
    gc.collect()
    return made


def copy():
    """As `copying`, at once."""
    run(copying())


def copying():
    """Generator: let the current key wait in the spare slot, for another certificate or other trusted CAs.

    It yields milliseconds to wait. Raises EnrolError.
    """
    spare, current = _spare()
    if current is None:
        raise EnrolError("there is no identity whose key could be kept: ask for a new key")
    try:
        csr.public_point(current.key)
    except ValueError as error:
        raise EnrolError("the key cannot be kept (%s): ask for a new one" % error)
    held = spare.waiting()
    if not held or held[:2] != (current.node_id, current.key):
        yield from spare.begin(current.node_id, current.key)


def put(offset, data):
    """Write a piece of the fields with certificates and trusted CAs, counted from the end of what waits.

    The same piece may come again; another one in its place drops all that stands behind it. Raises EnrolError
    if no key waits or there is no room.
    """
    spare, _ = _spare()
    start = _waiting(spare)[2] + offset
    if offset < 0 or start + len(data) > identity.ROOM:
        raise EnrolError("%d bytes at %d are beyond the slot" % (len(data), offset))
    if not spare.write(identity.HEADER_SIZE + start, data):
        payload = spare.read(identity.HEADER_SIZE, start) + data
        run(spare.replace(payload))
        _wipe(payload)


def commit(length, crc):
    """As `committing`, at once and without an endorsement: for the REPL, as who is there has the board."""
    return run(committing(length, crc, False))


def committing(length, crc, endorsed=True):
    """Generator: make an identity of what was put, `length` bytes with this CRC-32.

    It yields milliseconds to wait, and returns the fingerprint of the certificate. If there was an identity
    before, the new one is on trial from now on. The same order may come again. Raises EnrolError if no key
    waits, something else was put, it makes no identity, or the authority of the present one does not endorse
    it.
    """
    done = _committed(length, crc)
    if done:
        return done
    spare, current = _spare()
    _, key, start = _waiting(spare)
    if length < 0 or start + length > identity.ROOM:
        raise EnrolError("%d bytes are more than a slot has" % length)
    payload = spare.read(identity.HEADER_SIZE, start + length)
    if crc32(memoryview(payload)[start:]) != crc:
        raise EnrolError("what was put has another CRC: put all again, from 0")
    if endorsed:
        yield from _check_endorsement(current, spare.sequence, memoryview(payload)[start:])
    header = identity.header(spare.sequence, payload)
    try:
        found = identity.decode(header, payload)
        if csr.public_point(key) not in found.chain[0]:
            raise EnrolError("the certificate is for another key than the one that waits")
        found.context()
    except identity.IdentityError as error:
        raise EnrolError("what was put makes no identity: %s" % error)
    if not spare.write(0, header):  # beside what is left of another one
        run(spare.replace(payload))
        spare.write(0, header)
    _wipe(payload)
    return found.fingerprint


def settle(keep_new):
    """End a trial: erase the older identity, or the newer one if it has not proved itself.

    Where there is one identity alone, whatever is left of another is erased. Raises EnrolError where there
    is none.
    """
    partition = identity.find()
    held = identity.slots(partition)
    valid = identity.newest_first(held)
    if not valid:
        raise EnrolError("there is no identity that could be kept")
    if len(valid) == 2:
        loser = valid[1 if keep_new else 0].slot
    else:
        loser = 1 - valid[0].slot
        if held[loser] in (identity.BLANK, identity.PENDING):
            return
    for _ in _Slot(partition, loser, 0).erase():
        pass


def sequence():
    """The sequence of the identity that a waiting key is for. Raises EnrolError during a trial."""
    return _spare()[0].sequence


def _check_endorsement(current, sequence, fields):
    """Generator: see that the authority of the identity `current` has signed the fields that were put.

    Else who owns a broker could lead the node to an authority of their own. Raises EnrolError.
    """
    end = len(fields) - _ENDORSEMENT_SIZE
    if current is None or end < 0 or fields[end : end + len(_ENDORSEMENT)] != _ENDORSEMENT:
        raise EnrolError("what was put does not end with an endorsement by the authority of this node")
    signed = hashlib.sha256(_PURPOSE + unhexlify(current.fingerprint) + struct.pack("<I", sequence))
    signed.update(current.node_id.encode())
    signed.update(fields[:end])
    middle = len(fields) - p256.SIZE
    r, s = (int.from_bytes(bytes(fields[at : at + p256.SIZE]), "big") for at in (middle - p256.SIZE, middle))
    try:
        # Its issuer is the next one in its chain, or where that ends with it the first of its trusted CAs.
        issuer = csr.certified_point((current.chain + current.cas)[1])
    except ValueError as error:
        raise EnrolError("the authority of this node cannot endorse anything: %s" % error)
    good = yield from p256.verify(issuer, signed.digest(), r, s)
    if not good:
        raise EnrolError("what was put is not endorsed by the authority of this node, for what it has now")


class _Slot:
    """A slot to be written: its number, and the sequence that the identity in it will have."""

    def __init__(self, partition, number, sequence):
        self.sequence = sequence
        self._partition = partition
        self._number = number
        self._block = number * _BLOCKS

    def waiting(self):
        """(node id, key, size of what holds them) that wait for a certificate, or None."""
        return identity.waiting(self._partition, self._number, self.sequence)

    def read(self, offset, length):
        return identity.read_slot(self._partition, self._number, offset, length)

    def write(self, offset, data):
        """Program what is not there yet. False, with nothing done, if that takes an erase."""
        there = self.read(offset, len(data))
        if any(byte & ~there[i] for i, byte in enumerate(data)):
            return False
        if there != data:
            self._partition.writeblocks(self._block, data, offset)
        if self.read(offset, len(data)) != data:
            raise OSError("the flash does not keep what is written to it")
        return True

    def begin(self, node_id, key):
        """Generator: have a key wait here, and nothing else."""
        fields = identity.begun(self.sequence, node_id, key)
        yield from self.replace(fields)
        _wipe(fields)

    def replace(self, payload):
        """Generator: erase the slot, and have this payload in it."""
        yield from self.erase()
        self.write(identity.HEADER_SIZE, payload)

    def erase(self):
        """Generator, as each block takes up to 50 ms: erase the slot, header and key first."""
        for block in range(_BLOCKS):
            # What an erase that was cut off has left can look blank and not be: no look at the first block.
            if block == 0 or self.read(block * _BLOCK, _BLOCK).count(b"\xff") != _BLOCK:
                self._partition.ioctl(6, self._block + block)
            yield 0


def _spare():
    """The slot for the next identity, and the present one or None. Raises EnrolError during a trial."""
    partition = identity.find()
    held = identity.slots(partition)
    valid = identity.newest_first(held)
    if len(valid) == 2:
        raise EnrolError("an identity is on trial: settle that first")
    current = valid[0] if valid else None
    return _Slot(partition, 1 - current.slot if current else 0, identity.next_sequence(held)), current


def _committed(length, crc):
    """The fingerprint of the newest identity if it was made of this, or None."""
    partition = identity.find()
    valid = identity.newest_first(identity.slots(partition))
    if not valid:
        return None
    slot = _Slot(partition, valid[0].slot, valid[0].sequence)
    held = slot.waiting()
    if held is None or identity.payload_length(slot.read(0, identity.HEADER_SIZE)) != held[2] + length:
        return None
    same = crc32(slot.read(identity.HEADER_SIZE + held[2], length)) == crc
    return valid[0].fingerprint if same else None


def _waiting(slot):
    held = slot.waiting()
    if held is None:
        raise EnrolError("no key waits for a certificate: ask for one first")
    return held


def _wipe(data):
    """Overwrite bytes that nobody will look at any more. Numbers cannot be: the heap is their only end."""
    view = uctypes.bytearray_at(uctypes.addressof(data), len(data))
    for i in range(len(view)):
        view[i] = 0
