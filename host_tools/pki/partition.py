"""The identity partition of a node, byte for byte as docs/formats.md describes it. Nothing here does I/O."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from host_tools.errors import LimpetError
from host_tools.pki.names import check_node_id, is_node_id

SLOT_SIZE = 0x2000
PARTITION_SIZE = 2 * SLOT_SIZE

_MAGIC = b"LPID"
_VERSION = 1
# magic, version, three zero bytes, sequence, length of the payload, CRC-32
_HEADER = struct.Struct("<4sB3xIII")
_CRC_FROM, _CRC_TO = 4, 16
_TLV = struct.Struct("<BH")
_NODE_ID, _KEY, _CERTIFICATE, _TRUSTED_CA, _CHECK, _ENDORSEMENT = 1, 2, 3, 4, 5, 6
_MOST_BEGUN = 256

BLANK = "blank"
"""What `Decoded.damage` says of a slot that is not written."""
PENDING = "pending"
"""What `Decoded.damage` says of a slot in which a key waits for its certificate."""


@dataclass(frozen=True)
class Identity:
    """Who a node is. Its repr shows the node id alone."""

    node_id: str
    key: bytes = field(repr=False)
    """Private key, DER (RFC 5915 ECPrivateKey)."""
    chain: tuple[bytes, ...] = field(repr=False)
    """The node's certificate, then the certificates between it and the trusted CA, each DER."""
    cas: tuple[bytes, ...] = field(repr=False)
    """The authorities whose brokers the node trusts, each DER."""


@dataclass(frozen=True)
class Decoded:
    """What a partition holds: the identity that counts, where it was found, and what is damaged."""

    identity: Identity
    slot: int
    sequence: int
    damage: tuple[str | None, str | None]
    """For each slot why it holds no identity, or None."""

    @property
    def trial(self) -> bool:
        """The other slot holds an older identity, to which the node goes back if this one does not work."""
        return self.damage == (None, None)

    @property
    def pending(self) -> bool:
        """The other slot holds a key that waits for its certificate."""
        return PENDING in self.damage


class IdentityDamagedError(LimpetError):
    """Neither slot of an identity partition holds an identity; `damage` says for each slot why."""

    def __init__(self, damage: tuple[str, str]) -> None:
        if damage == (BLANK, BLANK):
            text = "The identity partition is blank: give the node an identity."
        elif set(damage) <= {BLANK, PENDING}:
            text = (
                "The identity partition holds a key that waits for its certificate: provision the node again."
            )
        else:
            text = (
                "The identity partition holds no usable identity "
                f"(slot 0: {damage[0]}; slot 1: {damage[1]}): give the node a new one."
            )
        super().__init__(text)
        self.damage = damage


class _SlotError(Exception):
    """What is wrong with one slot, in a few words."""


def certificate_fields(chain: Sequence[bytes], cas: Sequence[bytes]) -> bytes:
    """The fields for these certificates and trusted CAs, each DER: what an identity gets from outside."""
    parts = [(_CERTIFICATE, each) for each in chain] + [(_TRUSTED_CA, each) for each in cas]
    return b"".join(_field(tag, value) for tag, value in parts)


def endorsement_field(signature: bytes) -> bytes:
    """The field for an endorsement of what stands before it (`host_tools.pki.endorsement`)."""
    return _field(_ENDORSEMENT, signature)


def encode_slot(identity: Identity, sequence: int) -> bytes:
    """The SLOT_SIZE bytes of one slot; `sequence` counts up from slot to slot, modulo 2^32.

    Raises LimpetError if the identity does not fit or lacks a part.
    """
    check_node_id(identity.node_id)
    node_id = identity.node_id.encode()
    values = (node_id, identity.key, *identity.chain, *identity.cas)
    if not identity.chain or not identity.cas or not all(values):
        raise LimpetError(
            f"The identity of node {identity.node_id} is incomplete: "
            "it needs a key, a certificate and a trusted CA."
        )
    size = _HEADER.size + sum(_TLV.size + len(value) for value in values)
    if size > SLOT_SIZE:
        raise LimpetError(
            f"The identity of node {identity.node_id} takes {size} bytes, and a slot has {SLOT_SIZE}: "
            "use fewer or smaller certificates."
        )
    payload = _field(_NODE_ID, node_id) + _field(_KEY, identity.key)
    payload += certificate_fields(identity.chain, identity.cas)
    unsigned = _HEADER.pack(_MAGIC, _VERSION, sequence & 0xFFFFFFFF, len(payload), 0)
    crc = zlib.crc32(payload, zlib.crc32(unsigned[_CRC_FROM:_CRC_TO]))
    slot = unsigned[:_CRC_TO] + crc.to_bytes(4, "little") + payload
    return slot.ljust(SLOT_SIZE, b"\xff")


def encode(identity: Identity, sequence: int = 1) -> bytes:
    """A whole partition with `identity` in slot 0 and slot 1 erased.

    Raises LimpetError as `encode_slot` does.
    """
    return encode_slot(identity, sequence).ljust(PARTITION_SIZE, b"\xff")


def decode(partition: bytes) -> Decoded:
    """Read a partition and choose the newer valid slot (serial-number order, RFC 1982).

    Raises IdentityDamagedError if no slot is valid, LimpetError if `partition` has another size.
    """
    if len(partition) != PARTITION_SIZE:
        raise LimpetError(
            f"An identity partition has {PARTITION_SIZE} bytes, and this one has {len(partition)}: "
            "read it again in full."
        )
    slots = (partition[:SLOT_SIZE], partition[SLOT_SIZE:])
    found: list[tuple[int, int, Identity]] = []
    damage: list[str | None] = [None, None]
    for number, slot in enumerate(slots):
        try:
            sequence, identity = _decode_slot(slot)
        except _SlotError as error:
            damage[number] = str(error)
        else:
            found.append((number, sequence, identity))
    if len(found) == 2 and _newer(found[1][1], found[0][1]):
        found.reverse()
    following = (found[0][1] + 1) % 2**32 if found else 1
    for number, slot in enumerate(slots):
        if damage[number] == BLANK and _is_begun(slot, following):
            damage[number] = PENDING
    if not found:
        raise IdentityDamagedError((str(damage[0]), str(damage[1])))
    number, sequence, identity = found[0]
    return Decoded(identity, number, sequence, (damage[0], damage[1]))


def _newer(sequence: int, other: int) -> bool:
    return 0 < (sequence - other) % 2**32 < 2**31


def _decode_slot(slot: bytes) -> tuple[int, Identity]:
    header = slot[: _HEADER.size]
    if header.count(0xFF) == len(header):
        raise _SlotError(BLANK)
    magic, version, sequence, length, crc = _HEADER.unpack(header)
    if magic != _MAGIC:
        raise _SlotError("bad magic")
    if version != _VERSION:
        raise _SlotError(f"unknown version {version}")
    if length > SLOT_SIZE - _HEADER.size:
        raise _SlotError("length beyond the slot")
    payload = slot[_HEADER.size : _HEADER.size + length]
    if zlib.crc32(payload, zlib.crc32(header[_CRC_FROM:_CRC_TO])) != crc:
        raise _SlotError("CRC mismatch")
    return sequence, _identity(payload)


def _is_begun(slot: bytes, sequence: int) -> bool:
    """Whether a node has begun an identity of that sequence here, with a key."""
    begun = slot[_HEADER.size : _HEADER.size + _MOST_BEGUN]
    at = 0
    for expected in (_NODE_ID, _KEY, _CHECK):
        start = at
        if start + _TLV.size > len(begun):
            return False
        tag, length = _TLV.unpack_from(begun, start)
        at += _TLV.size + length
        if tag != expected:
            return False
    crc = zlib.crc32(begun[:start], zlib.crc32(sequence.to_bytes(4, "little")))
    return begun[start + _TLV.size : at] == crc.to_bytes(4, "little")


def _identity(payload: bytes) -> Identity:
    values: dict[int, list[bytes]] = {_NODE_ID: [], _KEY: [], _CERTIFICATE: [], _TRUSTED_CA: []}
    for tag, value in _tlvs(payload):
        if tag in values:
            values[tag].append(value)
    node_id = _one(values[_NODE_ID], "node id").decode("ascii", "replace")
    key = _one(values[_KEY], "private key")
    if not values[_CERTIFICATE]:
        raise _SlotError("no certificate")
    if not values[_TRUSTED_CA]:
        raise _SlotError("no trusted CA")
    if not is_node_id(node_id):
        raise _SlotError("bad node id")
    return Identity(node_id, key, tuple(values[_CERTIFICATE]), tuple(values[_TRUSTED_CA]))


def _one(values: list[bytes], what: str) -> bytes:
    if len(values) > 1:
        raise _SlotError(f"more than one {what}")
    if not values:
        raise _SlotError(f"no {what}")
    return values[0]


def _field(tag: int, value: bytes) -> bytes:
    return _TLV.pack(tag, len(value)) + value


def _tlvs(payload: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(payload):
        if at + _TLV.size > len(payload):
            raise _SlotError("truncated TLV")
        tag, length = _TLV.unpack_from(payload, at)
        at += _TLV.size
        if at + length > len(payload):
            raise _SlotError("truncated TLV")
        yield tag, payload[at : at + length]
        at += length
