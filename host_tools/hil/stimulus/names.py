"""What tests call a quantity."""

from collections.abc import Collection

from host_tools.errors import UsageError
from host_tools.userfile import did_you_mean


class UnknownChannel(UsageError):
    """No sensor of the rig has such a channel."""


def resolve(name: str, channels: Collection[str]) -> str:
    """The channel that is meant by its name, `bme280/temperature`, or by its leaf alone, `temperature`.

    Raises UnknownChannel with the nearest name, UsageError when a leaf could be of several sensors.
    """
    if name in channels:
        return name
    found = [channel for channel in channels if channel.partition("/")[2] == name]
    if not found:
        raise UnknownChannel(f"There is no channel '{name}'. {did_you_mean(name, channels)}")
    if len(found) > 1:
        raise UsageError(f"'{name}' may be {' or '.join(found)}: name one of them.")
    return found[0]
