"""time of the virtual board, as the ESP32 port has it.

It counts from 2000-01-01, and from there when it was never set. The ticks are the unix port's: they begin
anywhere and do not wrap after 2^30, because the scheduler inside asyncio reads them in C.
"""

import utime as _utime
from utime import *  # noqa: F403

_EPOCH_2000 = 946684800

offset = 0  # board's time minus host's time, in seconds; the supervisor keeps it across resets


def time():
    return int(_utime.time()) + offset - _EPOCH_2000  # whole seconds, as on the ESP32


def time_ns():
    return _utime.time_ns() + (offset - _EPOCH_2000) * 1000000000


def gmtime(seconds=None):
    # Eight fields: the unix port has a ninth, for summer time.
    return _utime.gmtime((time() if seconds is None else seconds) + _EPOCH_2000)[:8]


localtime = gmtime  # the ESP32 port knows no time zones


def mktime(fields):
    # The host's mktime would apply the host's time zone: count the days ourselves (proleptic Gregorian).
    year, month, day, hour, minute, second = fields[:6]
    year, month = year + (month - 1) // 12, (month - 1) % 12 + 1  # fields may be out of their range
    if month < 3:
        year, month = year - 1, month + 12
    days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * month - 457) // 5 + day - 306
    return (days - 730120) * 86400 + hour * 3600 + minute * 60 + second
