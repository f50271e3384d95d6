"""The power fails at each flash operation while an identity is written, rotated, copied, settled."""

from _flash import Dice, PowerCut
from enrolling import FINGERPRINTS, NODE_ID, Drawn, Flash, pieces, receipt, use
from limpet import enrol, identity
from marks import security

TEARS = 8  # ways in which each operation is torn; tests/host/test_enrol.py can try more
ROUNDS = 60
SEED = 5
CAS = {"first": 1, "retrust": 2, "second": 2}


def put_all(name):
    for at, piece in pieces(name):
        enrol.put(at, piece)


def the(name):
    """What tells an identity of the vectors from the others: fingerprint and number of trusted CAs."""
    return FINGERPRINTS[name], CAS[name]


def held(flash):
    """The valid identities, the newest first."""
    return [(each.fingerprint, len(each.cas)) for each in identity.newest_first(identity.slots(flash))]


def enrol_as(name, ask):
    """What host and node do until the node has that identity and no other; it begins wherever they stand."""
    if held(identity.find())[:1] != [the(name)]:
        ask()
        put_all(name)
        enrol.commit(*receipt(name))
    enrol.settle(True)


def new_key(name):
    def ask():
        with Drawn(name):
            enrol.request(NODE_ID)

    return ask


def settled(name="first"):
    flash = use(Flash())
    enrol_as(name, new_key(name))
    return flash


def on_trial():
    flash = settled()
    new_key("second")()
    put_all("second")
    enrol.commit(*receipt("second"))
    return flash


def fully_used(flash):
    """The same with all of the spare slot in use, so that both its sectors take an erase."""
    spare = 1 - identity.read(flash).slot
    flash.data[spare * 0x2000 + 3000 : (spare + 1) * 0x2000] = bytes(0x2000 - 3000)
    return flash


def campaign(start, work, after, tears):
    """Cut the power at each operation of `work`, in each way; run it again after that.

    `start` makes the flash that it begins with, `after` says whether what is there at the end is right.
    """
    original = start()
    before = held(original)
    whole = use(original.copy())
    whole.power_on()
    work()
    after(whole)
    allowed = before + held(whole)
    assert whole.operations
    for operation in range(1, whole.operations + 1):
        for how, seed in [("before", 0), ("after", 0)] + [("torn", seed) for seed in range(tears)]:
            case = (operation, how, seed)
            flash = use(original.copy())
            flash.power_on(case)
            try:
                work()
            except PowerCut:
                pass
            else:
                raise AssertionError("no power cut at %s" % (case,))
            flash = use(flash.copy())
            found = held(flash)
            assert found or not before, case
            assert all(each in allowed for each in found), case
            work()
            after(flash)


def settles_on(name):
    def after(flash):
        assert held(flash) == [the(name)]
        who = identity.read(flash)
        assert not who.trial and who.damage is None and not who.pending
        who.context()

    return after


@security(7, "IEC 62443-4-2 CR 3.4", "ETSI EN 303 645 5.4-1")
def test_first_identity():
    """Whenever the power fails while a first identity is written, the node has none or the whole one."""
    campaign(lambda: use(Flash()), lambda: enrol_as("first", new_key("first")), settles_on("first"), TEARS)


@security(7, "IEC 62443-4-2 CR 3.4", "ETSI EN 303 645 5.4-1")
def test_rotation():
    """Whenever the power fails while an identity is rotated, the node has the old one or the new."""
    campaign(
        lambda: fully_used(settled()),
        lambda: enrol_as("second", new_key("second")),
        settles_on("second"),
        TEARS,
    )


@security(7, "IEC 62443-4-2 CR 3.4", "ETSI EN 303 645 5.4-1")
def test_rotation_from_the_second_slot():
    """The same where the identity that counts is in the second slot."""

    def start():
        settled()
        enrol_as("second", new_key("second"))
        return identity.find()

    campaign(start, lambda: enrol_as("first", new_key("first")), settles_on("first"), TEARS)


@security(7, "IEC 62443-4-2 CR 3.4", "ETSI EN 303 645 5.4-1")
def test_trusted_cas():
    """Whenever the power fails while trusted CAs are rotated, the node trusts the old or the new ones."""
    campaign(settled, lambda: enrol_as("retrust", enrol.copy), settles_on("retrust"), TEARS)


@security(7, "IEC 62443-4-2 CR 3.4", "ETSI EN 303 645 5.4-1")
def test_other_certificates_for_a_key_that_waits():
    """Whenever the power fails while certificates are put in the place of others, the old identity stands."""

    def start():
        flash = settled()
        new_key("second")()
        put_all("first")
        return flash

    campaign(start, lambda: enrol_as("second", new_key("second")), settles_on("second"), TEARS)


@security(7, "IEC 62443-4-2 CR 3.4", "ETSI EN 303 645 5.4-1")
def test_going_back():
    """Whenever the power fails while a new identity that failed is erased, the node has the old one."""

    def work():
        if len(held(identity.find())) == 2 or identity.load().damage:
            enrol.settle(False)

    def start():
        flash = on_trial()
        flash.data[0x3000:0x4000] = bytes(0x1000)
        return flash

    campaign(start, work, settles_on("first"), TEARS)


@security(7, "IEC 62443-4-2 CR 3.4", "ETSI EN 303 645 5.4-1")
def test_one_power_cut_after_the_other():
    """Rotations that are cut off at random, again and again, leave a valid identity each time."""
    flash = settled()
    dice = Dice(SEED)
    names = ("first", "second", "retrust")
    finished = 0
    for i in range(ROUNDS):
        before = held(flash)
        name = names[i % 3]
        wanted = [before[0], the(name)]
        ask = new_key(name)
        if name == "retrust":  # under the key of "first", wherever that has come to
            enrol_as("first", new_key("first"))
            ask, wanted = enrol.copy, [the("first"), the(name)]
        while True:
            flash = use(flash.copy())
            cut = 1 + dice.below(14), ("before", "torn", "torn", "after")[dice.below(4)], dice.below(1000)
            flash.power_on(cut)
            try:
                enrol_as(name, ask)
            except PowerCut:
                flash = use(flash.copy())
                assert held(flash) and all(each in wanted for each in held(flash)), (i, cut)
            else:
                break
        flash = use(flash.copy())
        settles_on(name)(flash)
        finished += 1
    assert finished == ROUNDS
