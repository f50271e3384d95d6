import io
import sys

from limpet import tasks
from limpet.tasks import Task, run


class Time:
    """Time that stands still but for sleeping, and wraps as on the ESP32."""

    PERIOD = 1 << 30

    def __init__(self, ticks=0, until=None):
        self.ticks = ticks
        self.slept = []
        self._until = until

    def ticks_ms(self):
        return self.ticks % self.PERIOD

    def ticks_add(self, a, b):
        return (a + b) % self.PERIOD

    def ticks_diff(self, a, b):
        return (a - b + self.PERIOD // 2) % self.PERIOD - self.PERIOD // 2

    def sleep_ms(self, ms):
        assert ms >= 0
        self.slept.append(ms)
        self.ticks += ms
        if self._until is not None and self.ticks >= self._until:
            raise KeyboardInterrupt


class Part:
    def __init__(self, steps):
        self._steps = steps
        self.starts = 0

    def run(self):
        self.starts += 1
        return self._steps(self.starts)


def run_for(ms, *named, start=0):
    """Run parts for a time; the stand-in for `time`. What they said goes nowhere."""
    tasks.time = Time(start, start + ms)
    tasks.log = lambda who, what: said.append((who, what))
    said.clear()
    try:
        run([Task(name, part) for name, part in named])
    except KeyboardInterrupt:
        pass
    return tasks.time


said = []


def test_tasks_take_turns_each_in_its_own_time():
    turns = []

    def every(ms, name):
        def steps(_):
            while True:
                turns.append((tasks.time.ticks, name))
                yield ms

        return Part(steps)

    run_for(100, ("a", every(10, "a")), ("b", every(25, "b")))
    assert [t for t, name in turns if name == "a"] == list(range(0, 100, 10))
    assert [t for t, name in turns if name == "b"] == [0, 25, 50, 75]


def test_it_sleeps_until_the_first_that_is_due_and_a_second_at_most():
    def slow(_):
        while True:
            yield 300000

    time = run_for(5000, ("a", Part(slow)))
    assert time.slept == [1000] * 5


def test_a_task_that_never_waits_does_not_keep_the_others_from_their_turns():
    turns = [0, 0]

    def busy(_):
        while True:
            turns[0] += 1
            tasks.time.ticks += 1  # it takes a millisecond
            yield 0

    def other(_):
        while True:
            turns[1] += 1
            yield 10

    run_for(1000, ("busy", Part(busy)), ("other", Part(other)))
    assert turns[1] >= 90 and turns[0] >= 900, turns


def test_a_part_that_fails_starts_again_after_a_second_and_the_others_go_on():
    healthy = []

    def fails(start):
        yield 10
        raise [ValueError("odd"), MemoryError(), KeyError(1), ZeroDivisionError()][start % 4]

    def goes_on(_):
        while True:
            healthy.append(tasks.time.ticks)
            yield 100

    part = Part(fails)
    run_for(5000, ("bad", part), ("good", Part(goes_on)))
    assert healthy == list(range(0, 5000, 100))
    assert said == [("bad", "failed, starts again")] * 5  # at 10, 1020, 2030, 3040 and 4050 ms


def test_a_part_that_just_ends_starts_again():
    def ends(_):
        yield 10

    part = Part(ends)
    run_for(3500, ("ends", part))
    assert part.starts == 1 + 4


def test_ctrl_c_ends_all():
    def interrupted(_):
        yield 5
        raise KeyboardInterrupt

    tasks.time = Time()
    part = Part(interrupted)
    try:
        run([Task("a", part)])
    except KeyboardInterrupt:
        assert part.starts == 1
    else:
        raise AssertionError("it went on")


def test_deadlines_hold_over_the_wrap_of_ticks():
    turns = []

    def steps(_):
        while True:
            turns.append(tasks.time.ticks)
            yield 40

    start = (1 << 30) - 100
    run_for(400, ("a", Part(steps)), start=start)
    assert [t - start for t in turns] == list(range(0, 400, 40))


def test_a_failure_is_told_with_its_traceback():
    def fails(_):
        raise ValueError("the reason")
        yield

    text = io.StringIO()
    printed = sys.print_exception

    class Sys:
        def print_exception(self, e):
            printed(e, text)

    tasks.sys = Sys()
    run_for(10, ("bad", Part(fails)))
    tasks.sys = sys
    assert "Traceback" in text.getvalue() and "the reason" in text.getvalue()
