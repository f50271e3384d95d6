"""The benchmarks' table: what it says of a target, and when a board counts as alive."""

import json
from pathlib import Path

import pytest

from tests.bench.boards import Arrival, worst_delay
from tests.bench.table import Row, markdown, number, write_json

ROWS = [
    Row("speed", 1234.5, "1/s", "peer: 10", 123.45, "at least 200×", False, "Measured so."),
    Row("share", 0.8, "", target="at least 0.8", met=True, note="Measured otherwise."),
    Row("heap", 12, "B", note="Measured so."),
]


def test_a_miss_shows_and_footnotes_are_shared() -> None:
    lines = markdown("Figures", ROWS).splitlines()
    assert lines[0] == "## Figures"
    assert lines[4:7] == [
        "| speed[^1] | 1,234 1/s | peer: 10 | 123× | at least 200× | **no** |",
        "| share[^2] | 0.8 |  |  | at least 0.8 | yes |",
        "| heap[^1] | 12 B |  |  |  |  |",
    ]
    assert lines[8:] == ["[^1]: Measured so.", "[^2]: Measured otherwise."]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.00808, "0.00808"), (3, "3"), (99.96, "100"), (63458.3, "63,458")]
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_json_has_every_field(tmp_path: Path) -> None:
    write_json(ROWS, tmp_path / "build" / "bench.json")
    [speed, *_] = json.loads((tmp_path / "build" / "bench.json").read_text())
    assert (speed["value"], speed["ratio"], speed["met"]) == (1234.5, 123.45, False)


def arrivals(measurements: int = 5) -> list[Arrival]:
    """Measurements of three channels each second from 300 ms on, their readings 200 ms on their way."""
    times = [300 + 1000 * (i // 3) for i in range(3 * measurements)]
    return [(10 + i, taken, taken + 200.0) for i, taken in enumerate(times)]


def test_a_board_that_has_sent_everything_is_alive() -> None:
    twice = [*arrivals(), (12, 300, 4000.0)]  # no delay: it had come before
    assert worst_delay(twice, 0, 5000) == 200
    late = [*arrivals()[:-1], (24, 4300, 5200.0)]
    assert worst_delay(late, 0, 5000) == 900


@pytest.mark.parametrize(
    "left", [[], arrivals()[:7] + arrivals()[8:], arrivals(4)], ids=["all", "a reading", "the end"]
)
def test_a_board_that_left_something_out_is_not_alive(left: list[Arrival]) -> None:
    assert worst_delay(left, 0, 5000) is None


def test_a_measurement_that_was_never_taken_counts() -> None:
    pause = [(seq, taken + 1000 * (taken > 2000), at) for seq, taken, at in arrivals(4)]
    assert worst_delay(pause, 0, 5000) is None
