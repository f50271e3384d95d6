"""The virtual board: a chip with its flash file, serial port, radio and whatever is wired to it.

It answers the requests of the MicroPython that plays the chip (boards/virtual/) and does to it what hardware
does: power, resets, the watchdog, deep sleep. Everything runs in one asyncio loop, from whichever
thread that runs in; `bench.py` is the way in for code without a loop.
"""

import asyncio
import errno
import json
import struct
import termios
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path
from typing import ClassVar, Literal

from host_tools import parts as pypi_parts
from host_tools.boards import Board
from host_tools.virtual import adc
from host_tools.virtual.chip import Console, Process
from host_tools.virtual.gateway import Gateway
from host_tools.virtual.radio import GATEWAY, Station, auth_mode
from host_tools.virtual.serial_port import PtyPort
from host_tools.virtual.wire import Requests, reply
from host_tools.virtual.world import BusError, World

HEAP = 256 * 1024
"""Bytes of MicroPython's heap: what an ESP32 has after TLS and Wi-Fi took theirs (about 110 kB), doubled
because objects of the 64-bit port take about twice the bytes, and rounded up."""

_EPOCH_2000 = 946684800
_DNS = (GATEWAY, 53)


class ResetCause(IntEnum):
    """machine.reset_cause()"""

    POWER_ON = 1
    HARD = 2
    WATCHDOG = 3
    DEEP_SLEEP = 4
    SOFT = 5


# What the ROM prints: reset reasons after the ESP32 Technical Reference Manual, §4.1.2 and rtc.h of the ROM.
_ROM_REASON = {
    ResetCause.POWER_ON: "0x1 (POWERON_RESET)",
    ResetCause.HARD: "0xc (SW_CPU_RESET)",
    ResetCause.WATCHDOG: "0x8 (TG1WDT_SYS_RESET)",
    ResetCause.DEEP_SLEEP: "0x5 (DEEPSLEEP_RESET)",
}


How = Literal["before", "torn", "after"]


@dataclass(frozen=True)
class PowerCut:
    """The power fails at the `operation`-th program or erase of the flash, counted from 1 at each reset, of
    those at addresses from `start` on and below `end`: before it, in the middle of it (the `seed` says
    which part of it is done), or after it."""

    operation: int
    how: How = "torn"
    seed: int = 0
    start: int = 0
    end: int | None = None


@dataclass
class Pin:
    """The latest that the firmware did to a pin."""

    mode: int = 1  # Pin.IN
    pull: int = 0
    level: int = 0


class VirtualBoard:
    """A board that can be switched on. `flash` is its flash file, which must pass `image.check` first."""

    def __init__(
        self,
        flash: Path,
        board: Board,
        world: World,
        mac: bytes,
        *,
        heap: int = HEAP,
        clock_set: bool = False,
        on_output: Callable[[bytes], None] | None = None,
    ) -> None:
        """`mac`: 6 bytes, what unique_id() gives. `clock_set`: power-on finds a running clock with the host's
        time (a battery-backed one, which an ESP32 alone has not); else it starts at 2000-01-01.
        `on_output` gets every byte that the board prints, read by somebody or not."""
        self.flash = flash
        self.board = board
        self.world = world
        self.mac = mac
        self.output = on_output
        self.pins: dict[int, Pin] = {}
        self.boots = 0
        self.is_on = False
        self.station = Station(mac, world.access_points, time.monotonic)
        self.gateway = Gateway(self.station.is_up)
        self._heap = heap
        self._clock_set = clock_set
        self._cut: PowerCut | None = None
        self._process: Process | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._watchdog_time = 0.0
        self._answering: asyncio.Task[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._rtc_memory = b""
        self._clock_offset = 0
        self._raw = False
        self._cause = ResetCause.POWER_ON
        self._loop = asyncio.get_running_loop()
        self._console = Console(self._printed, self._stop_code)
        self.port = PtyPort(self._console.type, self._console.hear)

    async def power_on(self, cut: PowerCut | None = None) -> None:
        """With a `cut` the board goes off by itself when that happens, and stays off."""
        self._cut = cut
        self.is_on = True
        self._rtc_memory = b""
        self._clock_offset = 0 if self._clock_set else _EPOCH_2000 - int(time.time())
        self._start(ResetCause.POWER_ON)

    async def power_off(self) -> None:
        """Cut the power: whatever the firmware was doing, it does not finish it."""
        self._power_fails(b"")

    async def reset(self) -> None:
        """Press the reset button (EN). To the ESP32 that is a power-on: RTC memory and clock are lost."""
        await self.power_off()
        await self.power_on()

    async def close(self) -> None:
        self._stop()
        await self.gateway.close()
        await self.world.name_server.close()
        self.port.close()
        self._console.close()

    @property
    def pid(self) -> int | None:
        """The process that plays the chip; None while off or in deep sleep."""
        return self._process.pid if self._process else None

    def _start(self, cause: ResetCause, interrupted: bool = False) -> None:
        self._cause = cause
        self._interrupted = interrupted
        self.boots += 1
        if cause is ResetCause.SOFT and not interrupted:
            self._printed(b"MPY: soft reboot\r\n")
        elif not interrupted:
            self._raw = False
            self.pins.clear()
            self.station.reset()
            why = f"rst:{_ROM_REASON[cause]},boot:0x13 (SPI_FAST_FLASH_BOOT)"
            self._printed(f"ets Jul 29 2019 12:21:46\r\n\r\n{why}\r\n".encode())
        requests = Requests()

        def on_data(data: bytes) -> None:
            if not data:
                self._crashed()
            for operation, payload in requests.feed(data):
                if self._process is process:  # a reset among the requests ends the rest
                    self._serve(process, operation, payload)

        self._process = process = Process(self._console, self._heap, on_data)

    def _stop(self) -> None:
        for timer in (self._watchdog, self._alarm):
            if timer:
                timer.cancel()
        self._watchdog = self._alarm = None
        self._end_process()
        self._console.discard()

    def _end_process(self) -> None:
        if self._answering:
            self._answering.cancel()
        if self._process:
            self._process.kill()
            self._process = None
            self._console.drain()
        self._console.deafen()
        self.gateway.drop()

    def _restart(self, cause: ResetCause) -> None:
        self._stop()
        self._start(cause)

    def _stop_code(self) -> None:
        # A Ctrl-C that the unix port could not survive. It was meant to stop the code and get a prompt.
        self._console.drain()
        what = b"KeyboardInterrupt: \r\n(virtual board: the code never paused, so RAM is lost)\r\n"
        self._printed(b"\x04%s\x04" % what if self._raw else b"\r\n" + what)
        self._end_process()
        self._start(self._cause, interrupted=True)

    def _crashed(self) -> None:
        if self._console.just_interrupted():
            self._stop_code()
            return
        # The unix port died: as near as it comes to the ESP32's panic handler, which resets the chip.
        self._console.drain()
        self._printed(b"\r\nvirtual board: MicroPython ended by itself; rebooting\r\n")
        self._stop()
        self._alarm = self._loop.call_later(1.0, self._start, ResetCause.HARD)

    def _printed(self, data: bytes) -> None:
        self.port.write(data)
        if self.output:
            self.output(data)

    # What the chip asks for. An operation is one letter; boards/virtual/ says what it means to the firmware.

    def _serve(self, process: Process, operation: str, payload: bytes) -> None:
        slow = self._slow.get(operation)
        if slow:
            self._answering = asyncio.create_task(self._answer_later(process, slow, payload))
            return
        silent = self._silent.get(operation)
        if silent:
            silent(self, payload)
            return
        if operation == "=":  # a Ctrl-C came in the middle of an answer: get back in step
            if self._answering:
                self._answering.cancel()
            process.send(payload)
            return
        try:
            process.send(reply(self._quick[operation](self, payload)))
        except BusError as e:
            process.send(reply(status=e.errno))
        except Exception:  # a fault of a model: the firmware sees a failed call, the loop's handler the rest
            process.send(reply(status=errno.EIO))
            raise

    async def _answer_later(self, process: Process, ask: "_Slow", payload: bytes) -> None:
        try:
            frame = reply(await ask(self, payload))
        except OSError as e:
            frame = reply(status=e.errno if e.errno and 0 < e.errno < 256 else errno.EIO)
        if self._process is process:
            process.send(frame)

    def _hello(self, _: bytes) -> bytes:
        pins, chip = self.board.gpios(), self.board.features
        return json.dumps(
            {
                "flash": str(self.flash.resolve()),
                "cut": self._cut and asdict(self._cut),
                "umqtt": str(pypi_parts.umqtt_simple()),
                "mac": list(self.mac),
                "reset_cause": int(self._cause),
                "raw": self._raw,
                "interrupted": self._interrupted,
                "isig": termios.ISIG,
                "clock_offset": self._clock_offset,
                "rtc_memory": list(self._rtc_memory),
                "freq": 160000000,
                "pins": sorted(pins),
                "adc_pins": sorted(pins & (chip.adc | chip.adc_without_wifi)),
            }
        ).encode()

    def _i2c(self, payload: bytes) -> bytes:
        scl, sda, address, _stop, count = struct.unpack_from("<BBBBH", payload)
        bus = self.world.i2c.get((scl, sda))
        if bus is None:  # nothing on these pins: the pull-ups of the module keep the lines up
            raise BusError(errno.ENODEV)
        return bus.transfer(address, payload[6:], count)

    def _onewire(self, payload: bytes) -> bytes:
        pin, operation, value = payload
        bus = self.world.onewire.get(pin)
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
        if pin in self.board.features.adc_without_wifi and self.station.active:
            raise BusError(errno.ETIMEDOUT)
        source = self.world.analog.get(pin)
        return struct.pack("<HI", *adc.convert(source.microvolts() if source else 0, attenuation))

    def _pin(self, payload: bytes) -> bytes:
        gpio, mode, pull, level = struct.unpack("<Bbbb", payload)
        pin = self.pins.setdefault(gpio, Pin())
        pin.mode = mode if mode != -1 else pin.mode
        pin.pull = pull if pull != -1 else pin.pull
        pin.level = level if level != -1 else pin.level
        outside = self.world.inputs.get(gpio)
        if pin.mode == 3 or (pin.mode == 7 and not pin.level):  # Pin.OUT, or a 0 on Pin.OPEN_DRAIN
            return bytes((pin.level,))
        pulled_up = pin.pull & 2 and gpio not in self.board.features.input_only
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

    def _set_clock(self, payload: bytes) -> bytes:
        (self._clock_offset,) = struct.unpack("<q", payload)
        return b""

    def _set_rtc_memory(self, payload: bytes) -> bytes:
        self._rtc_memory = payload
        return b""

    def _start_watchdog(self, payload: bytes) -> bytes:
        (milliseconds,) = struct.unpack("<I", payload)
        self._watchdog_time = milliseconds / 1000
        self._feed(b"")
        return b""

    async def _resolve(self, payload: bytes) -> bytes:
        words = json.loads(payload)
        if not self.station.is_up():
            raise OSError(errno.EIO, "no network")
        host, port = words["host"], words["port"]
        if (host, port) == _DNS:
            host, port = "127.0.0.1", await self.world.name_server.open()
        return json.dumps({"port": await self.gateway.port_for(host, port)}).encode()

    def _feed(self, _: bytes) -> None:
        if self._watchdog:
            self._watchdog.cancel()
        self._watchdog = self._loop.call_later(self._watchdog_time, self._bite)

    def _bite(self) -> None:
        self._console.drain()
        self._printed(b"\r\nE task_wdt: Task watchdog got triggered.\r\n")
        self._restart(ResetCause.WATCHDOG)

    def _hard_reset(self, _: bytes) -> None:
        self._restart(ResetCause.HARD)

    def _soft_reset(self, _: bytes) -> None:
        self._end_process()  # the watchdog goes on, and what was typed is read by the next REPL
        self._start(ResetCause.SOFT)

    def _power_fails(self, _: bytes) -> None:
        self._stop()
        self.station.reset()
        self.is_on = False

    def _in_mode(self, payload: bytes) -> None:
        self._raw = payload == b"\x01"

    def _listens(self, _: bytes) -> None:
        if self._process:
            self._console.listen(self._process.pid)

    def _sleep(self, payload: bytes) -> None:
        (milliseconds,) = struct.unpack("<q", payload)
        self._stop()
        self.station.reset()
        if milliseconds >= 0:
            self._alarm = self._loop.call_later(milliseconds / 1000, self._start, ResetCause.DEEP_SLEEP)

    _quick: ClassVar[dict[str, Callable[["VirtualBoard", bytes], bytes]]] = {
        "h": _hello,
        "i": _i2c,
        "o": _onewire,
        "a": _adc,
        "p": _pin,
        "w": _wlan,
        "t": _set_clock,
        "m": _set_rtc_memory,
        "W": _start_watchdog,
    }
    _slow: ClassVar[dict[str, "_Slow"]] = {"n": _resolve}
    _silent: ClassVar[dict[str, Callable[["VirtualBoard", bytes], None]]] = {
        "l": _listens,
        "M": _in_mode,
        "f": _feed,
        "R": _hard_reset,
        "S": _soft_reset,
        "P": _power_fails,
        "D": _sleep,
    }


_Slow = Callable[[VirtualBoard, bytes], Awaitable[bytes]]
