"""The 4–20 mA driver: NAMUR NE 43's limits, scaling, and the averaging of the ADC."""

from limpet.reading import OUT_OF_RANGE, OVER_CURRENT, WIRE_BREAK, SensorError
from limpet.sensors import current_loop, make

SPEC = {
    "kind": "current_loop",
    "name": "wind",
    "pin": 34,
    "shunt_mohm": 100000,
    "quantity": "speed",
    "unit": "m/s",
    "decimals": 2,
    "low": 0,
    "high": 3000,
}


class Adc:
    ATTN_11DB = 3

    def __init__(self, pin, atten):
        assert (pin, atten) == (34, self.ATTN_11DB)
        self.readings = [0]
        self.turn = 0

    def read_uv(self):
        self.turn += 1
        return self.readings[self.turn % len(self.readings)]


class Machine:
    ADC = Adc

    def Pin(self, gpio):
        return gpio


def sensor(**settings):
    current_loop.machine = Machine()
    return make(dict(SPEC, **settings))


def measure(driver, *readings):
    driver._adc.readings = readings
    assert driver.start() == 0
    out = [None]
    driver.read(out)
    return out[0]


def failure(driver, uv):
    try:
        measure(driver, uv)
    except SensorError as e:
        return e.args[0]
    return driver.reasons[0]


def test_channel_from_the_settings():
    assert sensor().channels == (("speed", "m/s", 2, 0, 3000),)


def test_ends_and_middle():
    driver = sensor()
    assert measure(driver, 400000) == 0
    assert measure(driver, 1200000) == 1500
    assert measure(driver, 2000000) == 3000


def test_rounded_to_the_nearest():
    # 0.01 m/s is 533.3 µV
    driver = sensor()
    assert measure(driver, 400266) == 0
    assert measure(driver, 400267) == 1
    assert measure(driver, 399733) == -1
    assert measure(driver, 399734) == 0


def test_measured_value_from_3_8_to_20_5_mA():
    driver = sensor()
    assert measure(driver, 380000) == -37
    assert measure(driver, 2050000) == 3094
    assert driver.reasons[0] == 0


def test_ne43_levels():
    for microamperes, expected in (
        (0, WIRE_BREAK),
        (3600, WIRE_BREAK),
        (3610, OUT_OF_RANGE),
        (3790, OUT_OF_RANGE),
        (3800, 0),
        (20500, 0),
        (20510, OUT_OF_RANGE),
        (20990, OUT_OF_RANGE),
        (21000, OVER_CURRENT),
        (24000, OVER_CURRENT),
    ):
        for shunt_mohm in (100000, 47000, 5110):
            uv = microamperes * shunt_mohm // 1000
            assert failure(sensor(shunt_mohm=shunt_mohm), uv) == expected, (microamperes, shunt_mohm)


def test_good_again_after_a_fault():
    driver = sensor()
    assert failure(driver, 370000) == OUT_OF_RANGE
    assert measure(driver, 1200000) == 1500
    assert driver.reasons[0] == 0


def test_range_that_falls():
    driver = sensor(low=10000, high=-5000)
    assert measure(driver, 400000) == 10000
    assert measure(driver, 1200000) == 2500
    assert measure(driver, 2000000) == -5000


def test_average_of_conversions():
    driver = sensor()
    assert measure(driver, 1190000, 1210000) == 1500
    assert driver._adc.turn == 16
    # A single one on the wrong side of a limit is noise.
    assert measure(driver, *([420000] * 15 + [300000])) == 23


def test_the_current_is_told():
    try:
        measure(sensor(), 120000)
    except SensorError as e:
        assert "1200 uA" in str(e)
    else:
        raise AssertionError("1.2 mA taken for a value")
