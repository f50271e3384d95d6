"""The node reads its identity partition: the vectors that the host reads too, and what goes wrong."""

import json
import sys

from limpet import identity

_HERE = __file__.rsplit("/", 1)[0]
with open(_HERE + "/../vectors/identity.json") as file:
    CASES = json.load(file)["vectors"]

SLOT = 0x2000


class Flash:
    """Two slots of flash, read as `esp32.Partition.readblocks` does: block of 4096 bytes, then an offset."""

    def __init__(self, first, second):
        self.slots = (first, second)
        self.reads = 0

    def readblocks(self, block, buffer, offset):
        self.reads += len(buffer)
        slot, at = divmod(block * 4096 + offset, SLOT)
        assert at + len(buffer) <= SLOT
        data = self.slots[slot][at : at + len(buffer)]
        for i in range(len(buffer)):
            buffer[i] = data[i] if i < len(data) else 0xFF


def unhex(text):
    return bytes(int(text[i : i + 2], 16) for i in range(0, len(text), 2))


def flash(case):
    return Flash(unhex(case["slots"][0]), unhex(case["slots"][1]))


def case_named(name):
    return next(case for case in CASES if case["name"] == name)


def failure(call, *args):
    try:
        call(*args)
    except identity.IdentityError as error:
        return str(error)
    return None


def test_vectors():
    for case in CASES:
        name, found, damage = case["name"], case["found"], case["damage"]
        if found is None:
            expected = "identity partition is unusable (slot 0: %s; slot 1: %s)" % tuple(damage)
            if damage == ["blank", "blank"]:
                expected = "identity partition is blank"
            assert failure(identity.read, flash(case)) == expected, name
            continue
        got = identity.read(flash(case))
        assert got.node_id == found["node_id"], name
        assert got.key == unhex(found["key"]), name
        assert got.chain == [unhex(item) for item in found["chain"]], name
        assert got.cas == [unhex(item) for item in found["cas"]], name


def test_damage_of_every_slot():
    def decode(data):
        header = data[:20]
        return identity.decode(header, data[20 : 20 + identity.payload_length(header)])

    for case in CASES:
        for i in (0, 1):
            data = unhex(case["slots"][i])
            data += b"\xff" * (SLOT - len(data))
            assert failure(decode, data) == case["damage"][i], (case["name"], i)


def test_every_bit_flip_is_noticed():
    case = case_named("slot 1 newer")
    older, newer = unhex(case["slots"][0]), bytearray(unhex(case["slots"][1]))
    for bit in range(8 * len(newer)):
        newer[bit // 8] ^= 1 << bit % 8
        assert identity.read(Flash(older, newer)).key == b"old-key-bytes", bit
        newer[bit // 8] ^= 1 << bit % 8
    assert identity.read(Flash(older, newer)).key == b"new-key-bytes"


def test_older_slot_is_left_alone_when_the_newer_one_is_good():
    both = flash(case_named("slot 1 newer"))
    identity.read(both)
    assert both.reads == 20 + len(both.slots[1])


def test_key_and_certificates_are_bytes():
    # The TLS library takes bytes alone; a view or a bytearray would fail only at the first connection.
    got = identity.read(flash(case_named("slot 0 only")))
    for value in [got.key] + got.chain + got.cas:
        assert type(value) is bytes


def test_context_refuses_a_key_that_is_none():
    got = identity.read(flash(case_named("slot 0 only")))
    assert failure(got.context) == "identity of n01 is unusable: invalid key"
    assert got.key == b"key-bytes"


def with_partitions(found):
    """What `load` does on a chip with the partitions `found`, and what it asked for."""
    asked = []

    class Partition:
        TYPE_DATA = 1

        @staticmethod
        def find(type, label):
            asked.append((type, label))
            return found

    class Module:
        pass

    module = Module()
    module.Partition = Partition
    before = sys.modules.get("esp32")
    sys.modules["esp32"] = module
    try:
        return failure(identity.load) or identity.load(), asked
    finally:
        if before is None:
            del sys.modules["esp32"]
        else:
            sys.modules["esp32"] = before


def test_load_asks_for_the_label():
    got, asked = with_partitions([flash(case_named("slot 0 only"))])
    assert got.node_id == "n01"
    assert asked[0] == (1, "identity")


def test_load_without_the_partition():
    assert with_partitions([])[0] == "no partition labelled identity"
