"""Who this node is: id, key, certificate and trusted CAs, read from a raw flash partition of their own.

The layout is in docs/formats.md. A partition has two slots; the newer one that is whole counts.
"""

import binascii
import struct

import tls
from micropython import const

_LABEL = const("identity")
_SLOT_SIZE = const(0x2000)

_BLOCK = const(4096)
_VERSION = const(1)
# magic, version, three zero bytes, sequence, length of the payload, CRC-32
_HEADER = const("<4sB3xIII")
_HEADER_SIZE = const(20)
_TLV = const("<BH")
_TLV_SIZE = const(3)
_NODE_ID = const(1)
_KEY = const(2)
_CERTIFICATE = const(3)
_TRUSTED_CA = const(4)


class IdentityError(Exception):
    """The node cannot say who it is; the text says why."""


class Identity:
    """What one slot holds. The key stays until `context` has handed it to the TLS library, no longer."""

    def __init__(self, node_id, key, chain, cas):
        self.node_id = node_id  # str
        self.key = key  # bytes, DER
        self.chain = chain  # list of bytes, DER: the node's certificate first
        self.cas = cas  # list of bytes, DER
        self._context = None

    def context(self):
        """The SSLContext for connections to a broker: both sides verified. Made on the first call, then kept.

        Raises IdentityError if the TLS library does not take the key or a certificate.
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
            self._context = context
            self.key = self.chain = self.cas = None
        return self._context


def load():
    """Read the identity from the partition labelled `identity`.

    Raises IdentityError if there is no such partition or nothing usable in it, OSError if flash fails.
    """
    from esp32 import Partition

    found = Partition.find(Partition.TYPE_DATA, label=_LABEL)
    if not found:
        raise IdentityError("no partition labelled " + _LABEL)
    return read(found[0])


def read(partition):
    """Read the identity from an `esp32.Partition`, or anything with its `readblocks`.

    Raises IdentityError if no slot is usable, OSError if flash fails.
    """
    headers = [_read(partition, slot, 0, _HEADER_SIZE) for slot in (0, 1)]
    damage = ["", ""]
    for slot in order(headers[0], headers[1]):
        try:
            length = payload_length(headers[slot])
            payload = _read(partition, slot, _HEADER_SIZE, length)
            return decode(headers[slot], payload)
        except IdentityError as error:
            damage[slot] = str(error)
    if damage[0] == damage[1] == "blank":
        raise IdentityError("identity partition is blank")
    raise IdentityError("identity partition is unusable (slot 0: %s; slot 1: %s)" % tuple(damage))


def order(first, second):
    """The slots in the order to try them, from their two headers: the newer sequence first.

    Sequences are compared as serial numbers modulo 2^32 (RFC 1982); equal ones leave slot 0 first.
    """
    ahead = (struct.unpack(_HEADER, second)[2] - struct.unpack(_HEADER, first)[2]) & 0xFFFFFFFF
    return (1, 0) if 0 < ahead < 0x80000000 else (0, 1)


def payload_length(header):
    """The length of the payload behind a slot's header.

    Raises IdentityError, with a few words, if the header is not ours.
    """
    magic, version, _, length, _ = struct.unpack(_HEADER, header)
    if header == b"\xff" * _HEADER_SIZE:
        raise IdentityError("blank")
    if magic != b"LPID":
        raise IdentityError("bad magic")
    if version != _VERSION:
        raise IdentityError("unknown version %d" % version)
    if length > _SLOT_SIZE - _HEADER_SIZE:
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
    if not _is_node_id(node_id):
        raise IdentityError("bad node id")
    return Identity(node_id.decode(), key, values[_CERTIFICATE], values[_TRUSTED_CA])


def _one(values, tag, what):
    if len(values[tag]) > 1:
        raise IdentityError("more than one " + what)
    if not values[tag]:
        raise IdentityError("no " + what)
    return values[tag][0]


def _is_node_id(value):
    if not 0 < len(value) <= 32 or value[:1] == b"-":
        return False
    return all(48 <= c <= 57 or 65 <= c <= 90 or 97 <= c <= 122 or c == 45 for c in value)


def _read(partition, slot, offset, length):
    buffer = bytearray(length)
    partition.readblocks(slot * (_SLOT_SIZE // _BLOCK), buffer, offset)
    return buffer
