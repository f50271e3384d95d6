"""How long a certificate still lasts, and which of them stand out."""

import re
from datetime import datetime, timedelta

from host_tools.errors import UsageError
from host_tools.fleet.record import moment

SOON = timedelta(days=60)
"""What expires within this time stands out, unless the user says otherwise."""

_SPAN = re.compile(r"([0-9]{1,5})([hdw])")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def span(text: str) -> timedelta:
    """A time such as `60d`, `8w` or `36h`. Raises UsageError."""
    match = _SPAN.fullmatch(text)
    if not match:
        raise UsageError(f"{text!r} is no time: write hours, days or weeks, such as 36h, 60d or 8w.")
    return int(match[1]) * _UNITS[match[2]]


def told_span(time: timedelta) -> str:
    """A time as `span` reads it."""
    hours = int(time.total_seconds()) // 3600
    return f"{hours}h" if hours % 24 else f"{hours // 24}d"


def expires_within(expires: str, within: timedelta, now: datetime) -> bool:
    """Whether a certificate with this end (of the record) has expired, or will within that time."""
    return moment(expires) <= now + within


def word(expires: str, within: timedelta, now: datetime) -> str:
    """What is to be said of a certificate: "expired", "soon", or nothing."""
    if not expires_within(expires, within, now):
        return ""
    return "expired" if moment(expires) <= now else "soon"
