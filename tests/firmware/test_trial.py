"""limpet.trial: which of two identities has its turn, and which of them stays."""

import sys

import limpet
from limpet.trial import Trial

REFUSED = "refused 5"
AWAY = None


class IdentityError(Exception):
    pass


class Identity:
    """What limpet.identity has: two identities, of which some cannot be used."""

    IdentityError = IdentityError

    def __init__(self, bad=(), older_id="n01"):
        self.loads = []
        self._bad = bad
        self._older_id = older_id

    def load(self, older):
        self.loads.append(older)
        self.fingerprint = "old" if older else "new"
        self.node_id = self._older_id if older else "n01"
        return self

    def context(self):
        if self.fingerprint in self._bad:
            raise IdentityError("unusable")
        return "context of the %s one" % self.fingerprint


class Enrol:
    def __init__(self):
        self.settled = []

    def settle(self, keep_new):
        self.settled.append(keep_new)


class Session:
    ssl = "context of before"


def install(identity=None, enrol=None):
    for name, module in (("identity", identity or Identity()), ("enrol", enrol or Enrol())):
        sys.modules["limpet." + name] = module
        setattr(limpet, name, module)


def equip(trial, session):
    """As the node does it; True if there is a context to connect with."""
    install()
    try:
        trial.equip(session)
        return True
    except IdentityError:
        return False


def verdict(trial):
    """What got_in() decides: True, the new one stays; False, the older one; None, nothing yet."""
    enrol = Enrol()
    install(enrol=enrol)
    told = trial.got_in()
    assert (told is not None) == bool(enrol.settled)
    return enrol.settled[0] if enrol.settled else None


def test_the_new_one_comes_first_and_its_first_entry_ends_it():
    trial = Trial("n01")
    assert not trial.older
    assert verdict(trial) is True


def test_they_take_turns_as_long_as_neither_gets_in():
    for why in (AWAY, REFUSED):
        trial = Trial("n01")
        turns = []
        for _ in range(6):
            turns.append(trial.older)
            trial.failed(why)
        assert turns == [False, True] * 3
        trial = Trial("n01")
        trial.failed(why)
        trial.failed(why)
        assert verdict(trial) is True


def test_a_new_one_that_is_refused_where_the_older_one_gets_in_is_given_up_the_second_time():
    trial = Trial("n01")
    trial.failed(REFUSED)
    assert trial.older
    assert verdict(trial) is None
    assert not trial.older  # once more: the broker may just have been starting
    trial.failed("other words")
    install()
    told = trial.got_in()
    assert told == "the new certificate is given up (other words); the old one stays"


def test_a_new_one_that_gets_in_the_second_time_stays():
    trial = Trial("n01")
    trial.failed(REFUSED)
    assert verdict(trial) is None
    assert verdict(trial) is True


def test_a_broker_that_was_away_is_no_reason_to_give_it_up():
    trial = Trial("n01")
    for _ in range(5):
        trial.failed(AWAY)
        assert trial.older
        assert verdict(trial) is None
        assert not trial.older
    trial.failed(REFUSED)
    assert verdict(trial) is None
    trial.failed(AWAY)  # the count begins anew
    assert verdict(trial) is None
    trial.failed(REFUSED)
    assert verdict(trial) is None
    trial.failed(REFUSED)
    assert verdict(trial) is False


def test_whatever_happens_it_ends_only_for_a_reason():
    happens = ("in", AWAY, REFUSED)
    ends = {True: 0, False: 0}
    for number in range(3**7):
        trial = Trial("n01")
        refusals = 0  # in a row, each with an entry of the older one behind it
        was_refused = False
        for turn in range(7):
            event = happens[number // 3**turn % 3]
            older = trial.older
            if event != "in":
                trial.failed(event)
                assert trial.older != older
                if not older:
                    was_refused = event is REFUSED
                continue
            ended = verdict(trial)
            if older:
                refusals = refusals + 1 if was_refused else 0
                assert (ended is False) == (refusals == 2)
                assert ended is not True
            else:
                assert ended is True
            if ended is not None:
                ends[ended] += 1
                break
    assert ends[True] > 1000 and ends[False] > 10, ends


def test_the_context_is_made_when_the_turn_changes_and_no_other_time():
    session = Session()
    identity = Identity()
    trial = Trial("n01")
    for older in (False, False, True, True, False):
        trial.older = older
        install(identity)
        assert trial.equip(session) == ("old" if older else "new")
        assert session.ssl == "context of the %s one" % ("old" if older else "new")
    assert identity.loads == [False, True, False]
    assert "limpet.identity" not in sys.modules
    assert not hasattr(limpet, "identity")


def test_there_is_never_room_for_two_contexts():
    class Watched:
        def __setattr__(self, name, value):
            seen.append(value)

    seen = []
    install()
    Trial("n01").equip(Watched())
    assert seen == [None, "context of the new one"]


def test_an_identity_that_cannot_be_used_raises_and_leaves_no_context():
    session = Session()
    trial = Trial("n01")
    install(Identity(bad=("new",)))
    try:
        trial.equip(session)
    except IdentityError:
        assert session.ssl is None
    else:
        raise AssertionError
    trial.failed("unusable")
    assert equip(trial, session)
    assert session.ssl == "context of the old one"


def test_an_older_identity_of_another_node_is_not_used():
    session = Session()
    trial = Trial("n01")
    trial.failed(AWAY)
    install(Identity(older_id="n02"))
    try:
        trial.equip(session)
    except IdentityError as e:
        assert str(e) == "the other identity is of another node"
    else:
        raise AssertionError
    assert session.ssl is None


def test_a_long_reason_is_cut():
    trial = Trial("n01")
    for _ in range(2):
        trial.failed("x" * 500)
        install()
        told = trial.got_in()
    assert len(told) <= 250
