"""The clock that nodes are told the time by, asked over UDP."""

import datetime
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from host_tools.errors import LimpetError, UsageError
from host_tools.hil.clock import Clock
from host_tools.hil.timeline import Timeline

NTP_TO_UNIX = 2208988800
QUESTION = bytes((0x23,)) + bytes(39) + b"\x01\x02\x03\x04\x05\x06\x07\x08"
PATIENCE, SILENCE = 20.0, 0.2  # seconds
NEAR = 10.0  # seconds that a busy machine may take from one line to the next


@pytest.fixture
def timeline() -> Timeline:
    return Timeline()


@pytest.fixture
def clock(timeline: Timeline) -> Iterator[Clock]:
    with Clock(timeline) as clock:
        yield clock


def ask(clock: Clock, patience: float = PATIENCE, address: str = "127.0.0.1") -> float:
    """What it tells, in seconds since 1970. Raises TimeoutError when it does not answer."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.settimeout(patience)
        sock.sendto(QUESTION, (address, clock.port))
        answer = sock.recv(100)
    assert answer[24:32] == QUESTION[40:]
    return float(struct.unpack(">I", answer[40:44])[0]) - NTP_TO_UNIX


def test_it_tells_this_machines_time_at_first(clock: Clock) -> None:
    assert abs(ask(clock) - time.time()) < NEAR
    assert abs(clock.now() - time.time()) < NEAR
    assert clock.asked == 1


def test_set_jump_and_clear(clock: Clock, timeline: Timeline) -> None:
    port = clock.port
    clock.set(datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC))
    assert 0 <= ask(clock) - 1893456000 < NEAR
    clock.jump(-86400)
    assert -1 < ask(clock) - (1893456000 - 86400) < NEAR
    clock.set(1.5e9)
    assert 0 <= clock.now() - 1.5e9 < NEAR
    clock.clear()
    assert abs(ask(clock) - time.time()) < NEAR
    assert clock.port == port
    assert [(each.source, each.text) for each in timeline.events()] == [
        ("clock", "set"),
        ("clock", "jump"),
        ("clock", "set"),
        ("clock", "clear"),
    ]
    ahead = timeline.events()[1].values["ahead"]
    assert isinstance(ahead, float) and abs(ahead - (1893456000 - 86400 - time.time())) < NEAR


def test_a_time_without_a_zone(clock: Clock) -> None:
    with pytest.raises(UsageError, match="2030-01-01 00:00:00 has no time zone"):
        clock.set(datetime.datetime(2030, 1, 1))
    assert abs(clock.now() - time.time()) < NEAR


def test_stop_start_and_lie(clock: Clock) -> None:
    clock.jump(1000)
    clock.stop()
    with pytest.raises(TimeoutError):
        ask(clock, SILENCE)
    clock.start()
    assert abs(ask(clock) - time.time() - 1000) < NEAR, "it is still the time that it was made to tell"
    clock.lie("nonsense")
    with pytest.raises((AssertionError, struct.error)):
        ask(clock)
    clock.clear()
    assert abs(ask(clock) - time.time()) < NEAR
    with pytest.raises(LimpetError, match="tired"):
        clock.lie("tired")


def test_addresses() -> None:
    with Clock(Timeline(), address="127.0.0.2") as clock:
        assert abs(ask(clock, address="127.0.0.2") - time.time()) < NEAR
    with pytest.raises(LimpetError, match=r"cannot listen at 192\.0\.2\.1: give the rig an address"):
        Clock(Timeline(), address="192.0.2.1").__enter__()
