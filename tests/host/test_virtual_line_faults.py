"""What a bad line makes of bytes, and a UART of bytes at another speed than its own."""

import pytest

from host_tools.virtual.line_faults import CHATTER, LineFaults, heard_at
from host_tools.virtual.pace import Pace

TEXT = b"waiting for download\r\n" * 50
EVERY_BYTE = bytes(range(256))


def test_a_good_line_changes_nothing() -> None:
    faults = LineFaults()
    assert faults.spoil(EVERY_BYTE) == faults.overdrive(EVERY_BYTE, 921600) == EVERY_BYTE
    assert faults.chat(EVERY_BYTE) == EVERY_BYTE


def test_a_fraction_is_dropped_and_the_rest_comes_in_order() -> None:
    arrived = LineFaults(drop=0.1).spoil(EVERY_BYTE * 40)
    assert 0.85 < len(arrived) / (256 * 40) < 0.95
    rest = iter(EVERY_BYTE * 40)
    assert all(byte in rest for byte in arrived)  # each one after the one before
    assert LineFaults(drop=1.0).spoil(EVERY_BYTE) == b""


def test_a_fraction_is_garbled_and_none_is_lost() -> None:
    arrived = LineFaults(garble=0.1).spoil(EVERY_BYTE * 40)
    wrong = sum(a != b for a, b in zip(arrived, EVERY_BYTE * 40, strict=True))
    assert 0.05 < wrong / (256 * 40) < 0.15
    assert not any(a == b for a, b in zip(LineFaults(garble=1.0).spoil(TEXT), TEXT, strict=True))


def test_the_same_seed_gives_the_same_damage() -> None:
    def damage(seed: int) -> bytes:
        faults = LineFaults(drop=0.05, garble=0.05, seed=seed)
        return faults.spoil(TEXT[:500]) + faults.spoil(TEXT[500:])

    assert damage(1) == damage(1) != damage(2)


def test_a_cable_that_is_too_long_for_a_speed() -> None:
    faults = LineFaults(max_baud=460800)
    assert faults.overdrive(TEXT, 460800) == TEXT
    assert faults.overdrive(TEXT, 460801) != TEXT


def test_chatter_stands_in_the_middle_so_many_times() -> None:
    faults = LineFaults(chatter=2)
    assert faults.chat(b"") == b""
    assert faults.chat(b"OK12") == b"OK" + CHATTER + b"12"
    assert faults.chat(b"x") == CHATTER + b"x"
    assert faults.chat(b"OK12") == b"OK12"


def test_clearing_leaves_no_fault() -> None:
    faults = LineFaults(drop=1, garble=1, chatter=1, deaf=True, max_baud=9600)
    faults.clear()
    assert faults.chat(faults.overdrive(faults.spoil(TEXT), 921600)) == TEXT


@pytest.mark.parametrize(
    ("sent_at", "read_at"), [(115200, 115200), (460800, 461538), (921600, 923076), (115200, 117600)]
)
def test_speeds_that_are_near_enough(sent_at: int, read_at: int) -> None:
    assert heard_at(EVERY_BYTE, sent_at, read_at) == EVERY_BYTE


@pytest.mark.parametrize(
    ("sent_at", "read_at"), [(115200, 460800), (460800, 115200), (115200, 9600), (74880, 115200)]
)
def test_other_speeds_give_garbage(sent_at: int, read_at: int) -> None:
    heard = heard_at(TEXT, sent_at, read_at)
    assert TEXT[:8] not in heard
    assert heard
    if read_at > sent_at:
        assert len(heard) >= len(TEXT)
    else:
        assert len(heard) < len(TEXT)


def test_a_byte_at_half_and_at_twice_the_speed() -> None:
    # 0x55 on the line, start and stop bit too: 0101010101. Twice as fast each of them is two: 0, then
    # 01100110, and a stop bit that is 0. The next start is at the last 0 but one: 0, then 01100 and rest.
    assert heard_at(b"\x55", 9600, 19200) == bytes([0b01100110, 0b11100110])
    # 0x0f on the line: 0111100001. At half the speed, looked at from the fourth on: 1, 0, 0, 1 and rest.
    assert heard_at(b"\x0f", 9600, 4800) == bytes([0b11111001])
    assert heard_at(b"", 9600, 4800) == b""


def test_pace_is_that_of_the_baud_rate() -> None:
    pace, now, carried = Pace(), 100.0, 0
    while now < 101.0:
        carried += pace.take(1 << 20, 115200, now)
        now = max(pace.free, now + 0.0001)
    assert 11400 < carried < 11700


def test_pace_catches_up_when_its_turn_comes_late() -> None:
    pace, now, carried = Pace(), 100.0, 0
    while now < 101.0:
        carried += pace.take(1 << 20, 115200, now)
        now = pace.free + 0.03
    assert 11300 < carried < 11700


def test_pace_does_not_save_up_what_it_did_not_carry() -> None:
    pace = Pace()
    for turn in range(100):
        assert pace.take(20, 115200, 100.0 + turn) == 20
    assert pace.take(1 << 20, 115200, 200.0) < 100
    assert pace.take(1, 115200, 200.0) == 0  # it is busy now
