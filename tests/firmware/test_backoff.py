from limpet import backoff as module
from limpet.backoff import Backoff


class Dice:
    """os, with randomness that the test chooses: the lowest and the highest there can be."""

    def __init__(self, byte):
        self._byte = byte

    def urandom(self, n):
        return bytes((self._byte,)) * n


def waits(first_ms, count):
    backoff = Backoff(first_ms)
    return [backoff.wait() for _ in range(count)]


def test_the_cap_doubles_to_five_minutes_and_starts_again_when_proved():
    backoff = Backoff(12000)
    for cap in (12000, 24000, 48000, 96000, 192000, 300000, 300000):
        seen = {backoff.wait()}
        backoff.cap = cap
        seen |= {backoff.wait()}
        assert all(1000 <= wait <= cap for wait in seen), (cap, seen)
        assert backoff.cap == min(cap * 2, 300000)
    backoff.proved()
    assert 1000 <= backoff.wait() <= 12000


def test_waits_are_spread_over_the_whole_range():
    fifths = [0] * 5
    for _ in range(2000):
        fifths[min((Backoff(11000).wait() - 1000) // 2000, 4)] += 1
    assert all(300 < count < 500 for count in fifths), fifths


def test_the_least_wait_is_a_second_or_the_first_cap():
    original = module.os
    try:
        module.os = Dice(0)
        assert waits(12000, 3) == [1000, 1000, 1000]
        assert waits(200, 2) == [200, 200]
    finally:
        module.os = original
