"""The identity partition as the host writes and reads it, against the vectors that the node reads too."""

import dataclasses
import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from host_tools.errors import LimpetError
from host_tools.pki.partition import (
    PARTITION_SIZE,
    SLOT_SIZE,
    Identity,
    IdentityDamagedError,
    decode,
    encode,
    encode_slot,
)

VECTORS = Path(__file__).parents[1] / "vectors"
CASES: list[dict[str, Any]] = json.loads((VECTORS / "identity.json").read_text())["vectors"]
IDENTITY = Identity("n01", b"key-bytes", (b"certificate-bytes",), (b"ca-bytes",))


def partition(*slots: bytes) -> bytes:
    return b"".join(slot.ljust(SLOT_SIZE, b"\xff") for slot in slots)


def test_vectors_are_what_their_generator_makes() -> None:
    generator = runpy.run_path(str(VECTORS / "make_identity.py"))
    assert (VECTORS / "identity.json").read_text() == generator["document"]()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_decode_vector(case: dict[str, Any]) -> None:
    data = partition(*map(bytes.fromhex, case["slots"]))
    found = case["found"]
    if found is None:
        with pytest.raises(IdentityDamagedError) as caught:
            decode(data)
        assert list(caught.value.damage) == case["damage"]
        return
    decoded = decode(data)
    assert (decoded.slot, decoded.sequence) == (found["slot"], found["sequence"])
    assert list(decoded.damage) == case["damage"]
    assert (decoded.trial, decoded.pending) == (found["trial"], found["pending"])
    assert decoded.identity == Identity(
        found["node_id"],
        bytes.fromhex(found["key"]),
        tuple(map(bytes.fromhex, found["chain"])),
        tuple(map(bytes.fromhex, found["cas"])),
    )


@pytest.mark.parametrize("name", ["slot 0 only", "several certificates and CAs"])
def test_encode_makes_the_vector(name: str) -> None:
    (case,) = [case for case in CASES if case["name"] == name]
    identity = decode(partition(*map(bytes.fromhex, case["slots"]))).identity
    assert encode(identity, case["found"]["sequence"]) == partition(*map(bytes.fromhex, case["slots"]))


@pytest.mark.security(8, "IEC 62443-4-2 CR 3.4", "ETSI EN 303 645 5.4-1")
def test_every_bit_flip_is_noticed() -> None:
    """Each bit of a node's newer identity is flipped: the host sees it, and takes the older one."""
    other = dataclasses.replace(IDENTITY, key=b"old-key-bytes")
    good = encode_slot(IDENTITY, 2)
    used = len(good.rstrip(b"\xff"))
    for bit in range(8 * used):
        flipped = bytearray(good)
        flipped[bit // 8] ^= 1 << bit % 8
        decoded = decode(partition(encode_slot(other, 1), bytes(flipped)))
        assert decoded.slot == 0 and decoded.identity == other, f"bit {bit} of slot 1"
        assert decoded.damage[1] is not None


def test_sequence_wraps_when_encoded() -> None:
    newer = dataclasses.replace(IDENTITY, key=b"new-key-bytes")
    decoded = decode(partition(encode_slot(IDENTITY, 2**32 - 1), encode_slot(newer, 2**32)))
    assert (decoded.slot, decoded.sequence, decoded.identity) == (1, 0, newer)


def test_encoded_partition_has_the_size_of_the_partition() -> None:
    assert len(encode(IDENTITY)) == PARTITION_SIZE == 0x4000


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"node_id": "n 01"}, "node id 'n 01' is not valid"),
        ({"node_id": ""}, "node id '' is not valid"),
        ({"node_id": "n" * 33}, "is not valid"),
        ({"node_id": "-n"}, "is not valid"),
        ({"node_id": "n01\n"}, "is not valid"),
        ({"key": b""}, "incomplete"),
        ({"chain": ()}, "incomplete"),
        ({"cas": ()}, "incomplete"),
        ({"chain": (b"c" * SLOT_SIZE,)}, "and a slot has 8192"),
    ],
)
def test_encode_refuses(change: dict[str, Any], text: str) -> None:
    with pytest.raises(LimpetError, match=text):
        encode(dataclasses.replace(IDENTITY, **change))


@pytest.mark.parametrize("size", [0, SLOT_SIZE, PARTITION_SIZE - 1, PARTITION_SIZE + 1])
def test_decode_refuses_another_size(size: int) -> None:
    with pytest.raises(LimpetError, match=f"this one has {size}"):
        decode(b"\xff" * size)


def test_blank_partition_says_so() -> None:
    with pytest.raises(IdentityDamagedError, match="The identity partition is blank"):
        decode(b"\xff" * PARTITION_SIZE)


def test_a_key_that_waits_is_told() -> None:
    (case,) = [case for case in CASES if case["name"] == "the first key waits"]
    with pytest.raises(IdentityDamagedError, match="a key that waits for its certificate"):
        decode(partition(*map(bytes.fromhex, case["slots"])))


def test_the_key_does_not_show() -> None:
    decoded = decode(encode(dataclasses.replace(IDENTITY, key=b"canary-key")))
    assert "canary" not in repr(decoded) + str(decoded)
