import gc
import io

import limpet
from limpet import answerback
from limpet.answerback import Answerback

SYN = b"\x16"
GET_READY = 3  # MP_STREAM_POLL
WHO = ("limpet", limpet.__version__, "node", "n01")


class Stdin(io.IOBase):
    """The serial port's side of sys.stdin: what was typed and not read yet. select.poll() is the real one."""

    def __init__(self):
        self.buffer = self
        self.typed = bytearray()
        self.reads = 0
        self.has_ended = False

    def readinto(self, into):
        self.reads += 1
        if not self.typed:
            assert self.has_ended, "it would wait for ever"
            return 0
        into[0] = self.typed[0]
        self.typed = self.typed[1:]
        return 1

    def ioctl(self, request, flags):
        if request != GET_READY:
            return -1
        return flags & 1 if self.typed or self.has_ended else 0


class Time:
    """Time in which typing happens: at each sleep one more of `typed`."""

    def __init__(self, stdin, typed=()):
        self.slept = 0
        self._stdin = stdin
        self._typed = list(typed)

    def sleep_ms(self, ms):
        self.slept += ms
        if self._typed:
            self._stdin.typed += self._typed.pop(0)


said = []


def make(node_id="n01"):
    class Sys:
        stdin = Stdin()

    answerback.sys = Sys
    answerback.print = lambda *words: said.append(words)
    said.clear()
    made = Answerback()
    made.node_id = node_id
    return made, made.run(), Sys.stdin


def test_it_answers_to_syn_once_and_to_nothing_else():
    _, turns, stdin = make()
    next(turns)
    stdin.typed += b"\r\nhello\x01\x02\x04\x05\xff"
    next(turns)
    assert said == []
    stdin.typed += SYN
    next(turns)
    next(turns)
    assert said == [WHO]


def test_of_a_locked_node_it_tells_the_profile():
    make()
    made = Answerback(True)
    turns = made.run()
    next(turns)
    answerback.sys.stdin.typed += SYN
    made.node_id = "n01"
    next(turns)
    assert " ".join(said[0]) == "limpet %s node n01 production" % limpet.__version__


def test_it_looks_a_few_times_a_second_at_most():
    _, turns, stdin = make()
    stdin.typed += SYN
    for _ in range(3):
        assert 200 <= next(turns) <= 500


def test_many_questions_at_once_get_one_answer():
    _, turns, stdin = make()
    stdin.typed += SYN * 20
    next(turns)
    next(turns)
    assert said == [WHO]


def test_a_flood_is_read_in_parts_and_the_question_behind_it_is_heard():
    _, turns, stdin = make()
    stdin.typed += b"U" * 200 + SYN
    next(turns)
    assert stdin.reads <= 64
    assert said == []
    for _ in range(3):
        next(turns)
    assert said == [WHO]
    assert not stdin.typed


def test_without_an_identity_there_is_an_answer_too():
    _, turns, stdin = make(None)
    stdin.typed += SYN
    next(turns)
    assert said == [("limpet", limpet.__version__, "node", "-")]


def test_a_port_at_its_end_has_asked_nothing():
    _, turns, stdin = make()
    stdin.typed += SYN
    next(turns)
    stdin.has_ended = True
    reads = stdin.reads
    next(turns)
    assert said == [WHO]
    assert stdin.reads == reads + 1


def test_nothing_is_allocated_while_nobody_asks():
    _, turns, _stdin = make()
    for _ in range(3):
        next(turns)
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    for _ in range(50):
        next(turns)
    grown = gc.mem_alloc() - before
    gc.enable()
    assert grown == 0, grown


def test_a_node_that_cannot_start_answers_while_it_waits():
    made, _, stdin = make(None)
    answerback.time = Time(stdin, [b"", SYN, b"", SYN])
    made.wait(2000)
    assert answerback.time.slept == 2000
    assert [words[3] for words in said] == ["-", "-"]
