"""What a node file says, checked value by value. `host_tools.settings.rules` checks what goes together.

Each field's description is the phrase of its error message: "expected <description>, found …".
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, SecretStr

from host_tools.settings import fields

HOUR_MS = 3_600_000
DAY_MS = 86_400_000
MAX_ENTRIES = 8
"""The most Wi-Fi networks, brokers and time servers of a node: it keeps them all in RAM."""
MIN_BATCH, MAX_BATCH = 2, 64
"""The fewest and the most readings that are written together: the node keeps them in RAM until then."""

Name = Annotated[str, PlainValidator(fields.name)]
Host = Annotated[str, PlainValidator(fields.host)]
Pin = Annotated[int, Field(ge=0)]
"""A GPIO. In the file it may have its board's name for it (`host_tools.settings.pins`)."""


class Server(NamedTuple):
    """A time server."""

    host: str
    port: int


def _server(value: object) -> Server:
    return Server(*fields.server(value))


def _password(value: object) -> SecretStr:
    return SecretStr(fields.password(value))


def _shunt(value: object) -> int:
    milliohm = fields.scaled(fields.number(value), 3)
    if milliohm is None or milliohm <= 0:
        raise ValueError
    return milliohm


def _range(value: object) -> tuple[Fraction, Fraction]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError
    low, high = (fields.number(each) for each in value)
    return low, high


class _Table(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class Wifi(_Table):
    """A network; without a password an open one."""

    ssid: Annotated[str, PlainValidator(fields.ssid)] = Field(description="the network's name in quotes")
    password: Annotated[SecretStr, PlainValidator(_password)] | None = Field(
        description="the network's password in quotes", default=None
    )


class Broker(_Table):
    """An MQTT broker. `name` is what its certificate must bear; None stands for the host."""

    host: Host = Field(description="a host's name or IPv4 address in quotes")
    port: int = Field(description="a whole number from 1 to 65535", ge=1, le=65535, default=8883)
    name: Host | None = Field(description="the name in the broker's certificate, in quotes", default=None)


class Spool(_Table):
    """When readings reach the flash: each at once; or so many together, at the latest after `time` (ms)."""

    policy: Literal["each", "batch"] = Field(description='"each" or "batch"', default="each")
    readings: int | None = Field(
        description=f"a whole number from {MIN_BATCH} to {MAX_BATCH}",
        ge=MIN_BATCH,
        le=MAX_BATCH,
        default=None,
    )
    time: Annotated[int, PlainValidator(fields.duration(1_000, HOUR_MS))] | None = Field(
        description='a time from 1 s to 1 h, such as "10s" or "1min"', default=None
    )


class WayIn(_Table):
    """A button from its pin to ground. Held at the start for `hold` (ms), it opens a locked node, wiped."""

    pin: Pin = Field(description="a GPIO number")
    hold: Annotated[int, PlainValidator(fields.duration(1_000, 60_000))] = Field(
        description='a time from 1 s to 60 s, such as "5s"', default=5_000
    )


class _Sensor(_Table):
    period: Annotated[int, PlainValidator(fields.duration(100, DAY_MS))] = Field(
        description='a time from 100 ms to 1 day, such as "500ms", "1s", "5min" or a number of seconds'
    )


class Bme280(_Sensor):
    """A BME280 on I2C; pins that are None are the board's."""

    kind: Literal["bme280"] = "bme280"
    scl: Pin | None = Field(description="a GPIO number", default=None)
    sda: Pin | None = Field(description="a GPIO number", default=None)
    address: int = Field(description="0x76 or 0x77", ge=0x76, le=0x77, default=0x76)


class Ds18b20(_Sensor):
    """A DS18B20 on 1-Wire. `rom` is None where the probe is alone on its pin."""

    # A conversion at 12 bits takes up to 750 ms (datasheet 19-7487, t_CONV); the rest is for the bus.
    period: Annotated[int, PlainValidator(fields.duration(1_000, DAY_MS))] = Field(
        description='a time from 1 s (the probe takes 750 ms to convert) to 1 day, such as "2s" or "5min"'
    )
    kind: Literal["ds18b20"] = "ds18b20"
    pin: Pin = Field(description="a GPIO number")
    rom: Annotated[str, PlainValidator(fields.rom)] | None = Field(
        description="the probe's ROM code, 16 hex digits in quotes", default=None
    )


class CurrentLoop(_Sensor):
    """A 4–20 mA transmitter over a shunt (in milliohm). `range`: the values at 4 mA and at 20 mA."""

    kind: Literal["current_loop"] = "current_loop"
    pin: Pin = Field(description="a GPIO number")
    shunt: Annotated[int, PlainValidator(_shunt)] = Field(
        description="the shunt's resistance in ohm, with at most 3 decimals"
    )
    quantity: Name = Field(description="the name of what is measured, in quotes")
    unit: Annotated[str, PlainValidator(fields.unit)] = Field(description="a SenML unit in quotes")
    range: Annotated[tuple[Fraction, Fraction], PlainValidator(_range)] = Field(
        description="a list of two numbers, the values at 4 mA and at 20 mA"
    )
    decimals: int = Field(description="a whole number from 0 to 6", ge=0, le=6, default=2)


Sensor = Bme280 | Ds18b20 | CurrentLoop
KINDS: Mapping[str, type[Sensor]] = {"bme280": Bme280, "ds18b20": Ds18b20, "current_loop": CurrentLoop}


class Node(_Table):
    """The node file but for what its sensor tables hold."""

    board: str = Field(description="the name of a board in quotes")
    prefix: Annotated[str, PlainValidator(fields.prefix)] = Field(
        description=f"text of 1 to {fields.MAX_PREFIX_BYTES} bytes in quotes", default="limpet"
    )
    keepalive: Annotated[int, PlainValidator(fields.duration(5_000, 3_600_000, 1_000))] = Field(
        description='whole seconds from 5 s to 1 h, such as 30 or "5min"', default=30_000
    )
    health: Annotated[int, PlainValidator(fields.duration(5_000, DAY_MS, 1_000))] = Field(
        description='whole seconds from 5 s to 1 day, such as 60 or "5min"', default=60_000
    )
    retry: Annotated[int, PlainValidator(fields.duration(1_000, 300_000))] = Field(
        description='a time from 1 s to 5 min, such as "18s"', default=18_000
    )
    profile: Literal["development", "production"] = Field(
        description='"development" or "production"', default="development"
    )
    way_in: WayIn | None = Field(description='a table such as { pin = 4, hold = "5s" }', default=None)
    spool: Spool = Field(description="a table [spool]", default=Spool())
    ntp: list[Annotated[Server, PlainValidator(_server)]] = Field(
        description=f'a list of 1 to {MAX_ENTRIES} time servers in quotes, such as ["pool.ntp.org"]',
        min_length=1,
        max_length=MAX_ENTRIES,
        default=[Server("pool.ntp.org", 123)],
    )
    wifi: list[Wifi] = Field(
        description=f"1 to {MAX_ENTRIES} tables [[wifi]] with the networks in order of preference",
        min_length=1,
        max_length=MAX_ENTRIES,
    )
    broker: list[Broker] = Field(
        description=f"1 to {MAX_ENTRIES} tables [[broker]] in order of preference",
        min_length=1,
        max_length=MAX_ENTRIES,
    )
    sensors: dict[str, Any] = Field(
        description="at least one table [sensors.NAME], such as [sensors.bme280]", min_length=1
    )


class NodeFile(Node):
    """A whole node file. Times are milliseconds."""

    sensors: dict[str, Sensor]
