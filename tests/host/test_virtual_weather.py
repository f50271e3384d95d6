"""Recorded weather as stimuli: units, gaps, speed, the date it starts at, and the real record."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from host_tools import parts
from host_tools.errors import LimpetError
from host_tools.virtual.weather import in_recorded_year, parse, recorded_weather

HEADER = "origin,temp,humid,wind_speed,pressure,time_hour\n"


def row(
    airport: str, hour: str, temp: str, humid: str = "50", wind: str = "10", pressure: str = "1000"
) -> str:
    return f"{airport},{temp},{humid},{wind},{pressure},2013-{hour}:00:00Z\n"


def file(path: Path, *rows: str) -> Path:
    path = path / "weather.csv"
    path.write_text(HEADER + "".join(rows))
    return path


def three_hours(path: Path) -> Path:
    return file(
        path,
        row("EWR", "03-01T00", "32", humid="40", pressure="1000"),
        row("EWR", "03-01T01", "NA", humid="60", pressure="NA"),
        row("EWR", "03-01T02", "50", humid="50", pressure="1010.5"),
        *(row("JFK", f"03-01T0{hour}", temp) for hour, temp in enumerate(("14", "23", "32"))),
        *(row("LGA", f"03-01T0{hour}", "0", wind=wind) for hour, wind in enumerate(("0", "10", "NA"))),
    )


def test_units_gaps_and_speed(tmp_path: Path) -> None:
    weather = recorded_weather(three_hours(tmp_path), datetime(2026, 3, 1, tzinfo=UTC), hour_s=5)
    at = (0.0, 2.5, 5.0, 7.5, 10.0)
    assert [weather.temperature(second) for second in at] == pytest.approx([0, 2.5, 5, 7.5, 10])
    assert [weather.humidity(second) for second in at] == pytest.approx([40, 50, 60, 55, 50])
    assert [weather.pressure(second) for second in at] == pytest.approx(
        [100000, 100262.5, 100525, 100787.5, 101050]
    )
    assert [weather.probe(second) for second in at] == pytest.approx([-10, -7.5, -5, -2.5, 0])
    assert [weather.wind(second) for second in (0.0, 5.0)] == pytest.approx([0, 4.4704])
    assert weather.note == "recorded weather, one hour in 5 s"


def test_the_end_joins_the_beginning(tmp_path: Path) -> None:
    weather = recorded_weather(three_hours(tmp_path), datetime(2026, 3, 1, tzinfo=UTC), hour_s=5)
    assert weather.probe(12.5) == pytest.approx(-5)
    assert weather.probe(15) == pytest.approx(-10)
    assert weather.probe(15 * 1000 + 5) == pytest.approx(-5)


def test_it_starts_at_todays_date_in_2013(tmp_path: Path) -> None:
    path = three_hours(tmp_path)
    assert recorded_weather(path, datetime(2026, 3, 1, 1, tzinfo=UTC), 5).probe(0) == pytest.approx(-5)
    assert recorded_weather(path, datetime(2026, 3, 1, 1, 30, tzinfo=UTC), 5).probe(5) == pytest.approx(-5)
    before = datetime(2026, 1, 1, tzinfo=UTC)
    assert recorded_weather(path, before, 5).probe(0) == pytest.approx(-10)


def test_the_29th_of_february_is_the_28th() -> None:
    assert in_recorded_year(datetime(2028, 2, 29, 7, tzinfo=UTC)) == datetime(2013, 2, 28, 7, tzinfo=UTC)
    assert in_recorded_year(datetime(2028, 12, 31, 7, tzinfo=UTC)) == datetime(2013, 12, 31, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no rows for EWR"),
        (HEADER, "no rows for EWR"),
        ("origin,time_hour\nEWR,2013-01-01T00:00:00Z\n", "'temp'"),
        (HEADER + row("EWR", "01-01T00", "warm"), "could not convert"),
        (HEADER + row("EWR", "13-01T00", "1"), "month must be"),
        (
            HEADER + row("EWR", "01-01T00", "1") + row("JFK", "01-01T01", "1") + row("LGA", "01-01T01", "1"),
            "begin at different times",
        ),
    ],
)
def test_what_is_no_record_is_refused_in_a_sentence(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "weather.csv"
    path.write_text(text)
    with pytest.raises(LimpetError, match=rf"{path} cannot be read \(.*{says}.*Delete the file"):
        recorded_weather(path, datetime(2026, 3, 1, tzinfo=UTC))


def test_the_real_record() -> None:
    path = parts.weather_csv()
    with path.open(encoding="utf-8") as lines:
        first, recordings = parse(lines)
    assert first == datetime(2013, 1, 1, 6, tzinfo=UTC)
    assert [len(recording.values) for recording in recordings] == [8703, 8703, 8703, 8706, 8706]
    # 22 November, 14:00 UTC: EWR 51.8 °F and 89.22 %, LGA as the file has it.
    weather = recorded_weather(path, datetime(2026, 11, 22, 14, tzinfo=UTC))
    assert weather.temperature(0) == pytest.approx(11)
    assert weather.humidity(0) == pytest.approx(89.22)
    # A year and more of it stays within what the three sensors can measure.
    for quantity, low, high in (
        (weather.temperature, -40, 85),
        (weather.humidity, 0, 100),
        (weather.pressure, 30000, 110000),
        (weather.probe, -55, 125),
        (weather.wind, 0, 30),
    ):
        values = [quantity(2.5 * step) for step in range(18_000)]
        assert low <= min(values) < max(values) <= high
