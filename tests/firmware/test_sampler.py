import errno
import gc

from limpet import sampler as module
from limpet.reading import BUS_TIMEOUT, CRC, FAULT, NO_ACK, OUT_OF_RANGE, VANISHED, SensorError
from limpet.sampler import Sampler
from limpet.sensors import make as real_make


class Time:
    """Time that goes on when the test says so, and wraps as on the ESP32."""

    PERIOD = 1 << 30

    def __init__(self, ticks=0):
        self.start = self.ticks = ticks

    def ticks_ms(self):
        return self.ticks % self.PERIOD

    def ticks_add(self, a, b):
        return (a + b) % self.PERIOD

    def ticks_diff(self, a, b):
        return (a - b + self.PERIOD // 2) % self.PERIOD - self.PERIOD // 2

    def uptime_ms(self):  # it is the clock too
        return self.ticks - self.start

    def now(self):
        self.s, self.ms = divmod(self.uptime_ms(), 1000)


class Spool:
    def __init__(self):
        self.readings = []

    def append(self, s, ms, channel, reason, value):
        assert 0 <= ms < 1000
        self.readings.append((s * 1000 + ms, channel, reason, value))


class Driver:
    """A sensor with two channels; `acts` says what becomes of each measurement, the last one for ever."""

    channels = (("temperature", "Cel", 2, -4000, 8500), ("humidity", "%RH", 2, 0, 10000))

    def __init__(self, time, acts=("ok",), wait=0, takes=0):
        self.reasons = bytearray(2)
        self.starts = []
        self._time = time
        self._acts = list(acts)
        self._wait = wait
        self._takes = takes
        self._started = None

    def start(self):
        self.starts.append(self._time.uptime_ms())
        self._time.ticks += self._takes
        self._act = self._acts.pop(0) if len(self._acts) > 1 else self._acts[0]
        self._started = self._time.ticks
        if isinstance(self._act, tuple) and self._act[0] == "start":
            raise self._act[1]
        return self._wait

    def read(self, out):
        assert self._time.ticks - self._started >= self._wait, "read too early"
        self._time.ticks += self._takes
        if isinstance(self._act, Exception):
            raise self._act
        self.reasons[:] = bytes(self._act) if isinstance(self._act, list) else bytes(2)
        out[0], out[1] = 2150, 4500


def _given(driver):
    if isinstance(driver, Exception):
        raise driver
    return driver


def bench(*drivers, period=1000, ticks=0):
    """A sampler for drivers made by functions of the time: (sampler, time, spool, drivers)."""
    time = Time(ticks)
    made = [driver(time) for driver in drivers]
    pending = made[:]
    module.time = time
    module.log = lambda who, what: said.append((who, str(what)))
    said.clear()
    module.sensors = type("sensors", (), {"make": lambda spec: _given(pending.pop(0))})
    spool = Spool()
    specs = [{"name": "s%d" % i, "kind": "x", "period_ms": period} for i in range(len(made))]
    return Sampler(specs, time, spool), time, spool, made


said = []


def gaps(times):
    return [times[i + 1] - times[i] for i in range(len(times) - 1)]


def run_for(sampler, time, ms, late=0, most=1000):
    """Take turns for a time; every turn comes `late` ms after it was due, and after `most` at the latest."""
    end = time.ticks + ms
    for pause in sampler.run():
        assert 0 < pause <= 1000, pause
        time.ticks += min(pause, most) + late
        if time.ticks >= end:
            return


def test_samples_stay_on_the_grid_however_late_each_turn_comes():
    sampler, time, spool, (driver,) = bench(lambda t: Driver(t, wait=9, takes=3))
    run_for(sampler, time, 100000, late=7)
    assert len(driver.starts) == 100
    # A turn comes at most a pause limit late; the grid does not move.
    assert all(0 <= at - 1000 * i <= 40 for i, at in enumerate(driver.starts)), driver.starts
    assert [at for at, channel, _, _ in spool.readings if channel == 0] == driver.starts


def test_deadlines_that_passed_are_skipped_not_made_up_for():
    sampler, time, _, (driver,) = bench(lambda t: Driver(t))
    steps = sampler.run()
    next(steps)
    time.ticks = 5600  # something kept us for long
    pause = next(steps)
    assert driver.starts == [0, 5600]
    assert pause == 400  # the next one on the grid: at 6000
    time.ticks += pause
    next(steps)
    assert driver.starts == [0, 5600, 6000]


def test_the_grid_goes_on_over_the_wrap_of_ticks():
    sampler, time, _, (driver,) = bench(lambda t: Driver(t), ticks=(1 << 30) - 2500)
    run_for(sampler, time, 10000)
    assert driver.starts == list(range(0, 10000, 1000))


def test_the_wait_counts_from_the_end_of_start_and_the_time_from_its_beginning():
    sampler, time, spool, _ = bench(lambda t: Driver(t, wait=50, takes=20))
    run_for(sampler, time, 900, most=5)  # the driver itself checks that it is not read too early
    assert spool.readings == [(0, 0, 0, 2150), (0, 1, 0, 4500)]


def test_failures_rest_1_2_4_periods_and_at_most_a_minute():
    sampler, time, spool, (driver,) = bench(lambda t: Driver(t, [SensorError(CRC)]))
    run_for(sampler, time, 400000)
    assert gaps(driver.starts)[:9] == [1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000]
    assert {reason for _, _, reason, _ in spool.readings} == {CRC}
    assert said == [("s0", "CRC error (SensorError(%d,))" % CRC)]  # told once


def test_a_period_above_a_minute_is_its_own_rest():
    sampler, time, _, (driver,) = bench(lambda t: Driver(t, [SensorError(CRC)]), period=300000)
    run_for(sampler, time, 1500000)
    assert driver.starts == [0, 300000, 600000, 900000, 1200000]


def test_recovery_ends_the_rest():
    acts = [SensorError(VANISHED)] * 4 + ["ok", "ok", SensorError(VANISHED), "ok"]
    sampler, time, spool, (driver,) = bench(lambda t: Driver(t, acts))
    run_for(sampler, time, 20000)
    assert gaps(driver.starts)[:8] == [1000, 2000, 4000, 8000, 1000, 1000, 1000, 1000]
    reasons = [reason for _, channel, reason, _ in spool.readings if channel == 0]
    assert reasons[:8] == [VANISHED] * 4 + [0, 0, VANISHED, 0]
    assert sampler.sensors[0].reason == 0


def test_a_bad_channel_does_not_spoil_the_other():
    sampler, time, spool, _ = bench(lambda t: Driver(t, [[0, OUT_OF_RANGE], "ok"]))
    run_for(sampler, time, 900)
    assert spool.readings == [(0, 0, 0, 2150), (0, 1, OUT_OF_RANGE, 0)]
    assert sampler.sensors[0].reason == OUT_OF_RANGE
    run_for(sampler, time, 1000)
    assert sampler.sensors[0].reason == 0


def test_errors_of_the_bus_have_their_reasons():
    for error, reason in (
        (OSError(errno.ENODEV), NO_ACK),
        (OSError(errno.ETIMEDOUT), BUS_TIMEOUT),
        (OSError(errno.EIO), FAULT),
        (OSError(), FAULT),
        (OSError("text alone"), FAULT),
        (SensorError(CRC, "scratchpad"), CRC),
    ):
        for act in (error, ("start", error)):
            sampler, time, spool, _ = bench(lambda t, act=act: Driver(t, [act]))
            run_for(sampler, time, 900)
            assert spool.readings == [(0, 0, reason, 0), (0, 1, reason, 0)], (error, spool.readings)
            assert sampler.sensors[0].reason == reason


def test_a_drivers_mistake_is_a_fault_of_its_sensor_alone():
    for error in (
        ValueError("odd"),
        ZeroDivisionError(),
        TypeError(),
        IndexError(),
        MemoryError(),
        RuntimeError(),
    ):
        for act in (error, ("start", error)):
            sampler, time, spool, drivers = bench(
                lambda t: Driver(t), lambda t, act=act: Driver(t, [act]), lambda t: Driver(t)
            )
            run_for(sampler, time, 10000)
            assert len(drivers[0].starts) == len(drivers[2].starts) == 10
            assert {r[2] for r in spool.readings if r[1] in (2, 3)} == {FAULT}
            assert {r[2] for r in spool.readings if r[1] not in (2, 3)} == {0}


def test_ctrl_c_in_a_driver_is_not_swallowed():
    class Interrupted(Driver):
        def start(self):
            raise KeyboardInterrupt

    sampler, time, _, _ = bench(lambda t: Interrupted(t))
    try:
        run_for(sampler, time, 1000)
    except KeyboardInterrupt:
        return
    raise AssertionError("swallowed")


def test_a_new_reason_is_told_and_an_old_one_is_not_told_again():
    acts = [SensorError(CRC, "scratchpad")] * 3 + [OSError(errno.ENODEV)] * 2 + ["ok", ValueError("odd")]
    sampler, time, _, _ = bench(lambda t: Driver(t, acts))
    run_for(sampler, time, 200000)
    assert said == [
        ("s0", "CRC error (SensorError(%d, 'scratchpad'))" % CRC),
        ("s0", "no acknowledge (OSError(%d,))" % errno.ENODEV),
        ("s0", "sensor fault (ValueError('odd',))"),
    ]


def test_channels_are_numbered_through_and_described():
    sampler, _, _, _ = bench(lambda t: Driver(t), lambda t: Driver(t))
    assert [channel[0] for channel in sampler.channels] == [
        "s0/temperature",
        "s0/humidity",
        "s1/temperature",
        "s1/humidity",
    ]
    assert sampler.channels[3][1:] == ("%RH", 2, 0, 10000, 1000)


def test_a_driver_that_cannot_be_made_does_not_stop_the_others():
    refused = ValueError("invalid pin")
    sampler, time, spool, _ = bench(lambda t: refused, lambda t: Driver(t))
    run_for(sampler, time, 2500)
    assert {channel for _, channel, _, _ in spool.readings} == {0, 1}
    assert sampler.channels[0][0] == "s1/temperature"
    assert (sampler.sensors[0].reason, sampler.sensors[1].reason) == (FAULT, 0)
    assert said == [("s0", "cannot be used (ValueError('invalid pin',))")]


def test_an_unknown_kind_is_refused_by_name():
    try:
        real_make({"kind": "bme999"})
    except ValueError as e:
        assert "bme999" in str(e)
    else:
        raise AssertionError("made")


def test_lateness_and_missed_measurements_are_told():
    sampler, time, spool, (driver,) = bench(lambda t: Driver(t))
    steps = sampler.run()
    pause = next(steps)
    assert (pause, sampler.slack(), sampler.lateness(), sampler.missed) == (1000, 1000, 0, 0)
    time.ticks += 1012  # a turn that came 12 ms late
    next(steps)
    assert (sampler.lateness(), sampler.missed) == (12, 0)
    assert sampler.lateness() == 0  # told once
    time.ticks += 988 + 2500  # blocked over two deadlines, as by a TLS handshake
    assert next(steps) == 500
    assert (sampler.lateness(), sampler.missed) == (2500, 2)
    assert [at for at, channel, _, _ in spool.readings if channel == 0] == [0, 1012, 4500]
    assert driver.starts == [0, 1012, 4500]  # each with its true time


def test_the_rest_after_failures_is_not_missed():
    sampler, time, _, _ = bench(lambda t: Driver(t, [SensorError(CRC)]))
    run_for(sampler, time, 60000)
    assert sampler.missed == 0


def test_ten_thousand_steps_leave_no_heap_behind():
    class Void:
        def append(self, s, ms, channel, reason, value):
            pass

    class Lean(Driver):
        def start(self):
            return 5

        def read(self, out):
            out[0] = out[1] = 1

    sampler, time, _, _ = bench(lambda t: Lean(t))
    sampler._spool = Void()
    steps = sampler.run()
    for _ in range(100):
        time.ticks += next(steps)
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    for _ in range(1000):
        time.ticks += next(steps)
    each = (gc.mem_alloc() - before) / 500
    gc.enable()
    for _ in range(9000):
        time.ticks += next(steps)
    gc.collect()
    assert gc.mem_alloc() - before < 64
    print("heap a measurement, until it is collected: %d bytes" % each)
    assert each < 1000
