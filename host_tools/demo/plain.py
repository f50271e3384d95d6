"""The view without a terminal: a line a reading, and lines that begin with # for all else."""

from datetime import datetime, tzinfo

from host_tools.demo.model import Notice
from host_tools.demo.text import time_text, value_text
from host_tools.telemetry.senml import Reading


def line(item: Reading | Notice, zone: tzinfo | None = None) -> str:
    """`12:00:01 n01 bme280/temperature 21.30 °C`, with the time of the reading in `zone`, by default ours.

    A time that was not known when the reading was taken has a mark behind it: `(time recovered)`.
    """
    if isinstance(item, Notice):
        return f"# {_clock(item.at, zone)} {item.text}"
    when = _clock(item.unix_ms / 1000, zone)
    return f"{when} {item.node} {item.channel} {value_text(item)} {time_text(item)}".rstrip()


def _clock(at: float, zone: tzinfo | None) -> str:
    return f"{datetime.fromtimestamp(at, zone):%H:%M:%S}"
