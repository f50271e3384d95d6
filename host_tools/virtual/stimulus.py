"""Where the models' physical quantities come from: a constant, any function, or recorded data."""

import csv
import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from host_tools.errors import LimpetError

Stimulus = Callable[[float], float]
"""Seconds since the start -> the quantity, in the unit that the model wants."""

_MISSING = {"", "nan", "na", "n/a", "null", "none"}


def constant(value: float) -> Stimulus:
    """The same at all times."""
    return lambda seconds: value


@dataclass(frozen=True)
class Recording:
    """A column of recorded data: rising seconds since the first row, a value for each, NaN for a gap."""

    times: tuple[float, ...]
    values: tuple[float, ...]


def replay(recording: Recording, *, speed: float = 1.0, loop: bool = True) -> Stimulus:
    """Replay `recording` from its first row, `speed` times as fast as it was recorded.

    Between rows the value is interpolated; a gap is bridged from the values on either side of it. At the
    end it begins again, one mean step after the last row, so that columns of one file stay together;
    without `loop` the last value stays. Raises LimpetError for a column of gaps, or a speed that is
    not above 0.
    """
    if not (speed > 0 and math.isfinite(speed)):
        raise LimpetError(f"The speed of a replay is {speed:g}; give a number above 0.")
    known = [(t, v) for t, v in zip(recording.times, recording.values, strict=True) if not math.isnan(v)]
    if not known:
        raise LimpetError("The recording has no value at all; choose a column with numbers in it.")
    span = recording.times[-1] - recording.times[0]
    if loop and span > 0:
        period = span * len(recording.times) / (len(recording.times) - 1)
        # One turn's neighbours at either end, for the time before the first value and after the last.
        known = [(known[-1][0] - period, known[-1][1]), *known, (known[0][0] + period, known[0][1])]
    else:
        period = math.inf
    times = [t for t, _ in known]
    values = [v for _, v in known]

    def at(seconds: float) -> float:
        t = math.fmod(seconds * speed, period)
        i = bisect_right(times, t)
        if i == 0:
            return values[0]
        if i == len(times):
            return values[-1]
        part = (t - times[i - 1]) / (times[i] - times[i - 1])
        return values[i - 1] + part * (values[i] - values[i - 1])

    return at


def read_csv(path: Path, column: str, *, time_column: str = "time") -> Recording:
    """Read a column of a CSV file that has a header line.

    Times are seconds, or dates with or without a time of day (ISO 8601; `2010/01/31 13:00` is
    understood too; UTC unless they say otherwise). An empty cell, `NaN`, `NA` or `null` is a gap.
    Raises LimpetError that names the file, and the line where there is one.
    """
    times: list[float] = []
    values: list[float] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            time_at, value_at = (_column(path, header, name) for name in (time_column, column))
            for row in rows:
                if not row:
                    continue
                where = f"{path}:{rows.line_num}"
                if len(row) != len(header):
                    raise LimpetError(f"{where}: {len(row)} cells, but the header has {len(header)}.")
                times.append(_time(where, row[time_at]))
                values.append(_value(where, column, row[value_at]))
                if len(times) > 1 and times[-1] <= times[-2]:
                    raise LimpetError(
                        f"{where}: the time {row[time_at]} is not after the line before; sort the file."
                    )
    except OSError as e:
        raise LimpetError(f"{path} cannot be read: {e.strerror}.") from e
    except (UnicodeDecodeError, csv.Error) as e:
        raise LimpetError(f"{path} is not a CSV file in UTF-8: {e}.") from e
    if not times:
        raise LimpetError(f"{path} has no rows below its header.")
    return Recording(tuple(t - times[0] for t in times), tuple(values))


def _column(path: Path, header: list[str], name: str) -> int:
    if name not in header:
        found = ", ".join(header) or "nothing"
        raise LimpetError(f"{path}:1: there is no column {name!r}; the header has {found}.")
    return header.index(name)


def _time(where: str, cell: str) -> float:
    try:
        seconds = float(cell)
    except ValueError:
        try:
            moment = datetime.fromisoformat(cell.strip().replace("/", "-"))
        except ValueError:
            raise LimpetError(f"{where}: {cell!r} is no time; give seconds or an ISO 8601 date.") from None
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(seconds):
        raise LimpetError(f"{where}: {cell!r} is no time; give seconds or an ISO 8601 date.")
    return seconds


def _value(where: str, column: str, cell: str) -> float:
    if cell.strip().lower() in _MISSING:
        return math.nan
    try:
        value = float(cell)
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        raise LimpetError(
            f"{where}: {cell!r} in column {column!r} is not a number; leave the cell empty for a gap."
        )
    return value
