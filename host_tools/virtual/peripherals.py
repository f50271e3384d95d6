"""What is around the chip, as its program asks for it: buses, pins, converter, radio, and the way out.

An operation is one letter with a payload; boards/virtual/ says what it means to the firmware.
"""

import errno
import json
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import ClassVar

from host_tools.boards import Board
from host_tools.virtual import adc
from host_tools.virtual.gateway import Gateway
from host_tools.virtual.radio import GATEWAY, Station, auth_mode
from host_tools.virtual.world import BusError, World

_DNS = (GATEWAY, 53)


@dataclass
class Pin:
    """The latest that the firmware did to a pin."""

    mode: int = 1  # Pin.IN
    pull: int = 0
    level: int = 0


class Peripherals:
    """Those of one board. `pins` is what the firmware did to each; `station` its radio."""

    def __init__(self, board: Board, world: World, mac: bytes) -> None:
        self.pins: dict[int, Pin] = {}
        self.station = Station(mac, world.access_points, time.monotonic)
        self.gateway = Gateway(self.station.is_up)
        self._world = world
        self._chip = board.features

    def reset(self) -> None:
        """What a reset of the chip does to them; a soft reset does nothing."""
        self.pins.clear()
        self.station.reset()

    async def close(self) -> None:
        await self.gateway.close()
        await self._world.name_server.close()

    def answer(self, operation: str, payload: bytes) -> bytes:
        """Do what can be done at once. Raises BusError when it fails on the board, KeyError when unknown."""
        return self._quick[operation](self, payload)

    def answer_later(self, operation: str) -> "Callable[[bytes], Awaitable[bytes]] | None":
        """Who does what takes a while; None when the operation is not of that kind. It may raise OSError."""
        return self._resolve if operation == "n" else None

    def _i2c(self, payload: bytes) -> bytes:
        scl, sda, address, _stop, count = struct.unpack_from("<BBBBH", payload)
        bus = self._world.i2c.get((scl, sda))
        if bus is None:  # nothing on these pins: the pull-ups of the module keep the lines up
            raise BusError(errno.ENODEV)
        return bus.transfer(address, payload[6:], count)

    def _onewire(self, payload: bytes) -> bytes:
        pin, operation, value = payload
        bus = self._world.onewire.get(pin)
        answer = 0
        if operation == 0:
            answer = int(bus.reset()) if bus else 0
        elif operation == 1:
            answer = bus.read_bit() if bus else 1
        elif operation == 2:
            answer = bus.read_byte() if bus else 0xFF
        elif operation == 3 and bus:
            bus.write_bit(value)
        elif operation == 4 and bus:
            bus.write_byte(value)
        return bytes((answer,))

    def _adc(self, payload: bytes) -> bytes:
        pin, attenuation = payload
        if pin in self._chip.adc_without_wifi and self.station.active:
            raise BusError(errno.ETIMEDOUT)
        source = self._world.analog.get(pin)
        return struct.pack("<HI", *adc.convert(source.microvolts() if source else 0, attenuation))

    def _pin(self, payload: bytes) -> bytes:
        gpio, mode, pull, level = struct.unpack("<Bbbb", payload)
        pin = self.pins.setdefault(gpio, Pin())
        pin.mode = mode if mode != -1 else pin.mode
        pin.pull = pull if pull != -1 else pin.pull
        pin.level = level if level != -1 else pin.level
        outside = self._world.inputs.get(gpio)
        if pin.mode == 3 or (pin.mode == 7 and not pin.level):  # Pin.OUT, or a 0 on Pin.OPEN_DRAIN
            return bytes((pin.level,))
        pulled_up = pin.pull & 2 and gpio not in self._chip.input_only
        return bytes((outside() if outside else int(bool(pulled_up)),))

    def _wlan(self, payload: bytes) -> bytes:
        words = json.loads(payload)
        station = self.station
        answer: dict[str, object] = {}
        if words["do"] == "active":
            answer["active"] = station.activate(words["on"])
        elif words["do"] == "connect":
            answer["error"] = station.connect(words["ssid"], words["key"])
        elif words["do"] == "disconnect":
            answer["error"] = station.disconnect()
        elif words["do"] == "reconnects":
            station.reconnects = words["times"]
        elif words["do"] == "status":
            answer = station.describe()
        elif words["do"] == "scan":
            answer["aps"] = [
                [ap.ssid, list(ap.bssid), ap.channel, ap.rssi, auth_mode(ap), False] for ap in station.scan()
            ]
        return json.dumps(answer).encode()

    async def _resolve(self, payload: bytes) -> bytes:
        words = json.loads(payload)
        if not self.station.is_up():
            raise OSError(errno.EIO, "no network")
        host, port = words["host"], words["port"]
        if (host, port) == _DNS:
            host, port = "127.0.0.1", await self._world.name_server.open()
        return json.dumps({"port": await self.gateway.port_for(host, port)}).encode()

    _quick: ClassVar[dict[str, Callable[["Peripherals", bytes], bytes]]] = {
        "i": _i2c,
        "o": _onewire,
        "a": _adc,
        "p": _pin,
        "w": _wlan,
    }
