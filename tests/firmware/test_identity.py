"""The node reads its identity partition: the vectors that the host reads too, and what goes wrong."""

import hashlib
import json
import sys

from limpet import identity
from marks import security

_HERE = __file__.rsplit("/", 1)[0]
with open(_HERE + "/../vectors/identity.json") as file:
    CASES = json.load(file)["vectors"]

SLOT = 0x2000


class Flash:
    """Two slots of flash, read as `esp32.Partition.readblocks` does: block of 4096 bytes, then an offset."""

    def __init__(self, first, second):
        self.slots = (first, second)

    def readblocks(self, block, buffer, offset):
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
            elif set(damage) <= {"blank", "pending"}:
                expected = "identity partition holds a key that waits for its certificate"
            assert failure(identity.read, flash(case)) == expected, name
            continue
        got = identity.read(flash(case))
        assert got.node_id == found["node_id"], name
        assert got.key == unhex(found["key"]), name
        assert got.chain == [unhex(item) for item in found["chain"]], name
        assert got.cas == [unhex(item) for item in found["cas"]], name
        assert got.fingerprint == hashlib.sha256(got.chain[0]).digest().hex(), name
        assert (got.slot, got.sequence) == (found["slot"], found["sequence"]), name
        assert (got.trial, got.pending) == (found["trial"], found["pending"]), name
        wrong = damage[1 - found["slot"]]
        reported = wrong and wrong not in ("blank", "pending")
        assert got.damage == ("slot %d: %s" % (1 - got.slot, wrong) if reported else None), name


def test_what_is_in_every_slot():
    for case in CASES:
        held = [each if isinstance(each, str) else None for each in identity.slots(flash(case))]
        assert held == case["damage"], case["name"]


def test_the_older_identity_of_a_trial():
    for name in ("slot 1 newer", "slot 0 newer", "sequence wraps"):
        older = identity.read(flash(case_named(name)), older=True)
        assert older.key == b"old-key-bytes" and older.trial and older.damage is None, name


def test_no_older_identity_without_a_trial():
    for name in ("slot 0 only", "newer slot damaged", "a key waits"):
        said = failure(identity.read, flash(case_named(name)), True)
        assert said == "there is no older identity", name


def flips(slots, which):
    """Each bit of a slot flipped in turn: the bit's number, and the flash with it."""
    slots = [bytearray(each) for each in slots]
    for bit in range(8 * len(slots[which])):
        slots[which][bit // 8] ^= 1 << bit % 8
        yield bit, Flash(*slots)
        slots[which][bit // 8] ^= 1 << bit % 8


@security(8, "IEC 62443-4-2 CR 3.4", "ETSI EN 303 645 5.4-1")
def test_a_bit_flip_in_a_new_identity():
    """Each bit of an identity on trial is flipped: the node sees it, uses the old identity, and says so."""
    slots = flash(case_named("slot 1 newer")).slots
    for bit, flipped in flips(slots, 1):
        who = identity.read(flipped)
        assert who.key == b"old-key-bytes" and not who.trial, bit
        assert who.damage.startswith("slot 1: "), (bit, who.damage)


@security(8, "IEC 62443-4-2 CR 3.4", "ETSI EN 303 645 5.4-1")
def test_a_bit_flip_in_an_old_identity():
    """Each bit of the old identity is flipped during a trial: the node sees it, uses the new one, says so."""
    slots = flash(case_named("slot 0 newer")).slots
    for bit, flipped in flips(slots, 1):
        who = identity.read(flipped)
        assert who.key == b"new-key-bytes" and not who.trial, bit
        assert who.damage.startswith("slot 1: "), (bit, who.damage)


@security(8, "IEC 62443-4-2 CR 3.4", "ETSI EN 303 645 5.4-1")
def test_a_bit_flip_in_the_only_identity():
    """Each bit of a node's only identity is flipped: the node refuses it, and says which slot is damaged."""
    for name, slot in (("slot 0 only", 0), ("slot 1 only", 1)):
        slots = flash(case_named(name)).slots
        for bit, flipped in flips(slots, slot):
            said = failure(identity.read, flipped)
            assert said and "slot %d: blank" % (1 - slot) in said, (bit, said)
            assert "slot %d: " % slot in said and "slot %d: blank" % slot not in said, (bit, said)


@security(8, "IEC 62443-4-2 CR 3.4", "ETSI EN 303 645 5.4-1")
def test_a_bit_flip_in_a_key_that_waits():
    """Each bit of a key that waits for its certificate is flipped: it is not used, the identity stands."""
    slots = flash(case_named("a key waits")).slots
    for bit, flipped in flips(slots, 1):
        who = identity.read(flipped)
        assert who.key == b"old-key-bytes", bit
        if bit < 8 * 20:  # beside what waits, where a header will be
            assert not who.pending and who.damage.startswith("slot 1: "), bit
        else:
            assert not who.pending and who.damage is None, bit
            assert identity.waiting(flipped, 1, 8) is None, bit


def test_key_and_certificates_are_bytes():
    # The TLS library takes bytes alone; a view or a bytearray would fail only at the first connection.
    got = identity.read(flash(case_named("slot 0 only")))
    for value in [got.key] + got.chain + got.cas:
        assert type(value) is bytes


def test_context_refuses_a_key_that_is_none():
    got = identity.read(flash(case_named("slot 0 only")))
    assert failure(got.context) == "identity of n01 is unusable: invalid key"
    assert got.key == b"key-bytes"


def test_a_certificate_bears_the_nodes_own_name():
    """As the common name (X.520), a UTF8String or a PrintableString: the whole of it, and nothing else."""

    def bears(node_id, certificate):
        return identity.Identity(node_id, b"", [certificate], [])._has_its_name()

    for kind in (b"\x0c", b"\x13"):
        certificate = b"\x30\x0a\x06\x03\x55\x04\x03" + kind + b"\x03n01\x30\x1e"
        for node_id in ("n01", "n0", "01", "n010", "n02", "N01"):
            assert bears(node_id, certificate) == (node_id == "n01"), (kind, node_id)
    assert not bears("n01", b"\x30\x0a\x06\x03\x55\x04\x0a\x0c\x03n01\x30\x1e"), "an organisation"


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
