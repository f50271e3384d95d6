"""How a node comes by its identities, one after the other; power cuts are in test_enrol_power.py."""

import binascii

from enrolling import (
    FINGERPRINTS,
    NODE_ID,
    SLOT,
    VECTORS,
    Drawn,
    Flash,
    Radio,
    endorsed,
    fields,
    key,
    pieces,
    receipt,
    use,
)
from limpet import csr, enrol, identity, p256
from limpet.enrol import EnrolError


def refused(call, *args):
    try:
        call(*args)
    except EnrolError as error:
        return str(error)
    return None


def make(name, node_id=NODE_ID):
    with Drawn(name):
        return enrol.request(node_id)


def put_all(name):
    for at, piece in pieces(name):
        enrol.put(at, piece)


def enrolled(name="first"):
    """A flash with a node's first identity."""
    flash = use(Flash())
    make(name)
    put_all(name)
    enrol.commit(*receipt(name))
    return flash


def on_trial():
    flash = enrolled()
    make("second")
    put_all("second")
    enrol.commit(*receipt("second"))
    return flash


def words(flash):
    return [each if isinstance(each, str) else each.fingerprint for each in identity.slots(flash)]


def test_first_identity():
    flash = use(Flash())
    make("first")
    assert words(flash) == ["pending", "blank"]
    put_all("first")
    assert words(flash) == ["pending", "blank"]
    assert enrol.commit(*receipt("first")) == FINGERPRINTS["first"]
    who = identity.load()
    assert (who.node_id, who.key, who.fingerprint) == (NODE_ID, key("first"), FINGERPRINTS["first"])
    assert (who.slot, who.sequence, who.trial, who.pending, who.damage) == (0, 1, False, False, None)
    who.context()


def test_rotation():
    flash = on_trial()
    assert words(flash) == [FINGERPRINTS["first"], FINGERPRINTS["second"]]
    who, older = identity.load(), identity.load(older=True)
    assert (who.fingerprint, who.key, who.trial, who.sequence) == (
        FINGERPRINTS["second"],
        key("second"),
        True,
        2,
    )
    assert (older.fingerprint, older.key, older.trial) == (FINGERPRINTS["first"], key("first"), True)
    enrol.settle(True)
    assert words(flash) == ["blank", FINGERPRINTS["second"]]
    assert not identity.load().trial
    assert flash.data[:SLOT] == b"\xff" * SLOT


def test_a_new_identity_that_fails():
    flash = on_trial()
    enrol.settle(False)
    assert words(flash) == [FINGERPRINTS["first"], "blank"]
    assert flash.data[SLOT:] == b"\xff" * SLOT


def test_ten_rotations_take_turns():
    flash = enrolled()
    for i in range(10):
        name = ("second", "first")[i % 2]
        make(name)
        put_all(name)
        enrol.commit(*receipt(name))
        enrol.settle(True)
        who = identity.load()
        assert (who.slot, who.sequence, who.fingerprint) == ((i + 1) % 2, i + 2, FINGERPRINTS[name])
    assert words(flash)[1] == "blank"


def test_sequence_wraps():
    flash = use(Flash())
    payload = identity.begun(0, NODE_ID, key("first")) + fields("first")
    flash.writeblocks(0, identity.header(0xFFFFFFFF, payload) + payload, 0)
    make("second")
    assert words(flash) == [FINGERPRINTS["first"], "pending"]
    put_all("second")
    enrol.commit(*receipt("second"))
    who = identity.load()
    assert (who.sequence, who.fingerprint) == (0, FINGERPRINTS["second"])


def test_trusted_cas_change_under_the_same_key():
    flash = enrolled()
    enrol.copy()
    assert words(flash) == [FINGERPRINTS["first"], "pending"]
    enrol.copy()
    put_all("retrust")
    assert enrol.commit(*receipt("retrust")) == FINGERPRINTS["first"]
    who = identity.load()
    assert who.trial and who.key == key("first") and len(who.cas) == 2 and who.slot == 1
    enrol.settle(True)
    assert words(flash) == ["blank", FINGERPRINTS["first"]]


def test_a_key_of_another_kind_is_not_copied():
    flash = use(Flash())
    payload = identity.begun(1, NODE_ID, b"another kind") + fields("first")
    flash.writeblocks(0, identity.header(1, payload) + payload, 0)
    assert refused(enrol.copy) == "the key cannot be kept (no public key on P-256): ask for a new one"
    assert words(flash) == [FINGERPRINTS["first"], "blank"]


def test_a_copied_key_is_no_new_one():
    enrolled()
    enrol.copy()
    with Drawn("second") as drawn:
        enrol.request(NODE_ID)
    assert len(drawn.radio) == 1
    assert refused(enrol.commit, 0, 0)  # what was copied is gone
    put_all("second")
    assert enrol.commit(*receipt("second")) == FINGERPRINTS["second"]


def test_a_copy_replaces_a_new_key():
    flash = enrolled()
    make("second")
    enrol.copy()
    put_all("retrust")
    enrol.commit(*receipt("retrust"))
    assert identity.read(flash).key == key("first")


def test_request_again_gives_the_same_key():
    flash = enrolled()
    with Drawn("second") as drawn:
        enrol.request(NODE_ID)
    before = bytes(flash.data)
    with Drawn("first") as again:
        enrol.request(NODE_ID)
    assert (len(drawn.radio), len(again.radio)) == (1, 0)
    assert bytes(flash.data) == before


def test_request_is_the_real_thing():
    flash = use(Flash())
    made = enrol.request(NODE_ID)
    assert enrol.request(NODE_ID) == made
    _, kept, _ = identity.waiting(flash, 0, 1)
    d, q = csr.read_private_key(kept)
    assert q == p256.run(p256.multiply(d, p256.G))
    assert csr.public_point(kept) in made and kept[7:39] not in made


def test_the_key_is_wiped_from_ram():
    used = []
    kept = csr.request

    def request(node_id, key):
        used.append(key)
        assert key[:2] == b"\x30\x77"
        return kept(node_id, key)

    use(Flash())
    csr.request = request
    try:
        make("first")
    finally:
        csr.request = kept
    assert used[0] == bytes(121)


def test_keys_differ_from_board_to_board():
    kept = set()
    for _ in range(3):
        flash = use(Flash())
        enrol.request(NODE_ID)
        kept.add(identity.waiting(flash, 0, 1)[1])
    assert len(kept) == 3


def test_request_for_another_node_takes_another_key():
    flash = use(Flash())
    make("first", "other")
    make("second")
    assert identity.waiting(flash, 0, 1)[:2] == (NODE_ID, key("second"))


def test_radio_is_on_for_the_key_and_then_as_before():
    for was_on in (False, True):
        use(Flash())
        Radio.is_on = was_on
        with Drawn("first") as drawn:
            enrol.request(NODE_ID)
        assert drawn.radio == [True] and Radio.is_on == was_on


def test_radio_goes_off_when_it_fails():
    flash = use(Flash())
    flash.refuses = lambda kind, block, offset: kind == "erase"
    Radio.is_on = False
    try:
        make("first")
    except OSError:
        assert not Radio.is_on
    else:
        raise AssertionError("nothing failed")
    finally:
        Radio.is_on = True


def test_making_yields_and_can_be_given_up():
    flash = use(Flash())
    Radio.is_on = False
    steps = enrol.making(NODE_ID)
    for _ in range(5):
        assert 0 <= next(steps) <= 100
    assert Radio.is_on
    steps.close()
    assert not Radio.is_on and words(flash) == ["blank", "blank"]
    Radio.is_on = True


def test_pieces_may_come_again():
    flash = use(Flash())
    make("first")
    put_all("first")
    before = bytes(flash.data)
    for at, piece in pieces("first")[::-1]:
        enrol.put(at, piece)
    enrol.put(0, fields("first"))
    assert bytes(flash.data) == before
    assert enrol.commit(*receipt("first")) == FINGERPRINTS["first"]


def test_other_pieces_take_the_place_of_the_first():
    flash = use(Flash())
    make("first")
    put_all("first")
    flash.power_on()
    put_all("again")
    assert flash.erases == 1
    assert enrol.commit(*receipt("again")) == FINGERPRINTS["again"]
    assert identity.load().key == key("first")


def test_another_piece_in_the_middle_keeps_what_is_before_it():
    use(Flash())
    make("first")
    put_all("first")
    enrol.put(400, b"\xff" * 50)
    for at, piece in pieces("first"):
        if at >= 400:
            enrol.put(at, piece)
    assert enrol.commit(*receipt("first")) == FINGERPRINTS["first"]


def test_a_large_identity_uses_both_sectors():
    flash = use(Flash())
    make("first")
    filler = bytes([9]) + (6000).to_bytes(2, "little") + b"x" * 6000
    data = filler + fields("first")
    enrol.put(0, data)
    assert enrol.commit(len(data), binascii.crc32(data)) == FINGERPRINTS["first"]
    make("second")
    put_all("second")
    enrol.commit(*receipt("second"))
    flash.power_on()
    enrol.settle(True)
    assert flash.erases == 2 and flash.data[:SLOT] == b"\xff" * SLOT


def test_commit_may_come_again():
    flash = enrolled()
    before = bytes(flash.data)
    assert enrol.commit(*receipt("first")) == FINGERPRINTS["first"]
    on_trial()
    assert enrol.commit(*receipt("second")) == FINGERPRINTS["second"]
    assert bytes(flash.data) == before


def taken(data):
    """What comes of it over the network."""
    enrol.put(0, data)
    return refused(p256.run, enrol.committing(len(data), binascii.crc32(data)))


MISSING = "what was put does not end with an endorsement by the authority of this node"
FOREIGN = "what was put is not endorsed by the authority of this node, for what it has now"


def test_what_the_authority_has_endorsed_is_taken():
    for name in ("second", "retrust"):
        flash = enrolled()
        if name == "second":
            make(name)
        else:
            enrol.copy()
        assert enrol.sequence() == 2
        assert taken(endorsed(name)) is None
        assert words(flash) == [FINGERPRINTS["first"], FINGERPRINTS[name]]
        data = endorsed(name)  # the same order may come again
        assert p256.run(enrol.committing(len(data), binascii.crc32(data))) == FINGERPRINTS[name]
        enrol.settle(True)
        assert len(identity.load().cas) == 2


def test_what_the_authority_has_not_endorsed_is_refused():
    flash = enrolled()
    make("second")
    for name in ("by the root", "later", "from another"):
        assert taken(endorsed(name)) == FOREIGN, name
    for data in (fields("second"), b"", endorsed("second") + b"\x09\x00\x00", endorsed("second")[:-1]):
        assert taken(data) == MISSING, len(data)
    for zero in (bytes(64), bytes(32) + endorsed("second")[-32:], endorsed("second")[-64:-32] + bytes(32)):
        assert taken(endorsed("second")[:-64] + zero) == FOREIGN
    assert words(flash) == [FINGERPRINTS["first"], "pending"]
    assert taken(endorsed("second")) is None


def test_one_bit_of_what_was_endorsed():
    flash = enrolled()
    make("second")
    whole = endorsed("second")
    for at in range(0, len(whole), 97):
        data = bytearray(whole)
        data[at] ^= 1 << at % 8
        assert taken(data) in (FOREIGN, MISSING), at
    assert words(flash) == [FINGERPRINTS["first"], "pending"]


def test_what_was_endorsed_for_another_node_or_an_earlier_time():
    flash = use(Flash())
    payload = identity.begun(1, "n02", key("first")) + fields("first")
    flash.writeblocks(0, identity.header(1, payload) + payload, 0)
    make("second", "n02")
    assert taken(endorsed("second")) == FOREIGN
    flash = enrolled()
    enrol.copy()
    assert taken(endorsed("retrust")) is None
    enrol.settle(True)
    enrol.copy()
    put_all("first")
    enrol.commit(*receipt("first"))
    enrol.settle(True)
    enrol.copy()
    assert enrol.sequence() == 4
    assert taken(endorsed("retrust")) == FOREIGN  # trusted CAs that it once had, for the same key


def test_what_was_endorsed_for_another_certificate():
    use(Flash())
    make("first")
    put_all("again")
    enrol.commit(*receipt("again"))
    make("second")
    assert taken(endorsed("second")) == FOREIGN
    assert taken(endorsed("from another")) is None


def test_the_check_of_an_endorsement_yields():
    enrolled()
    make("second")
    data = endorsed("second")
    enrol.put(0, data)
    steps = list(enrol.committing(len(data), binascii.crc32(data)))
    assert len(steps) > 256 and not any(steps)
    assert identity.load().fingerprint == FINGERPRINTS["second"]


def test_an_authority_without_a_key_of_ours_endorses_nothing():
    flash = use(Flash())
    payload = identity.begun(1, NODE_ID, key("first")) + fields("first")
    payload = payload.replace(csr._PUBLIC, bytes(len(csr._PUBLIC)))
    flash.writeblocks(0, identity.header(1, payload) + payload, 0)
    make("second")
    said = "the authority of this node cannot endorse anything: no public key on P-256"
    assert taken(endorsed("second")) == said


def test_over_the_network_there_is_no_first_identity():
    use(Flash())
    make("first")
    assert taken(endorsed("second")) == MISSING


def test_commit_of_what_was_not_put():
    use(Flash())
    make("first")
    put_all("first")
    length, crc = receipt("first")
    another = "what was put has another CRC: put all again, from 0"
    assert refused(enrol.commit, length, crc ^ 1) == another
    assert refused(enrol.commit, length - 1, crc) == another
    assert refused(enrol.commit, length + 1, crc) == another
    assert refused(enrol.commit, 9000, crc) == "9000 bytes are more than a slot has"
    assert refused(enrol.commit, -1, crc) == "-1 bytes are more than a slot has"
    assert enrol.commit(length, crc) == FINGERPRINTS["first"]


def test_commit_of_what_is_no_identity():
    none = "what was put makes no identity: "
    for name, said in (
        ("second", "the certificate is for another key than the one that waits"),
        ("no CA", none + "no trusted CA"),
        ("no certificate", none + "no certificate"),
        ("another key too", none + "more than one private key"),
        ("junk for a certificate", none + "identity of n01 is unusable: invalid cert"),
        ("junk for a CA", none + "identity of n01 is unusable: invalid cert"),
    ):
        flash = use(Flash())
        make("first")
        put_all(name)
        assert refused(enrol.commit, *receipt(name)) == said, name
        assert words(flash) == ["pending", "blank"]
        put_all("first")
        assert enrol.commit(*receipt("first")) == FINGERPRINTS["first"], name
    use(Flash())
    make("first")
    enrol.put(0, b"\x03\xff")
    assert refused(enrol.commit, 2, binascii.crc32(b"\x03\xff")) == none + "truncated TLV"


def test_orders_out_of_turn():
    use(Flash())
    no_key = "no key waits for a certificate: ask for one first"
    assert refused(enrol.put, 0, b"x") == no_key
    assert refused(enrol.commit, 0, 0) == no_key
    assert refused(enrol.copy) == "there is no identity whose key could be kept: ask for a new key"
    assert refused(enrol.settle, True) == "there is no identity that could be kept"
    assert refused(enrol.request, "n 01") == "'n 01' is no node id"
    assert refused(enrol.request, "") == "'' is no node id"
    enrolled()
    assert refused(enrol.put, 0, b"x") == no_key
    assert refused(enrol.commit, 0, 0) == no_key
    on_trial()
    trial = "an identity is on trial: settle that first"
    assert refused(enrol.put, 0, b"x") == trial
    assert refused(enrol.commit, 0, 0) == trial
    assert refused(enrol.copy) == trial
    assert refused(enrol.request, NODE_ID) == trial


def test_pieces_beyond_the_slot():
    use(Flash())
    make("first")
    room = SLOT - 20 - len(identity.begun(1, NODE_ID, key("first")))
    enrol.put(room - 1, b"x")
    assert refused(enrol.put, room, b"x") == "1 bytes at %d are beyond the slot" % room
    assert refused(enrol.put, -1, b"x") == "1 bytes at -1 are beyond the slot"
    assert refused(enrol.put, 0, bytes(8192)) == "8192 bytes at 0 are beyond the slot"


def test_settle_without_a_trial_changes_nothing():
    flash = enrolled()
    make("second")
    before = bytes(flash.data)
    enrol.settle(True)
    enrol.settle(False)
    assert bytes(flash.data) == before


def test_settle_clears_what_is_damaged():
    flash = on_trial()
    flash.data[SLOT + 30] ^= 1
    assert identity.load().damage == "slot 1: CRC mismatch"
    enrol.settle(True)
    assert identity.load().damage is None and words(flash) == [FINGERPRINTS["first"], "blank"]


def test_the_key_of_a_slot_that_has_rotted_is_not_used_again():
    flash = on_trial()
    enrol.settle(True)
    make("first")
    put_all("first")
    enrol.commit(*receipt("first"))
    flash.data[SLOT + 3] ^= 1  # the older one
    with Drawn("second") as drawn:
        enrol.request(NODE_ID)
    assert len(drawn.radio) == 1


def test_a_header_that_was_torn_is_completed():
    flash = use(Flash())
    make("first")
    put_all("first")
    whole = flash.copy()
    use(whole)
    enrol.commit(*receipt("first"))
    for done in (1, 4, 10, 19):
        torn = use(flash.copy())
        torn.data[:done] = whole.data[:done]
        with Drawn("second") as drawn:
            enrol.request(NODE_ID)
        put_all("first")
        assert enrol.commit(*receipt("first")) == FINGERPRINTS["first"], done
        assert not drawn.radio and torn.data == whole.data


def test_a_torn_header_of_another_identity_is_replaced():
    flash = use(Flash())
    make("first")
    put_all("first")
    flash.data[:20] = b"\x00" * 20
    assert enrol.commit(*receipt("first")) == FINGERPRINTS["first"]
    assert identity.load().key == key("first")


def test_flash_that_does_not_keep_what_is_written():
    flash = use(Flash())
    make("first")
    flash.chip.read_only = True
    try:
        enrol.put(0, b"x")
    except OSError as error:
        assert "does not keep" in str(error)
        return
    raise AssertionError("it was not noticed")


def test_no_partition():
    use(None)
    for call, args in (
        (enrol.request, ("n01",)),
        (enrol.copy, ()),
        (enrol.put, (0, b"x")),
        (enrol.commit, (0, 0)),
        (enrol.settle, (True,)),
    ):
        try:
            call(*args)
        except identity.IdentityError as error:
            assert str(error) == "no partition labelled identity"
        else:
            raise AssertionError(call)


def test_no_text_has_a_key_in_it():
    d = VECTORS["keys"]["first"]
    for der in (key("first"), bytes.fromhex(d)):
        texts = []
        use(Flash())
        make("first")
        for call, args in ((enrol.put, (-1, der)), (enrol.commit, (1, 1)), (enrol.put, (9000, der))):
            texts.append(refused(call, *args))
        flash = enrolled()
        who = identity.read(flash)
        texts += [str(who), repr(who), repr(enrol), str(enrol._spare())]
        for text in texts:
            assert d not in text and repr(der) not in text and str(der)[4:40] not in text, text
