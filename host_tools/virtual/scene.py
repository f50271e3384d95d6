"""What the demo's board is wired to: three sensors in the recorded weather, and an open Wi-Fi network."""

import time

from host_tools.virtual.parts.bme280 import BME280
from host_tools.virtual.parts.current_loop import CurrentLoop
from host_tools.virtual.parts.ds18b20 import DS18B20
from host_tools.virtual.radio import AccessPoint
from host_tools.virtual.weather import Weather
from host_tools.virtual.world import I2CBus, OneWireBus, World

MAC = bytes.fromhex("240ac4000001")
"""A MAC address from Espressif's range."""
WIND_RANGE = (0.0, 30.0)
"""m/s at 4 mA and at 20 mA."""


def wire(weather: Weather) -> World:
    """The wiring that host_tools/demo/node.toml describes."""
    now = time.monotonic
    low, high = WIND_RANGE
    return World(
        i2c={(22, 21): I2CBus([BME280(now, weather.temperature, weather.pressure, weather.humidity)])},
        onewire={4: OneWireBus([DS18B20(now, weather.probe)])},
        analog={34: CurrentLoop(now, weather.wind, low=low, high=high, shunt_ohm=100.0)},
        access_points=[AccessPoint("limpet-demo")],
    )
