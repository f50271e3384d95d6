"""Which clients a new CRL puts out, and how much a broker takes on. No broker runs here."""

import datetime
from dataclasses import astuple

import pytest

from host_tools.broker import wire
from host_tools.broker.limits import limits_for
from host_tools.broker.revoked import Holder, Verdict, judge
from host_tools.pki.crl import Revoked

NOW = datetime.datetime(2026, 5, 1, 12, tzinfo=datetime.UTC)
OLD, NEW, OTHER = 0x11, 0x22, 0x33


def at(seconds: float) -> datetime.datetime:
    return NOW + datetime.timedelta(seconds=seconds)


HOLDERS = {
    OLD: Holder("n01", OLD, at(-1e6)),
    NEW: Holder("n01", NEW, at(-10)),
    OTHER: Holder("n02", OTHER, at(-1e6)),
}


def verdict(entry: Revoked, since: float | None = None) -> Verdict:
    connected = {} if since is None else {"n01": at(since)}
    return judge([entry], HOLDERS, frozenset({entry.serial}), connected)


@pytest.mark.parametrize("since", [None, -1000.0, -5.0, 3.0])
def test_who_lost_the_key_goes_whatever_it_is_connected_with(since: float | None) -> None:
    entry = Revoked(OLD, NOW, "key-compromise")
    assert verdict(entry, since) == Verdict((("n01", entry),), ())


@pytest.mark.parametrize(
    ("since", "goes"),
    [
        (None, False),  # nobody is there
        (-1000.0, True),  # before there was a new certificate
        (-10.1, True),
        (-9.9, False),  # rotated, then the old one was revoked
        (0.9, False),  # the CRL counts whole seconds
        (1.1, True),  # after the revocation, before the broker knew: a rotated node is in already
    ],
)
def test_superseded_spares_the_new_certificate(since: float | None, goes: bool) -> None:
    entry = Revoked(OLD, NOW, "superseded")
    assert verdict(entry, since) == Verdict((("n01", entry),) if goes else (), ())


def test_superseded_without_a_successor_goes() -> None:
    entry = Revoked(OTHER, NOW, "superseded")
    assert judge([entry], HOLDERS, frozenset({OTHER}), {"n02": at(-5)}).put_out == (("n02", entry),)
    both = [Revoked(OLD, NOW, "superseded"), Revoked(NEW, NOW, "superseded")]
    assert judge(both, HOLDERS, frozenset({OLD, NEW}), {"n01": at(-5)}).put_out == (("n01", both[1]),)


def test_what_nobody_knows_is_told() -> None:
    lost, replaced = Revoked(0x99, NOW, "unspecified"), Revoked(0x98, NOW, "superseded")
    assert judge([lost, replaced], HOLDERS, frozenset({0x98, 0x99}), {}) == Verdict((), (lost,))


def test_limits_grow_with_the_nodes() -> None:
    small, large = limits_for(10), limits_for(1000)
    assert all(a <= b for a, b in zip(astuple(small), astuple(large), strict=True))
    assert large.max_connections > 2 * 1000 and large.max_queued_messages == 400_000
    assert large.max_packet_size > 4 * 1024 and large.max_inflight_bytes >= large.max_packet_size


def test_packets_are_as_the_standard_has_them() -> None:
    packet = wire.connect("n01", ("u", "pw"))
    assert packet == b"\x10\x16\x00\x04MQTT\x04\xc2\x00\x3c\x00\x03n01\x00\x01u\x00\x02pw"
    long = wire.publish("t", bytes(200), 7)
    assert long[:8] == b"\x32\xcd\x01\x00\x01t\x00\x07" and len(long) == 3 + 205
