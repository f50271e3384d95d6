"""Constants and recordings as stimulus of the models."""

import math
from pathlib import Path

import pytest

from host_tools.errors import LimpetError
from host_tools.virtual.stimulus import Recording, constant, read_csv, replay

NAN = math.nan


def recording(*values: float, step: float = 10.0) -> Recording:
    return Recording(tuple(i * step for i in range(len(values))), values)


def csv(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "weather.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_constant() -> None:
    assert [constant(21.5)(t) for t in (0.0, 1e6)] == [21.5, 21.5]


def test_interpolates_between_rows() -> None:
    at = replay(recording(0, 10, 30), loop=False)
    assert [at(t) for t in (0, 5, 10, 15, 20)] == [0, 5, 10, 20, 30]


def test_speed() -> None:
    at = replay(recording(0, 10, 30), speed=20, loop=False)
    assert at(0.25) == 5
    assert at(0.75) == 20


def test_last_value_stays_without_loop() -> None:
    assert replay(recording(0, 10, 30), loop=False)(1e6) == 30


def test_loops_one_step_after_the_last_row() -> None:
    at = replay(recording(0, 10, 30))
    assert at(20) == 30
    assert at(25) == 15  # on the way back to the first row
    assert at(30) == 0
    assert at(35) == 5
    assert at(30 * 1000 + 15) == pytest.approx(20)


def test_uneven_steps() -> None:
    at = replay(Recording((0, 1, 11), (5, 6, 16)), loop=False)
    assert at(0.5) == 5.5
    assert at(6) == 11


def test_gaps_are_bridged() -> None:
    at = replay(recording(0, NAN, NAN, 30), loop=False)
    assert [at(t) for t in (10, 15, 20)] == [10, 15, 20]


def test_gaps_at_the_ends_hold_or_are_bridged_around() -> None:
    held = replay(recording(NAN, 10, 20, NAN), loop=False)
    assert (held(0), held(5), held(30)) == (10, 10, 20)
    around = replay(recording(NAN, 10, 20, NAN))
    # from 20 at 20 s to 10 at 50 s
    assert around(30) == pytest.approx(20 - 10 / 3)
    assert around(40) == around(0) == pytest.approx(20 - 20 / 3)
    assert around(50) == 10


def test_columns_of_one_file_stay_together() -> None:
    whole = replay(recording(0, 1, 2, 3))
    holed = replay(recording(NAN, 1, NAN, 3))
    for t in (10, 20, 30, 50, 60, 70):
        assert whole(t) == pytest.approx(holed(t))


def test_one_row_is_a_constant() -> None:
    assert replay(recording(7))(123) == 7


def test_nothing_but_gaps() -> None:
    with pytest.raises(LimpetError, match="no value"):
        replay(recording(NAN, NAN))


@pytest.mark.parametrize("speed", [0, -1, math.nan, math.inf])
def test_speed_must_be_above_0(speed: float) -> None:
    with pytest.raises(LimpetError, match="above 0"):
        replay(recording(1, 2), speed=speed)


def test_csv_with_seconds(tmp_path: Path) -> None:
    path = csv(tmp_path, "time,temp,wind\n100,1.5,3\n\n160,,4\n220,NaN,5\n280,NA,6\n340,2.5,7\n")
    got = read_csv(path, "temp")
    assert got.times == (0, 60, 120, 180, 240)
    assert got.values[0] == 1.5 and got.values[-1] == 2.5
    assert all(math.isnan(v) for v in got.values[1:-1])
    assert read_csv(path, "wind").values == (3, 4, 5, 6, 7)


def test_csv_with_dates(tmp_path: Path) -> None:
    for text in (
        "2010-01-01\n2010-01-02",
        "2010/01/01 00:00\n2010/01/02 00:00",
        "2010-01-01T00:00:00Z\n2010-01-02T00:00:00Z",
        "2010-01-01 02:00+02:00\n2010-01-02 00:00",
    ):
        first, second = text.split("\n")
        got = read_csv(csv(tmp_path, f"date,t\n{first},1\n{second},2\n"), "t", time_column="date")
        assert got.times == (0, 86400)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,wind\n0,1\n", ":1: there is no column 'temp'; the header has time, wind"),
        ("when,temp\n0,1\n", ":1: there is no column 'time'"),
        ("", ":1: there is no column 'time'; the header has nothing"),
        ("time,temp\n", "no rows"),
        ("time,temp\n0,1\n1,warm\n", ":3: 'warm' in column 'temp' is not a number"),
        ("time,temp\n0,1\n1,inf\n", ":3: 'inf' in column 'temp' is not a number"),
        ("time,temp\n0,1\nnoon,2\n", ":3: 'noon' is no time"),
        ("time,temp\nnan,2\n", ":2: 'nan' is no time"),
        ("time,temp\n0,1\n5,2\n5,3\n", ":4: the time 5 is not after the line before"),
        ("time,temp\n0,1\n1,2,3\n", ":3: 3 cells, but the header has 2"),
    ],
)
def test_csv_errors_name_the_place(tmp_path: Path, text: str, message: str) -> None:
    path = csv(tmp_path, text)
    with pytest.raises(LimpetError) as caught:
        read_csv(path, "temp")
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_csv_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(LimpetError, match=r"gone\.csv cannot be read: No such file"):
        read_csv(tmp_path / "gone.csv", "temp")
    path = tmp_path / "picture.csv"
    path.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(LimpetError, match="not a CSV file"):
        read_csv(path, "temp")
