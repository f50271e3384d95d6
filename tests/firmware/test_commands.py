"""limpet.commands and limpet.orders: each command, each way to get one wrong, and what is loaded for it."""

import binascii
import json
import sys

import limpet
from limpet import commands
from limpet.commands import Commands
from limpet.forget import forget

CODE = ("limpet.orders", "limpet.enrol", "limpet.identity", "limpet.csr", "limpet.p256")


class EnrolError(Exception):
    pass


class Enrol:
    """What limpet.enrol has."""

    def __init__(self, steps=(0, 100, 0), fails=None):
        self.calls = []
        self.closed = False
        self._steps = steps
        self._fails = fails

    def making(self, node_id):
        self.calls.append(("making", node_id))
        try:
            for step in self._steps:
                yield step
            if self._fails:
                raise self._fails
        finally:
            self.closed = True
        return b"\x30\x00" + bytes(range(100))

    def copying(self):
        self.calls.append(("copying",))
        yield 0

    def put(self, offset, data):
        if self._fails:
            raise self._fails
        self.calls.append(("put", offset, data))

    def committing(self, length, crc):
        self.calls.append(("committing", length, crc))
        for step in self._steps:
            yield step
        if self._fails:
            raise self._fails
        return "ab" * 32

    def sequence(self):
        return 7


class Identity:
    def __init__(self, trial=True, pending=False):
        self.fingerprint = "cd" * 32
        self.trial = trial
        self.pending = pending

    def load(self):
        return self


class Uplink:
    command = answer = None
    renewed = False

    def health(self):
        return '{"uptime":1}'


class Time:
    now = 0

    def ticks_ms(self):
        return self.now

    def ticks_diff(self, a, b):
        return a - b


def make(enrol=None, identity=None):
    """Commands with a fake of the modules for identities, as if they had just been loaded."""
    uplink = Uplink()
    made = Commands(uplink, "n01")
    forget(("orders",))
    for name, module in (("enrol", enrol or Enrol()), ("identity", identity or Identity())):
        sys.modules["limpet." + name] = module
        setattr(limpet, name, module)
    from limpet import orders

    commands.time = orders.time = Time()
    return uplink, made.run()


def answer(payload, enrol=None, identity=None):
    uplink, steps = make(enrol, identity)
    uplink.command = ("a1", payload)
    for _ in range(200):
        commands.time.now += next(steps)
        if uplink.answer is not None:
            return json.loads(uplink.answer)
    raise AssertionError("no answer")


def test_health_needs_no_code_for_identities():
    uplink, steps = make()
    forget(("orders", "enrol", "identity"))
    uplink.command = ("a1", b"health")
    next(steps)
    assert uplink.answer == '{"uptime":1}'
    assert not any(name in sys.modules for name in CODE)


def test_key_gives_the_request_of_this_node():
    enrol = Enrol()
    told = answer(b"key", enrol)
    assert binascii.a2b_base64(told["csr"]) == b"\x30\x00" + bytes(range(100))
    assert sorted(told) == ["csr", "sequence"] and told["sequence"] == 7
    assert enrol.calls == [("making", "n01")]


def test_key_same_keeps_the_key():
    enrol = Enrol()
    assert answer(b"key same", enrol) == {"ok": True, "sequence": 7}
    assert enrol.calls == [("copying",)]


def test_put_takes_any_bytes():
    for data in (b"x", b" ", b"\x00", b" 1 2 ", bytes(range(256))[:130]):
        enrol = Enrol()
        assert answer(b"put 17 " + data, enrol) == {"at": 17 + len(data)}
        assert enrol.calls == [("put", 17, data)]


def test_use_begins_the_trial():
    for trial in (True, False):  # the same order may come again, when all is settled
        enrol = Enrol()
        uplink, steps = make(enrol, Identity(trial))
        uplink.command = ("a1", b"use 892 0a1B2c3D")
        while uplink.answer is None:
            next(steps)
        assert json.loads(uplink.answer) == {"ok": True, "fingerprint": "ab" * 32}
        assert enrol.calls == [("committing", 892, 0x0A1B2C3D)]
        assert uplink.renewed is trial


def test_identity_tells_of_the_partition():
    told = answer(b"identity", identity=Identity(False, True))
    assert told == {"fingerprint": "cd" * 32, "trial": False, "pending": True}


MALFORMED = (
    b"",
    b" ",
    b"keys",
    b"key other",
    b"key same ",
    b"KEY",
    b"health now",
    b"health ",
    b"identity 1",
    b"put",
    b"put ",
    b"put 1",
    b"put 1 ",
    b"put -1 x",
    b"put +1 x",
    b"put x x",
    b"put 0x1 x",
    b"put 1.5 x",
    b"put 123456 x",
    b"put  1 x",
    b"put \xff x",
    b"use",
    b"use 1",
    b"use 1 ",
    b"use 1 0a1b2c3",
    b"use 1 0a1b2c3d4",
    b"use 1 0a1b2c3g",
    b"use 1 -a1b2c3d",
    b"use 1 0a1b2c3d ",
    b"use -1 0a1b2c3d",
    b"use x 0a1b2c3d",
    b"use 999999 0a1b2c3d",
    b"\x00\xff\xfe",
    b"x" * 240,
)


def test_malformed_commands_get_one_sentence_and_do_nothing():
    for payload in MALFORMED:
        enrol = Enrol()
        told = answer(payload, enrol)
        assert list(told) == ["error"], (payload, told)
        assert 0 < len(told["error"]) <= 250 and "\n" not in told["error"]
        assert enrol.calls == [], payload


def test_every_byte_string_is_answered():
    seed = 1
    for _ in range(300):
        seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
        name = (b"key", b"put", b"use", b"identity", b"health", b"")[seed % 6]
        rest = bytes((seed >> (i % 16)) * (i + 1) & 0xFF for i in range(seed % 23))
        answer(name + b" " + rest)


def test_what_enrolment_refuses_is_told_in_its_words():
    told = answer(b"put 5 abc", Enrol(fails=EnrolError('no key waits: ask for "key" first')))
    assert told == {"error": 'no key waits: ask for "key" first'}
    assert answer(b"key", Enrol(fails=OSError(5)))["error"]
    assert answer(b"use 1 00000000", Enrol(fails=MemoryError()))["error"] == "MemoryError"
    assert answer(b"key", Enrol(fails=ValueError()))["error"] == "ValueError"


def test_a_command_that_failed_began_no_trial():
    uplink, steps = make(Enrol(fails=EnrolError("CRC")))
    uplink.command = ("a1", b"use 1 00000000")
    while uplink.answer is None:
        next(steps)
    assert not uplink.renewed


def test_between_the_steps_of_a_key_others_have_their_turn():
    uplink, steps = make(Enrol(steps=range(50)))
    uplink.command = ("a1", b"key")
    turns = []
    while uplink.answer is None:
        turns.append(next(steps))
    assert turns[:50] == list(range(50))


def test_a_key_that_takes_too_long_is_given_up():
    enrol = Enrol(steps=[1000] * 1000)
    uplink, steps = make(enrol)
    uplink.command = ("a1", b"key")
    for _ in range(300):
        commands.time.now += next(steps)
    assert json.loads(uplink.answer) == {"error": "it took too long"}
    assert enrol.closed


def test_the_answer_waits_until_it_is_taken_and_the_next_command_with_it():
    enrol = Enrol()
    uplink, steps = make(enrol)
    uplink.command = ("a1", b"key same")
    for _ in range(10):
        next(steps)
    assert uplink.answer and len(enrol.calls) == 1
    uplink.command = uplink.answer = None
    uplink.command = ("a2", b"key same")
    for _ in range(10):
        next(steps)
    assert len(enrol.calls) == 2


def test_the_code_is_thrown_away_when_nobody_has_needed_it_for_a_while():
    uplink, steps = make()
    uplink.command = ("a1", b"identity")
    while uplink.answer is None:
        next(steps)
    uplink.command = uplink.answer = None
    for _ in range(10):
        commands.time.now += next(steps)
    assert "limpet.enrol" in sys.modules  # the next part of a rotation may come
    for _ in range(1000):
        commands.time.now += next(steps)
    assert not any(name in sys.modules for name in CODE)
    assert not hasattr(limpet, "enrol")


def test_waiting_costs_a_look_now_and_then():
    _, steps = make()
    assert all(20 <= next(steps) <= 100 for _ in range(5))
