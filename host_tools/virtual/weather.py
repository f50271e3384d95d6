"""Recorded weather as stimuli: what the demo's sensors measure is what three airports measured in 2013.

The BME280 stands at Newark (EWR), the probe at Kennedy (JFK), the wind sensor at La Guardia (LGA; Newark's
file has a wind of 1048 mph). Time runs faster than it did, and the year begins anew at its end.
"""

import csv
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from host_tools.errors import LimpetError
from host_tools.virtual.stimulus import Recording, Stimulus, replay

HOUR_S = 5.0
"""Seconds that a recorded hour takes in the demo."""

_YEAR = 2013


@dataclass(frozen=True, slots=True)
class Weather:
    """A stimulus for each quantity that the demo's sensors measure; `note` says what is shown, in a line."""

    temperature: Stimulus  # of the BME280, °C
    humidity: Stimulus  # of the BME280, % relative humidity
    pressure: Stimulus  # of the BME280, Pa
    probe: Stimulus  # of the DS18B20, °C
    wind: Stimulus  # of the current loop, m/s
    note: str


@dataclass(frozen=True, slots=True)
class _Column:
    airport: str
    name: str
    to_si: Callable[[float], float]


def _celsius(fahrenheit: float) -> float:
    return (fahrenheit - 32.0) / 1.8


def _pascal(hectopascal: float) -> float:
    return hectopascal * 100.0


def _metres_per_second(miles_per_hour: float) -> float:
    return miles_per_hour * 0.44704  # exact: 1609.344 m in 3600 s


_COLUMNS = (
    _Column("EWR", "temp", _celsius),
    _Column("EWR", "humid", float),
    _Column("EWR", "pressure", _pascal),
    _Column("JFK", "temp", _celsius),
    _Column("LGA", "wind_speed", _metres_per_second),
)


def recorded_weather(path: Path, start: datetime, hour_s: float = HOUR_S) -> Weather:
    """The weather of 2013 from the date and time of day of `start` on, an hour of it in `hour_s` seconds.

    `path` is the CSV file that `host_tools.parts.weather_csv` gives. Raises LimpetError when it is not.
    """
    speed = 3600.0 / hour_s
    try:
        with path.open(newline="", encoding="utf-8") as file:
            first, recordings = parse(file)
    except (OSError, ValueError, KeyError) as error:
        raise LimpetError(
            f"The recorded weather in {path} cannot be read ({error}). Delete the file; it is fetched again."
        ) from error
    # The record begins at 06:00 UTC of 1 January; before that there is nothing to start with.
    skipped = max((in_recorded_year(start) - first).total_seconds(), 0.0) / speed
    temperature, humidity, pressure, probe, wind = (
        _later(replay(recording, speed=speed), skipped) for recording in recordings
    )
    note = f"recorded weather, one hour in {hour_s:g} s"
    return Weather(temperature, humidity, pressure, probe, wind, note)


def parse(lines: Iterable[str]) -> tuple[datetime, list[Recording]]:
    """The time of the first row, and five recordings in SI units, in the order of `Weather`; NA is a gap.

    Raises KeyError for a missing column, ValueError for what is not a number or a time, for an airport
    without rows, or when the airports' records do not begin together.
    """
    rows = list(csv.DictReader(lines))
    begins, recordings = zip(*(_recording(rows, column) for column in _COLUMNS), strict=True)
    if len(set(begins)) > 1:
        raise ValueError("the airports begin at different times")
    return begins[0], list(recordings)


def _recording(rows: list[dict[str, str]], column: _Column) -> tuple[datetime, Recording]:
    mine = [row for row in rows if row["origin"] == column.airport]
    moments = [datetime.fromisoformat(row["time_hour"]) for row in mine]
    cells = [row[column.name] for row in mine]
    if not moments:
        raise ValueError(f"there are no rows for {column.airport}")
    return moments[0], Recording(
        tuple((moment - moments[0]).total_seconds() for moment in moments),
        tuple(math.nan if cell == "NA" else column.to_si(float(cell)) for cell in cells),
    )


def in_recorded_year(moment: datetime) -> datetime:
    """The same date and time of day (UTC) in 2013, a day earlier for 29 February."""
    moment = moment.astimezone(UTC)
    day = 28 if (moment.month, moment.day) == (2, 29) else moment.day
    return moment.replace(year=_YEAR, day=day)


def _later(stimulus: Stimulus, skipped: float) -> Stimulus:
    return lambda seconds: stimulus(seconds + skipped)
