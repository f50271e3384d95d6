"""Who this node is: id, key, certificate and trusted CAs, read from a raw flash partition of their own.

The layout is in docs/formats.md. A partition has two slots; the newer one that is whole counts.
"""

import binascii
import hashlib
import struct

import tls
from micropython import const

_LABEL = const("identity")
SLOT_SIZE = const(0x2000)

_BLOCK = const(4096)
_VERSION = const(1)
# magic, version, three zero bytes, sequence, length of the payload, CRC-32
_HEADER = const("<4sB3xIII")
HEADER_SIZE = const(20)
ROOM = const(0x1FEC)  # for the payload
_TLV = const("<BH")
_TLV_SIZE = const(3)
_NODE_ID = const(1)
_KEY = const(2)
_CERTIFICATE = const(3)
_TRUSTED_CA = const(4)
_CHECK = const(5)
_COMMON_NAME = const(b"\x06\x03\x55\x04\x03")  # in DER; a UTF8String or a PrintableString follows
_MOST_BEGUN = const(256)  # bytes: the longest node id, a private key on P-256, a check
BLANK = "blank"
PENDING = "pending"


class IdentityError(Exception):
    """The node cannot say who it is; the text says why."""


class Identity:
    """What one slot holds. The key stays until `context` has handed it to the TLS library, no longer."""

    def __init__(self, node_id, key, chain, cas):
        self.node_id = node_id  # str
        self.key = key  # bytes, DER
        self.chain = chain  # list of bytes, DER: the node's certificate first
        self.cas = cas  # list of bytes, DER
        self.fingerprint = fingerprint(chain[0])
        self.slot = self.sequence = 0  # where it was found
        self.trial = False  # there is an older identity too, until this one has proved itself
        self.pending = False  # the other slot holds a key that waits for its certificate
        self.damage = None  # str: what is wrong with the other slot
        self._context = None

    def context(self):
        """The SSLContext for connections to a broker: both sides verified. Made on the first call, then kept.

        Raises IdentityError if the TLS library does not take the key or a certificate, or if the certificate
        is another node's: a broker would let us in as that one, confirm our readings, and drop them.
        """
        if self._context is None:
            context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
            context.verify_mode = tls.CERT_REQUIRED  # type: ignore[attr-defined]  # the stubs lack it
            try:
                # One call takes one DER certificate; further calls append to the same chain or set.
                for certificate in self.chain:
                    context.load_cert_chain(certificate, self.key)
                for ca in self.cas:
                    context.load_verify_locations(ca)
            except ValueError as error:
                raise IdentityError("identity of %s is unusable: %s" % (self.node_id, error))
            if not self._has_its_name():
                raise IdentityError("the certificate of %s is another node's" % self.node_id)
            self._context = context
            self.key = self.chain = self.cas = None
        return self._context

    def _has_its_name(self):
        name = chr(len(self.node_id)).encode() + self.node_id.encode()
        certificate = self.chain[0]
        return _COMMON_NAME + b"\x0c" + name in certificate or _COMMON_NAME + b"\x13" + name in certificate


def find():
    """The partition labelled `identity`. Raises IdentityError if there is none."""
    from esp32 import Partition

    found = Partition.find(Partition.TYPE_DATA, label=_LABEL)
    if not found:
        raise IdentityError("no partition labelled " + _LABEL)
    return found[0]


def load(older=False):
    """Read the identity that counts; `older`: the other one, while the newer is on trial.

    Raises IdentityError if there is no partition `identity` or nothing usable in it, OSError if flash fails.
    """
    return read(find(), older)


def read(partition, older=False):
    """Read the identity from an `esp32.Partition`, or anything with its `readblocks`; else as `load`."""
    held = slots(partition)
    valid = newest_first(held)
    if not valid:
        if held[0] == held[1] == BLANK:
            raise IdentityError("identity partition is blank")
        if set(held) <= {BLANK, PENDING}:
            raise IdentityError("identity partition holds a key that waits for its certificate")
        raise IdentityError("identity partition is unusable (slot 0: %s; slot 1: %s)" % tuple(held))
    if older and len(valid) == 1:
        raise IdentityError("there is no older identity")
    who = valid[1] if older else valid[0]
    who.trial = len(valid) == 2
    other = held[1 - who.slot]
    who.pending = other == PENDING
    if other not in (BLANK, PENDING) and not who.trial:
        who.damage = "slot %d: %s" % (1 - who.slot, other)
    return who


def slots(partition):
    """What each of the two slots holds: an Identity; or, as text, `BLANK`, `PENDING`, or what is wrong."""
    held = [_slot(partition, slot) for slot in (0, 1)]
    sequence = next_sequence(held)
    for slot in (0, 1):
        if held[slot] == BLANK and waiting(partition, slot, sequence):
            held[slot] = PENDING
    return held


def newest_first(held):
    """The identities of what `slots` gave.

    Sequences are compared as serial numbers modulo 2^32 (RFC 1982); of equal ones slot 0 comes first.
    """
    valid = [each for each in held if isinstance(each, Identity)]
    if len(valid) == 2 and 0 < (valid[1].sequence - valid[0].sequence & 0xFFFFFFFF) < 0x80000000:
        valid.reverse()
    return valid


def next_sequence(held):
    """The sequence of the identity that comes after what `slots` gave."""
    valid = newest_first(held)
    return valid[0].sequence + 1 & 0xFFFFFFFF if valid else 1


def waiting(partition, slot, sequence):
    """(node id, private key, size of their fields) that a slot begins with, or None if it was not begun here.

    `sequence` is that of the identity for which it was begun. Whether it has become one the header says.
    """
    data = read_slot(partition, slot, HEADER_SIZE, _MOST_BEGUN)
    values = []
    at = 0
    for expected in (_NODE_ID, _KEY, _CHECK):
        start = at
        if start + _TLV_SIZE > len(data):
            return None
        tag, length = struct.unpack_from(_TLV, data, start)
        at += _TLV_SIZE + length
        if tag != expected:
            return None
        values.append(bytes(memoryview(data)[at - length : at]))
    is_whole = values[2] == _check(sequence, memoryview(data)[:start])
    data[:] = bytes(len(data))  # no more copies of a key than need be
    return (values[0].decode(), values[1], at) if is_whole else None


def begun(sequence, node_id, key):
    """The fields that `waiting` finds again."""
    name = node_id.encode()
    fields = struct.pack(_TLV, _NODE_ID, len(name)) + name + struct.pack(_TLV, _KEY, len(key)) + key
    check = _check(sequence, fields)
    return fields + struct.pack(_TLV, _CHECK, len(check)) + check


def header(sequence, payload):
    """The header that makes a payload an identity."""
    covered = struct.pack(_HEADER, b"LPID", _VERSION, sequence, len(payload), 0)[:16]
    return covered + struct.pack("<I", binascii.crc32(payload, binascii.crc32(memoryview(covered)[4:])))


def fingerprint(certificate):
    """SHA-256 of a certificate in DER, as hex digits."""
    return binascii.hexlify(hashlib.sha256(certificate).digest()).decode()


def _check(sequence, fields):
    return struct.pack("<I", binascii.crc32(fields, binascii.crc32(struct.pack("<I", sequence))))


def _slot(partition, slot):
    header = read_slot(partition, slot, 0, HEADER_SIZE)
    try:
        length = payload_length(header)
        found = decode(header, read_slot(partition, slot, HEADER_SIZE, length))
    except IdentityError as error:
        return str(error)
    found.slot = slot
    found.sequence = struct.unpack(_HEADER, header)[2]
    return found


def payload_length(header):
    """The length of the payload behind a slot's header.

    Raises IdentityError, with a few words, if the header is not ours.
    """
    magic, version, _, length, _ = struct.unpack(_HEADER, header)
    if header == b"\xff" * HEADER_SIZE:
        raise IdentityError(BLANK)
    if magic != b"LPID":
        raise IdentityError("bad magic")
    if version != _VERSION:
        raise IdentityError("unknown version %d" % version)
    if length > ROOM:
        raise IdentityError("length beyond the slot")
    return length


def decode(header, payload):
    """The Identity in a slot, from its header and payload.

    Raises IdentityError, with a few words, if they are damaged or something is missing.
    """
    crc = binascii.crc32(payload, binascii.crc32(memoryview(header)[4:16]))
    if crc != struct.unpack(_HEADER, header)[4]:
        raise IdentityError("CRC mismatch")
    values = {_NODE_ID: [], _KEY: [], _CERTIFICATE: [], _TRUSTED_CA: []}  # type: dict[int, list[bytes]]
    view = memoryview(payload)
    at = 0
    while at < len(payload):
        if at + _TLV_SIZE > len(payload):
            raise IdentityError("truncated TLV")
        tag, length = struct.unpack_from(_TLV, payload, at)
        at += _TLV_SIZE
        if at + length > len(payload):
            raise IdentityError("truncated TLV")
        if tag in values:
            # The TLS library takes bytes alone, no view.
            values[tag].append(bytes(view[at : at + length]))
        at += length
    node_id = _one(values, _NODE_ID, "node id")
    key = _one(values, _KEY, "private key")
    if not values[_CERTIFICATE]:
        raise IdentityError("no certificate")
    if not values[_TRUSTED_CA]:
        raise IdentityError("no trusted CA")
    if not is_node_id(node_id):
        raise IdentityError("bad node id")
    return Identity(node_id.decode(), key, values[_CERTIFICATE], values[_TRUSTED_CA])


def _one(values, tag, what):
    if len(values[tag]) > 1:
        raise IdentityError("more than one " + what)
    if not values[tag]:
        raise IdentityError("no " + what)
    return values[tag][0]


def is_node_id(value):
    if not 0 < len(value) <= 32 or value[:1] == b"-":
        return False
    return all(48 <= c <= 57 or 65 <= c <= 90 or 97 <= c <= 122 or c == 45 for c in value)


def read_slot(partition, slot, offset, length):
    buffer = bytearray(length)
    partition.readblocks(slot * (SLOT_SIZE // _BLOCK), buffer, offset)
    return buffer
