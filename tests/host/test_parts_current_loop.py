"""The model of a 4–20 mA transmitter with its shunt."""

import pytest

from host_tools.errors import LimpetError
from host_tools.virtual.parts.current_loop import FAULTS, CurrentLoop
from host_tools.virtual.stimulus import constant


def loop(value: float, *, low: float = 0.0, high: float = 30.0, shunt_ohm: float = 100.0) -> CurrentLoop:
    return CurrentLoop(lambda: 7.0, constant(value), low=low, high=high, shunt_ohm=shunt_ohm)


@pytest.mark.parametrize(("value", "microvolts"), [(0, 400_000), (15, 1_200_000), (30, 2_000_000)])
def test_live_zero_middle_and_end(value: float, microvolts: int) -> None:
    assert loop(value).microvolts() == microvolts


def test_shunt_and_a_range_that_falls() -> None:
    assert loop(15, shunt_ohm=47.5).microvolts() == 570_000
    assert loop(90, low=100, high=-100).microvolts() == pytest.approx(480_000)


def test_saturates_as_ne43_wants_it() -> None:
    assert loop(-100).milliamperes() == 3.8
    assert loop(100).milliamperes() == 20.5
    assert loop(30.5).milliamperes() == pytest.approx(20.2667, abs=1e-4)


def test_follows_its_quantity_from_when_it_was_made() -> None:
    seconds = 100.0
    part = CurrentLoop(lambda: seconds, lambda s: s, low=0, high=16)
    assert part.milliamperes() == 4
    seconds += 8
    assert part.milliamperes() == 12


def test_faults() -> None:
    part = loop(15)
    currents = []
    for fault in FAULTS:
        part.fault = fault
        assert part.fault == fault
        currents.append(part.milliamperes())
    assert currents == [0.0, 3.7, 20.8, 22.0]
    part.fault = None
    assert part.milliamperes() == 12
    with pytest.raises(LimpetError, match="wire-break"):
        part.fault = "hum"


def test_a_range_has_two_ends() -> None:
    with pytest.raises(ValueError, match="two ends"):
        loop(1, low=5, high=5)
