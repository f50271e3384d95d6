"""What a quantity is to be at which moment: (seconds since the beginning, value), in order."""

import math
from collections.abc import Sequence
from pathlib import Path

from host_tools.errors import UsageError
from host_tools.virtual.stimulus import Recording, read_csv

Frame = tuple[float, float]

_STEP_S = 0.1
_MOST_STEPS = 1000


def ramp(start: float, end: float, seconds: float) -> list[Frame]:
    """From one value to another, in equal steps: ten a second, or a thousand in all."""
    if not all(map(math.isfinite, (start, end, seconds))) or seconds < 0:
        raise UsageError(f"A ramp from {start:g} to {end:g} in {seconds:g} s cannot be.")
    steps = min(_MOST_STEPS, max(1, math.ceil(seconds / _STEP_S)))
    between = [(i / steps * seconds, start + (end - start) * i / steps) for i in range(steps)]
    return [*between, (seconds, end)]


def recorded(source: Path | str | Sequence[float], column: str, period: float | None) -> list[Frame]:
    """Values in a row, or those in a column of a CSV file with a column `time`; gaps are left out.

    `period` is the seconds from one to the next; without it the file's own times count. Raises LimpetError
    for a file that cannot be read, UsageError when there is nothing to replay.
    """
    if period is not None and not (period > 0 and math.isfinite(period)):
        raise UsageError(f"The period of a replay is {period:g} s; give a number above 0.")
    if isinstance(source, (str, Path)):
        recording = read_csv(Path(source), column)
    elif period is None:
        raise UsageError("Values without times need a period: give the seconds from one to the next.")
    else:
        recording = Recording(tuple(map(float, range(len(source)))), tuple(source))
    times = recording.times if period is None else [i * period for i in range(len(recording.values))]
    frames = [(at, value) for at, value in zip(times, recording.values, strict=True) if math.isfinite(value)]
    if not frames:
        raise UsageError("There is no value to replay.")
    return frames
