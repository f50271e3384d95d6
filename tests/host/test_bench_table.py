"""The benchmarks' table: what it says of a target, and that each footnote is there once."""

import json
from pathlib import Path

import pytest

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
