"""Takes readings when they are due. It never waits for the network: what it takes goes into the spool."""

import errno
import time

from micropython import const

from limpet import sensors
from limpet.log import log
from limpet.reading import BUS_TIMEOUT, FAULT, NO_ACK, SensorError, text

_MAX_BACKOFF_MS = const(60000)


class Sensor:
    """A driver with its schedule: due, measuring, and how long it rests after failures."""

    def __init__(self, spec, first_channel):
        self.name = spec["name"]
        self.first_channel = first_channel
        self.reason = 0  # of the last failure; 0 when it works
        self.channels = ()  # type: tuple[tuple[str, str, int, int, int], ...]
        try:
            self.driver = sensors.make(spec)
            self.channels = self.driver.channels
        except Exception as e:  # a pin that this chip lacks, say: the other sensors go on
            log(self.name, "cannot be used (%r)" % e)
            self.driver = None
            self.reason = FAULT
        self._period = spec["period_ms"]
        self._values = [0] * len(self.channels)
        self._due = time.ticks_ms()
        self._ready = None  # when a measurement that runs is done
        self._failures = 0
        self.late_ms = 0  # the latest start since somebody asked
        self.missed = 0  # deadlines that passed without a measurement

    def step(self, now, clock, spool):
        """Do what is due at `now` (ticks); milliseconds until there is more to do."""
        if self.driver is None:
            return _MAX_BACKOFF_MS
        try:
            if self._ready is None:
                if time.ticks_diff(self._due, now) > 0:
                    return time.ticks_diff(self._due, now)
                self.late_ms = max(self.late_ms, time.ticks_diff(now, self._due))
                clock.now()
                self._s, self._ms = clock.s, clock.ms
                wait = self.driver.start()  # takes time itself, so the wait counts from its end
                now = time.ticks_ms()
                self._ready = time.ticks_add(now, wait)
            if time.ticks_diff(self._ready, now) > 0:
                return time.ticks_diff(self._ready, now)
            self.driver.read(self._values)
            self._failures = self.reason = 0
            reasons = self.driver.reasons
            for i, value in enumerate(self._values):
                value = 0 if reasons[i] else value
                spool.append(self._s, self._ms, self.first_channel + i, reasons[i], value)
                self.reason = self.reason or reasons[i]
        except Exception as e:  # of any kind: a driver's mistake must not stop the other sensors
            self._fail(e, spool)
        self._ready = None
        return self._schedule(now)

    def _fail(self, error, spool):
        self._failures += 1
        if isinstance(error, SensorError):
            reason = error.args[0]
        else:
            code = getattr(error, "errno", 0)
            reason = {errno.ENODEV: NO_ACK, errno.ETIMEDOUT: BUS_TIMEOUT}.get(code, FAULT)
        if reason != self.reason:
            log(self.name, "%s (%r)" % (text(reason), error))
        self.reason = reason
        for i in range(len(self._values)):
            spool.append(self._s, self._ms, self.first_channel + i, reason, 0)

    def _schedule(self, now):
        # A deadline that has passed is not made up for: the next one on the grid counts. Failures rest
        # 1, 2, 4 … periods, at most a minute (or one period, when that is longer).
        rest = self._period
        if self._failures:
            rest = min(self._period << min(self._failures - 1, 10), max(self._period, _MAX_BACKOFF_MS))
        self._due = time.ticks_add(self._due, rest)
        late = time.ticks_diff(now, self._due)
        if late >= 0:
            skipped = late // self._period + 1
            self.missed += skipped
            self._due = time.ticks_add(self._due, skipped * self._period)
        return time.ticks_diff(self._due, now)


class Sampler:
    """All sensors of the node. `specs` as in the settings; a reading names its channel by its index.

    A channel is a tuple: name (sensor/quantity), SenML unit, decimals, low, high, period in ms. `low` and
    `high` are the sensor's range, scaled by the decimals.
    """

    def __init__(self, specs, clock, spool):
        self._clock = clock
        self._spool = spool
        self._next = time.ticks_ms()
        self.sensors = []
        self.channels = []  # type: list[tuple[str, str, int, int, int, int]]
        for spec in specs:
            sensor = Sensor(spec, len(self.channels))
            self.sensors.append(sensor)
            for leaf, unit, decimals, low, high in sensor.channels:
                name = sensor.name + "/" + leaf
                self.channels.append((name, unit, decimals, low, high, spec["period_ms"]))

    def run(self):
        """Sample for ever (a task)."""
        while True:
            pause = 1000
            for sensor in self.sensors:
                pause = min(pause, sensor.step(time.ticks_ms(), self._clock, self._spool))
            self._next = time.ticks_add(time.ticks_ms(), pause)
            yield pause

    def slack(self):
        """Milliseconds until there is something to do: what takes long is best done when they are many."""
        return time.ticks_diff(self._next, time.ticks_ms())

    def lateness(self):
        """How late a measurement was started at worst since the last call, in milliseconds."""
        worst = 0
        for sensor in self.sensors:
            worst = max(worst, sensor.late_ms)
            sensor.late_ms = 0
        return worst

    @property
    def missed(self):
        """Measurements that were not made at all, because something blocked the node."""
        return sum([sensor.missed for sensor in self.sensors])
