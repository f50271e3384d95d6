"""The listener hears a board from its first moment on, whatever happens to the port, and never resets it."""

import contextlib
import re
import time

import pytest

from host_tools.devices.port import Port
from host_tools.hil import listener
from host_tools.hil.board import HilError
from host_tools.hil.listener import Listener
from host_tools.hil.timeline import Timeline
from host_tools.line import open_line
from host_tools.virtual.bench import Bench
from tests.host.stand import wait_until
from tests.host.virtual_rig import Rig, compose

SAYS = """
import sys
print("started")
while True:
    word = sys.stdin.readline().strip()
    print("heard", word)
"""


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    with Bench() as bench:
        flash = compose({"main.py": SAYS.encode()})
        yield Rig(bench, tmp_path_factory.mktemp("rig") / "flash.bin", flash, rfc2217=("127.0.0.1", 0))


@contextlib.contextmanager
def listening(name, timeline=None):
    heard = Listener(Port(name, named=True), timeline or Timeline())
    try:
        yield heard
    finally:
        heard.close()


@pytest.fixture
def log(rig):
    with listening(rig.url) as heard:
        heard.wait_until_open()
        yield heard


def test_opening_the_port_does_not_reset_the_board(rig):
    rig.says("started")
    boots = rig.board.boots
    with listening(rig.url) as log:
        log.write(b"one\n")
        log.wait_for("heard one")
    with listening(rig.url) as log:
        log.write(b"two\n")
        log.wait_for("heard two")
    assert rig.board.boots == boots


def test_each_line_is_in_the_timeline_when_it_came(rig):
    timeline = Timeline()
    before = time.time()
    with listening(rig.url, timeline) as log:
        log.write(b"three\n")
        log.wait_for("heard three\n")
        wait_until(lambda: "heard three" in [event.text for event in timeline.events()], "the line")
    [event] = [event for event in timeline.events() if event.text == "heard three"]
    assert event.source == "serial"
    assert before <= event.at <= time.time()


def test_a_mark_is_a_place_in_the_log(log):
    log.write(b"four\n")
    log.wait_for("heard four\n")
    mark = log.mark()
    log.write(b"five\n")
    log.wait_for("heard five\n", mark)
    assert log.after(mark).endswith("heard five\n")
    assert "four" not in log.after(mark)


def test_what_does_not_come_is_told_with_the_last_words(log):
    log.write(b"six\n")
    log.wait_for("heard six\n")
    with pytest.raises(
        AssertionError, match=r"^not within 0.05 s: 'seven'; the board said:\n(.*\n)*heard six$"
    ):
        log.wait_for("seven", seconds=0.05)
    assert log.find("seven", 0.0) is None


def test_silence_is_told_too(log):
    with pytest.raises(AssertionError, match=r"the board said:\n\(nothing\)$"):
        log.wait_for("eight", since=log.mark(), seconds=0.01)


def test_a_pattern_counts_in_whole_lines_alone(log):
    """Else it matches less than the board is about to say."""
    log._keep(b"count 12")
    assert log.find(re.compile(r"count (\d+)"), 0.01) is None
    assert log.find("count 12", 0.01)
    log._keep(b"34\r\n")
    assert log.wait_for(re.compile(r"count (\d+)"))[1] == "1234"


def test_the_port_comes_back_by_itself(rig, log):
    log.write(b"nine\n")
    log.wait_for("heard nine\n")
    mark = log.mark()
    rig.faults(vanish=0.3)
    wait_until(lambda: not log.is_open, "the port being gone")
    log.write(b"ten\n")  # waits for the port
    log.wait_for("heard ten\n", mark)
    assert "heard nine\n" in log.text


def test_it_hears_the_whole_boot_after_a_power_cut(rig, log):
    rig.power_off()
    log.settle()
    log.begin()
    rig.power_on()
    log.wait_for("started")
    assert log.after(log.since).startswith("ets ")


def test_the_port_is_lent(rig, log):
    with log.paused() as name:
        assert name == rig.url
        assert not log.is_open
        line = open_line(name)
        line.write(b"eleven\n")
        line.close()
        with log.paused() as again:  # a program of a program
            assert again == name
        assert not log.is_open
    mark = log.mark()
    log.write(b"twelve\n")
    log.wait_for("heard twelve\n", mark)
    assert "eleven" not in log.text


def test_it_presses_reset(rig, log):
    boots = rig.board.boots
    log.write(b"thirteen\n")
    log.wait_for("heard thirteen\n")
    assert log.press_reset() is True
    log.wait_for("started")  # of this start, which is what counts now
    assert "thirteen" not in log.after(log.since)
    assert rig.board.boots == boots + 1


@pytest.mark.parametrize("kind", ["terminal", "socket"])
def test_a_port_without_lines_has_no_reset(rig, kind, tmp_path):
    boots = rig.board.boots
    name = rig.port
    if kind == "socket":
        name = "socket://" + rig.url.partition("://")[2]
    with listening(name) as log:
        log.wait_until_open()
        assert log.press_reset() is False
    assert rig.board.boots == boots


def test_a_port_that_is_not_there_is_told(tmp_path):
    name = str(tmp_path / "ttyUSB0")
    with listening(name) as log:
        wait_until(lambda: "does not exist" in log._trouble, "a try")
        with pytest.raises(HilError, match=f"^{name} has not come back within 0 s: .* does not exist: plug"):
            log.wait_until_open(0)


def test_the_oldest_goes_when_it_becomes_too_much(log, monkeypatch):
    monkeypatch.setattr(listener, "_MOST", 1000)
    first = log.mark()
    log._keep(b"a" * 600)
    mark = log.mark()
    log._keep(b"b" * 600)
    assert log.after(mark) == "b" * 600
    assert len(log.text) <= 1000
    assert log.after(first).endswith("b" * 600)
    assert log.mark() == first + 1200
