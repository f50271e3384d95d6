"""How readings are written for people."""

from host_tools.telemetry.event import Gap
from host_tools.telemetry.senml import Reading

# SenML's names for units (RFC 8428 §12.1) that people write otherwise.
_UNITS = {"Cel": "°C", "%RH": "% RH", "degF": "°F", "Ohm": "Ω", "/": "", "1": ""}


def value_text(reading: Reading) -> str:
    """`21.30 °C`, digit for digit as it was sent, or `bad: CRC error`."""
    if reading.value is None:
        return f"bad: {reading.reason}"
    return f"{reading.value:f} {_UNITS.get(reading.unit, reading.unit)}".rstrip()


def time_text(reading: Reading) -> str:
    """What is to be said of the time of a reading, in brackets; nothing when it was known all along."""
    if reading.quality == "recovered":
        return "(time recovered)"
    if reading.quality != "unknown":
        return ""
    if reading.later_s is None:
        return "(time unknown: then or later)"
    return f"(time unknown: then or up to {age_text(reading.later_s)} later)"


def counts_text(readings: int, lost: int, announced: int, duplicates: int) -> str:
    """`20 readings, 0 lost, 0 duplicate`; `5 lost (3 announced)` when the node has told of losses."""
    known = f" ({announced} announced)" if announced else ""
    return f"{readings} readings, {lost} lost{known}, {duplicates} duplicate"


def gap_text(gap: Gap) -> str:
    """`lost reading 3, its spool was full` or `lost 248 readings, 3 to 250, its spool was damaged`."""
    which = f"reading {gap.first}" if gap.count == 1 else f"{gap.count} readings, {gap.first} to {gap.last}"
    return f"lost {which}, its spool was {gap.why}"


def size_text(size: int) -> str:
    """A number of bytes as `999 B`, `1.2 kB` or `3.4 MB`."""
    if size < 1000:
        return f"{size} B"
    return f"{size / 1e3:.1f} kB" if size < 999_950 else f"{size / 1e6:.1f} MB"


def age_text(seconds: float) -> str:
    """A time span as `0.4 s`, `12 s`, `3 min` or `5 h`; the future counts as now."""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
