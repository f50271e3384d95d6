"""Makes tests/vectors/identity.json from docs/formats.md, with no help from the code under test.

Run it from anywhere: `python tests/vectors/make_identity.py`. The container does not look inside keys and
certificates, so placeholder bytes stand for them.
"""

import json
import zlib
from pathlib import Path
from typing import Any

TARGET = Path(__file__).with_name("identity.json")

NODE_ID, KEY, CERTIFICATE, TRUSTED_CA, CHECK = 1, 2, 3, 4, 5
NAMES = {NODE_ID: "node_id", KEY: "key", CERTIFICATE: "chain", TRUSTED_CA: "cas"}
BLANK = b""


def tlv(tag: int, value: bytes) -> bytes:
    return bytes([tag]) + len(value).to_bytes(2, "little") + value


def payload(
    node_id: bytes = b"n01",
    key: bytes = b"key-bytes",
    chain: tuple[bytes, ...] = (b"certificate-bytes",),
    cas: tuple[bytes, ...] = (b"ca-bytes",),
) -> bytes:
    return b"".join(
        [tlv(NODE_ID, node_id), tlv(KEY, key)]
        + [tlv(CERTIFICATE, certificate) for certificate in chain]
        + [tlv(TRUSTED_CA, ca) for ca in cas]
    )


def slot(
    sequence: int, body: bytes, *, version: int = 1, magic: bytes = b"LPID", length: int | None = None
) -> bytes:
    length = len(body) if length is None else length
    covered = bytes([version, 0, 0, 0]) + sequence.to_bytes(4, "little") + length.to_bytes(4, "little")
    return magic + covered + zlib.crc32(covered + body).to_bytes(4, "little") + body


def begun(sequence: int, node_id: bytes = b"n01", key: bytes = b"new-key-bytes") -> bytes:
    """The fields with which a node begins an identity of its own."""
    fields = tlv(NODE_ID, node_id) + tlv(KEY, key)
    crc = zlib.crc32(sequence.to_bytes(4, "little") + fields)
    return fields + tlv(CHECK, crc.to_bytes(4, "little"))


def swapped(sequence: int) -> bytes:
    """The same in another order."""
    fields = tlv(KEY, b"new-key-bytes") + tlv(NODE_ID, b"n01")
    return fields + tlv(CHECK, zlib.crc32(sequence.to_bytes(4, "little") + fields).to_bytes(4, "little"))


def waiting(sequence: int, more: bytes = b"", **fields: bytes) -> bytes:
    """A slot in which a key waits for its certificate, of which `more` is there already."""
    return b"\xff" * 20 + begun(sequence, **fields) + more


def flipped(data: bytes, byte: int, bit: int) -> bytes:
    return data[:byte] + bytes([data[byte] ^ (1 << bit)]) + data[byte + 1 :]


def expected(slot_number: int, sequence: int, **fields: Any) -> dict[str, Any]:
    """What a reader finds; `fields` replace those of the default payload."""
    plain: dict[str, Any] = {
        "node_id": "n01",
        "key": b"key-bytes",
        "chain": [b"certificate-bytes"],
        "cas": [b"ca-bytes"],
    } | fields
    return {
        "slot": slot_number,
        "sequence": sequence,
        "node_id": plain["node_id"],
        "key": plain["key"].hex(),
        "chain": [item.hex() for item in plain["chain"]],
        "cas": [item.hex() for item in plain["cas"]],
    }


OLD = payload(key=b"old-key-bytes")
OLD_FIELDS = {"key": b"old-key-bytes"}
NEW = payload(key=b"new-key-bytes")
NEW_FIELDS = {"key": b"new-key-bytes"}
LONGEST_ID = "A" + "b-9" * 10 + "Z"
ROOM = 0x2000 - 20


def cases() -> list[tuple[str, bytes, bytes, dict[str, Any] | None, str | None, str | None]]:
    """Rows of: name, first bytes of slot 0 and of slot 1, what is found, damage of each slot."""
    old, new = slot(7, OLD), slot(8, NEW)
    unknown = tlv(9, b"from the future") + payload() + tlv(200, b"")
    filled = payload() + tlv(9, b"\xff" * (ROOM - len(payload()) - 3))
    return [
        ("slot 0 only", slot(1, payload()), BLANK, expected(0, 1), None, "blank"),
        ("slot 1 only", BLANK, slot(1, payload()), expected(1, 1), "blank", None),
        ("slot 1 newer", old, new, expected(1, 8, **NEW_FIELDS), None, None),
        ("slot 0 newer", new, old, expected(0, 8, **NEW_FIELDS), None, None),
        ("equal sequences", slot(8, OLD), slot(8, NEW), expected(0, 8, **OLD_FIELDS), None, None),
        ("sequence wraps", slot(2**32 - 1, OLD), slot(0, NEW), expected(1, 0, **NEW_FIELDS), None, None),
        ("sequence wrapped", slot(1, NEW), slot(2**32 - 1, OLD), expected(0, 1, **NEW_FIELDS), None, None),
        (
            "farthest newer",
            slot(0, OLD),
            slot(2**31 - 1, NEW),
            expected(1, 2**31 - 1, **NEW_FIELDS),
            None,
            None,
        ),
        ("half way round", slot(0, OLD), slot(2**31, NEW), expected(0, 0, **OLD_FIELDS), None, None),
        ("newer slot damaged", old, flipped(new, 30, 0), expected(0, 7, **OLD_FIELDS), None, "CRC mismatch"),
        ("older slot damaged", flipped(old, 30, 7), new, expected(1, 8, **NEW_FIELDS), "CRC mismatch", None),
        ("newer slot torn", old, new[:-5], expected(0, 7, **OLD_FIELDS), None, "CRC mismatch"),
        (
            "newer slot without its header's end",
            old,
            new[:12],
            expected(0, 7, **OLD_FIELDS),
            None,
            "length beyond the slot",
        ),
        (
            "newer slot of a later version",
            old,
            slot(8, NEW, version=2),
            expected(0, 7, **OLD_FIELDS),
            None,
            "unknown version 2",
        ),
        (
            "several certificates and CAs",
            slot(1, payload(chain=(b"leaf", b"issuer"), cas=(b"ca-1", b"ca-2", b"ca-3"))),
            BLANK,
            expected(0, 1, chain=[b"leaf", b"issuer"], cas=[b"ca-1", b"ca-2", b"ca-3"]),
            None,
            "blank",
        ),
        ("unknown tags", slot(1, unknown), BLANK, expected(0, 1), None, "blank"),
        (
            "longest node id",
            slot(1, payload(node_id=LONGEST_ID.encode())),
            BLANK,
            expected(0, 1, node_id=LONGEST_ID),
            None,
            "blank",
        ),
        ("slot filled to the last byte", slot(1, filled), BLANK, expected(0, 1), None, "blank"),
        ("both blank", BLANK, BLANK, None, "blank", "blank"),
        ("both damaged", flipped(old, 16, 0), flipped(new, 8, 3), None, "CRC mismatch", "CRC mismatch"),
        (
            "magic and version",
            slot(1, payload(), magic=b"LPIX"),
            slot(1, payload(), version=0),
            None,
            "bad magic",
            "unknown version 0",
        ),
        (
            "all zero",
            bytes(20),
            slot(1, payload(), length=ROOM + 1),
            None,
            "bad magic",
            "length beyond the slot",
        ),
        (
            "truncated TLVs",
            slot(1, payload()[:-1]),
            slot(2, payload() + b"\x02\x01"),
            None,
            "truncated TLV",
            "truncated TLV",
        ),
        (
            "no node id, no key",
            slot(1, payload()[6:]),
            slot(1, tlv(NODE_ID, b"n01") + tlv(CERTIFICATE, b"c")),
            None,
            "no node id",
            "no private key",
        ),
        (
            "no certificate, no CA",
            slot(1, payload(chain=())),
            slot(1, payload(cas=())),
            None,
            "no certificate",
            "no trusted CA",
        ),
        (
            "two ids, two keys",
            slot(1, payload() + tlv(NODE_ID, b"n02")),
            slot(1, payload() + tlv(KEY, b"k")),
            None,
            "more than one node id",
            "more than one private key",
        ),
        (
            "node ids that are none",
            slot(1, payload(node_id=b"-n01")),
            slot(1, payload(node_id=b"n/01")),
            None,
            "bad node id",
            "bad node id",
        ),
        (
            "node ids of a wrong length",
            slot(1, payload(node_id=b"")),
            slot(1, payload(node_id=b"n" * 33)),
            None,
            "bad node id",
            "bad node id",
        ),
        (
            "node ids beyond ASCII",
            slot(1, payload(node_id="né".encode())),
            slot(1, payload(node_id=b"n\xff")),
            None,
            "bad node id",
            "bad node id",
        ),
        ("empty payload", slot(1, b""), slot(2, b""), None, "no node id", "no node id"),
        ("a key waits", old, waiting(8), expected(0, 7, **OLD_FIELDS), None, "pending"),
        ("a key waits in slot 0", waiting(8), slot(7, OLD), expected(1, 7, **OLD_FIELDS), "pending", None),
        (
            "a key waits, and pieces of its certificate are there",
            old,
            waiting(8, tlv(CERTIFICATE, b"certificate-bytes")[:9]),
            expected(0, 7, **OLD_FIELDS),
            None,
            "pending",
        ),
        (
            "a key waits for the sequence after the largest",
            slot(2**32 - 1, OLD),
            waiting(0),
            expected(0, 2**32 - 1, **OLD_FIELDS),
            None,
            "pending",
        ),
        (
            "a key waits that came with another identity",
            old,
            waiting(7),
            expected(0, 7, **OLD_FIELDS),
            None,
            "blank",
        ),
        ("the first key waits", waiting(1), BLANK, None, "pending", "blank"),
        ("the first key waits in slot 1", BLANK, waiting(1), None, "blank", "pending"),
        ("two keys wait", waiting(1), waiting(1), None, "pending", "pending"),
        (
            "a key waits beside a damaged slot",
            flipped(old, 16, 0),
            waiting(1),
            None,
            "CRC mismatch",
            "pending",
        ),
        (
            "a longest node id waits",
            waiting(1, node_id=LONGEST_ID.encode(), key=b"k" * 138),
            BLANK,
            None,
            "pending",
            "blank",
        ),
        ("a key that was torn", old, waiting(8)[:-1], expected(0, 7, **OLD_FIELDS), None, "blank"),
        (
            "a key that is damaged",
            old,
            flipped(waiting(8), 35, 4),
            expected(0, 7, **OLD_FIELDS),
            None,
            "blank",
        ),
        (
            "a key before its node id",
            old,
            b"\xff" * 20 + swapped(8),
            expected(0, 7, **OLD_FIELDS),
            None,
            "blank",
        ),
        (
            "no key before its check",
            old,
            b"\xff" * 20 + tlv(CHECK, zlib.crc32(bytes([8, 0, 0, 0])).to_bytes(4, "little")),
            expected(0, 7, **OLD_FIELDS),
            None,
            "blank",
        ),
        (
            "a key that waits is too long",
            old,
            waiting(8, key=b"k" * 256),
            expected(0, 7, **OLD_FIELDS),
            None,
            "blank",
        ),
        (
            "a key waits behind a torn header",
            old,
            slot(8, b"")[:7] + waiting(8)[7:],
            expected(0, 7, **OLD_FIELDS),
            None,
            "length beyond the slot",
        ),
        (
            "made on the node",
            old,
            slot(8, begun(8) + tlv(CERTIFICATE, b"certificate-bytes") + tlv(TRUSTED_CA, b"ca-bytes")),
            expected(1, 8, **NEW_FIELDS),
            None,
            None,
        ),
    ]


def document() -> str:
    vectors = [
        {
            "name": name,
            "slots": [data.rstrip(b"\xff").hex() for data in slots],
            "found": found and found | {"trial": damage_0 is damage_1 is None, "pending": pending},
            "damage": [damage_0, damage_1],
        }
        for name, *slots, found, damage_0, damage_1 in cases()
        for pending in ["pending" in (damage_0, damage_1)]
    ]
    about = "Made by make_identity.py. A slot's bytes are followed by 0xFF up to 0x2000 bytes."
    return json.dumps({"about": about, "vectors": vectors}, indent=1) + "\n"


if __name__ == "__main__":
    TARGET.write_text(document())
