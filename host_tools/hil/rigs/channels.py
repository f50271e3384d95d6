"""What a sensor's channels are called: `SENSOR/QUANTITY`."""

from collections.abc import Mapping

from host_tools.settings.model import Bme280, CurrentLoop, Sensor

BME280 = ("temperature", "pressure", "humidity")
DS18B20 = ("temperature",)


def leaves(sensor: Sensor) -> tuple[str, ...]:
    """The quantities that a sensor measures. A salvaged current loop may not tell."""
    match sensor:
        case Bme280():
            return BME280
        case CurrentLoop(quantity=quantity):
            return (quantity,)
        case CurrentLoop():
            return ()
    return DS18B20


def channels(sensors: Mapping[str, Sensor]) -> tuple[str, ...]:
    """All channels of these sensors."""
    return tuple(f"{name}/{leaf}" for name, sensor in sensors.items() for leaf in leaves(sensor))
