"""The fixture `stimulus`: what the sensors are to see, and what is wrong with them."""

import contextlib
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from host_tools.errors import UsageError
from host_tools.hil.background import Background
from host_tools.hil.blocked import Blocked
from host_tools.hil.stimulus.driver import Driver
from host_tools.hil.stimulus.frames import Frame, ramp, recorded
from host_tools.hil.stimulus.names import UnknownChannel, resolve
from host_tools.hil.stimulus.virtual import Faults
from host_tools.hil.timeline import Timeline
from host_tools.userfile import did_you_mean

_SLACK_S = 120.0
"""What a slow driver may need for its last value."""


class Stimulus:
    """Physical quantities by channel, `bme280/temperature`, or by leaf, `temperature`, where that is clear,
    in the channel's unit; sensors by name.

    A ramp or a replay goes on beside the test; another one, or `set`, ends that of the same channel, and the
    end of the test all. What goes wrong with one is raised by whatever comes next. What the rig cannot do
    raises Blocked; a name that is wrong, UsageError.
    """

    def __init__(
        self,
        channels: Collection[str],
        drivers: Mapping[str, Driver],
        faults: Faults | None,
        timeline: Timeline,
    ) -> None:
        """`channels` are all of the rig's sensors; `drivers` those that something acts on, or knows."""
        self._channels = channels
        self._drivers = drivers
        self._faults = faults
        self._timeline = timeline
        self._moving: dict[str, tuple[Background, float]] = {}

    def set(self, name: str, value: float) -> None:
        """Have it be that from now on."""
        channel = self._still(name)
        self._set(channel, value)

    def ramp(self, name: str, start: float, end: float, seconds: float) -> None:
        """Have it go from one value to another in so many seconds, and stay there."""
        self._follow(self._still(name), ramp(start, end, seconds))

    def replay(
        self,
        name: str,
        source: Path | str | Sequence[float],
        period: float | None = None,
        *,
        column: str = "",
    ) -> None:
        """Have it be these values one after the other, and stay at the last: numbers, or a column of a CSV
        file with a column `time`, by default the one that is called as the quantity. `period` is the seconds
        from one to the next; without it the file's own times count. Gaps are left out."""
        channel = self._still(name)
        self._follow(channel, recorded(source, column or channel.partition("/")[2], period))

    def wait(self, name: str) -> None:
        """Until a ramp or replay has come to its end."""
        channel = self._of(name)
        moving, seconds = self._moving.pop(channel, (None, 0.0))
        if moving and not moving.done(seconds + _SLACK_S):
            raise Blocked(f"What sets {channel} is too slow for what it was given.")

    def value(self, name: str) -> float:
        """What it is at this moment."""
        channel = self._of(name)
        value = self._drivers[channel].value()
        self._timeline.add("stimulus", "is", **{channel: value})
        return value

    def tolerance(self, name: str) -> float:
        """How far what the sensor reads may be from `value`, for reasons that are not the sensor's."""
        return self._drivers[self._of(name)].tolerance

    def fault(self, sensor: str, name: str | None) -> None:
        """Break a sensor, as its virtual part can break (host_tools/virtual/parts); None mends it."""
        if self._faults is None:
            raise Blocked("Only virtual sensors break when they are told to.")
        if sensor not in self._faults.sensors:
            raise UsageError(f"There is no sensor '{sensor}'. {did_you_mean(sensor, self._faults.sensors)}")
        self._faults.set(sensor, name)
        self._timeline.add("stimulus", f"{sensor}: {name or 'sound'}")

    def clear(self) -> None:
        """End all that moves, leave the quantities as they were at first, and mend the sensors."""
        with contextlib.ExitStack() as todo:  # all of it is done, whatever fails
            todo.callback(self._timeline.add, "stimulus", "cleared")
            if self._faults:
                todo.callback(self._faults.clear)
            for driver in self._drivers.values():
                todo.callback(driver.clear)
            for channel in self._moving:
                todo.callback(self._still, channel)

    def _of(self, name: str) -> str:
        try:
            return resolve(name, self._drivers)
        except UnknownChannel:
            channel = resolve(name, self._channels)
            raise Blocked(
                f"Nothing on this rig acts on {channel}: give its file a table "
                f'[stimulus."{channel}"] (docs/rigs.md).'
            ) from None

    def _still(self, name: str) -> str:
        """The channel, which moves no more."""
        channel = self._of(name)
        moving, _ = self._moving.pop(channel, (None, 0.0))
        if moving:
            moving.end()
        return channel

    def _set(self, channel: str, value: float) -> None:
        self._drivers[channel].set(value)
        self._timeline.add("stimulus", "set", **{channel: value})

    def _follow(self, channel: str, frames: Sequence[Frame]) -> None:
        begun = time.monotonic()
        self._set(channel, frames[0][1])

        def work(stop: threading.Event) -> None:
            for i, (at, value) in enumerate(frames[1:], 1):
                if stop.wait(max(0.0, begun + at - time.monotonic())):
                    return
                is_late = i + 1 < len(frames) and time.monotonic() >= begun + frames[i + 1][0]
                if not is_late:
                    self._set(channel, value)

        self._moving[channel] = Background(work, f"stimulus {channel}"), frames[-1][0]
