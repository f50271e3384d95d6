"""The virtual board: a chip with its flash file, serial ports, radio and whatever is wired to it.

It does to the chip what hardware does: power, reset lines, the watchdog, deep sleep. After a reset the chip
is its ROM, which waits for a download or boots what is in the flash; MicroPython on this host plays what was
booted, and asks for everything outside of the chip (boards/virtual/). Everything runs in one asyncio loop,
from whichever thread that runs in; `bench.py` is the way in for code without a loop.
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
from typing import TYPE_CHECKING, ClassVar, Literal

from host_tools import parts as pypi_parts
from host_tools.boards import Board
from host_tools.virtual import boot_rom
from host_tools.virtual.boot_rom import Reset
from host_tools.virtual.chip import Console, Process
from host_tools.virtual.flash_chip import FlashChip
from host_tools.virtual.line_faults import LineFaults, heard_at
from host_tools.virtual.lines import EN_RISES_LATE, Effect, lines_of
from host_tools.virtual.peripherals import Peripherals
from host_tools.virtual.rfc2217_port import Rfc2217Port
from host_tools.virtual.rom.efuses import Efuses
from host_tools.virtual.serial_port import PtyPort
from host_tools.virtual.wire import Requests, reply
from host_tools.virtual.world import BusError, World

if TYPE_CHECKING:
    from host_tools.virtual.rom.engine import Rom

HEAP = 256 * 1024
"""Bytes of MicroPython's heap: what an ESP32 has after TLS and Wi-Fi took theirs (about 110 kB), doubled
because objects of the 64-bit port take about twice the bytes, and rounded up."""

_EPOCH_2000 = 946684800


class ResetCause(IntEnum):
    """machine.reset_cause()"""

    POWER_ON = 1
    HARD = 2
    WATCHDOG = 3
    DEEP_SLEEP = 4
    SOFT = 5


# What MicroPython makes of a reset (modmachine.c of its ESP32 port).
_CAUSE = {
    Reset.POWER_ON: ResetCause.POWER_ON,
    Reset.USB: ResetCause.POWER_ON,
    Reset.BROWNOUT: ResetCause.POWER_ON,
    Reset.SOFTWARE: ResetCause.HARD,
    Reset.BOOTLOADER: ResetCause.HARD,
    Reset.WATCHDOG: ResetCause.WATCHDOG,
    Reset.RTC_WATCHDOG: ResetCause.WATCHDOG,
    Reset.DEEP_SLEEP: ResetCause.DEEP_SLEEP,
}
_ALL_IS_LOST = (Reset.POWER_ON, Reset.USB, Reset.BROWNOUT)
"""Resets that RTC memory and clock do not survive."""
_CONSOLE_BAUDRATE = 115200
_LOOP = 0.7
"""Seconds from one try to boot to the next, when there is nothing to boot."""


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


class VirtualBoard:
    """A board that can be switched on. `flash` is its flash file, as long as its flash chip is large."""

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
        rfc2217: tuple[str, int] | None = None,
        paced: bool = False,
        efuses: Efuses | None = None,
        faults: LineFaults | None = None,
    ) -> None:
        """`mac`: 6 bytes, what unique_id() gives. `clock_set`: power-on finds a running clock with the host's
        time (a battery-backed one, which an ESP32 alone has not); else it starts at 2000-01-01.
        `on_output` gets every byte that the board prints, read by somebody or not.
        `rfc2217`: where to serve a port with DTR, RTS and a baud rate, as (host, port), port 0 for any;
        `paced`: bytes take their time on that port. `efuses`: what is burnt into the chip. `faults`: those of
        the serial line; the flash chip has its own (`flash_chip`).

        Raises LimpetError when the address cannot be served at."""
        self.flash = flash
        self.board = board
        self.world = world
        self.mac = mac
        self.output = on_output
        self.boots = 0
        self.is_on = False
        self.peripherals = Peripherals(board, world, mac)
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
        self.flash_chip = FlashChip(flash)
        self.flash_chip.on_brownout = self._brown_out
        self.faults = faults or LineFaults()
        self._efuses = efuses or Efuses()
        self._rom: Rom | None = None
        self._held = False
        self._rising: asyncio.TimerHandle | None = None
        self._lines = lines_of(board.console_kind)
        self._console = Console(self._printed, self._stop_code)
        self._full: set[str] = set()
        self.port = PtyPort(self._typed, lambda room: self._has_room("pty", room))
        self.net_port = rfc2217 and Rfc2217Port(
            rfc2217,
            self._typed,
            lambda room: self._has_room("net", room),
            self._lines_change,
            paced=paced and self._has_uart,
            spoil_out=self._over_the_wire,
            spoil_in=lambda data, baudrate: self._over_the_wire(data, baudrate, to_chip=True),
        )

    async def power_on(self, cut: PowerCut | None = None) -> None:
        """With a `cut` the board goes off by itself when that happens, and stays off."""
        self._power_comes(cut)

    async def power_off(self) -> None:
        """Cut the power: whatever the firmware was doing, it does not finish it."""
        self._power_fails(b"")

    async def reset(self) -> None:
        """Press the reset button (EN). To the ESP32 that is a power-on: RTC memory and clock are lost."""
        self.switch("reset")

    def switch(self, power: Literal["on", "off", "reset"]) -> None:
        """The same three for code inside the loop; what is on already stays as it is at "on"."""
        if power != "on":
            self._power_fails(b"")
        if power != "off" and not self.is_on:
            self._power_comes(None)

    @property
    def url(self) -> str:
        """The port with DTR and RTS, as pyserial opens it; only with `rfc2217`."""
        if self.net_port is None:
            raise ValueError("this board was made without rfc2217")
        return self.net_port.url

    @property
    def baudrate(self) -> int:
        """Bits a second at which the chip speaks now."""
        return self._rom.baudrate if self._rom else _CONSOLE_BAUDRATE

    def vanish(self, seconds: float) -> None:
        """Take the port with DTR and RTS away for so long, as when USB enumerates anew; the board runs on."""
        if self.net_port:
            self.net_port.vanish(seconds)

    async def close(self) -> None:
        self._stop()
        await self.peripherals.close()
        self.port.close()
        if self.net_port:
            self.net_port.close()
        self._console.close()

    @property
    def pid(self) -> int | None:
        """The process that plays the chip; None while off or in deep sleep."""
        return self._process.pid if self._process else None

    def _power_comes(self, cut: PowerCut | None) -> None:
        self._cut = cut
        self.is_on = True
        if not self._held:
            self._boot(Reset.POWER_ON)

    def _boot(self, why: Reset) -> None:
        """Begin anew: the ROM, the bootloader, and what they find in the flash."""
        if why in _ALL_IS_LOST:
            self._rtc_memory = b""
            self._clock_offset = 0 if self._clock_set else _EPOCH_2000 - int(time.time())
        found = boot_rom.start(self.board, why, self.flash_chip.read)
        self._printed(found.text.encode())
        if found.failed:
            self._alarm = self._loop.call_later(_LOOP, self._boot, found.failed)
        else:
            self.peripherals.reset()
            self._start(_CAUSE[why])

    def _download(self, why: Reset) -> None:
        """The ROM waits for a host that flashes the chip."""
        from host_tools.virtual.rom.engine import Rom  # with esptool's tables: most boards never need them

        def run() -> None:
            if self._rom is rom:
                self._restart(Reset.SOFTWARE)

        self._printed(boot_rom.download(self.board.chip, why).encode())
        self._rom = rom = Rom(
            self.board.chip, self.mac, self.flash_chip, self._printed, efuses=self._efuses, on_run=run
        )

    def _lines_change(self, dtr: bool, rts: bool) -> None:
        if self._rising:
            self._rising.cancel()
            self._rising = None
        self._act(self._lines.change(dtr, rts))

    def _act(self, effect: Effect) -> None:
        if effect is Effect.HOLD:
            self._held = True
            self._stop()
            self.peripherals.reset()
        elif effect is Effect.WAIT:
            self._rising = self._loop.call_later(EN_RISES_LATE, self._rise)
        elif effect in (Effect.BOOT, Effect.DOWNLOAD):
            why = Reset.POWER_ON if self._held else Reset.USB
            self._held = False
            self._stop()
            self.peripherals.reset()
            if self.is_on:
                self._download(why) if effect is Effect.DOWNLOAD else self._boot(why)

    def _rise(self) -> None:
        self._rising = None
        self._act(self._lines.late())

    def _typed(self, data: bytes) -> None:
        """Bytes from whoever has a port open."""
        if self._rising:  # no host sends anything while it is about to choose: it is done with the lines
            self._rising.cancel()
            self._rise()
        data = self.faults.spoil(data)
        if self._rom:
            self._rom.receive(data)
        elif self._process or self._alarm:
            self._console.type(data)

    @property
    def _has_uart(self) -> bool:
        return self.board.console_kind == "uart"

    def _over_the_wire(self, data: bytes, baudrate: int, to_chip: bool = False) -> bytes:
        """What is left of bytes between the chip and a host that has set this baud rate."""
        if not self._has_uart:  # USB has packets with checksums
            return data
        ours = self.baudrate
        data = self.faults.overdrive(data, max(baudrate, ours))
        return heard_at(data, baudrate, ours) if to_chip else heard_at(data, ours, baudrate)

    def _has_room(self, port: str, room: bool) -> None:
        self._full = self._full - {port} if room else self._full | {port}
        self._console.hear(not self._full)

    def _brown_out(self) -> None:
        self._printed(b"\r\nBrownout detector was triggered\r\n\r\n")
        self._restart(Reset.BROWNOUT)

    def _start(self, cause: ResetCause, interrupted: bool = False) -> None:
        self._cause = cause
        self._interrupted = interrupted
        self.boots += 1
        if cause is ResetCause.SOFT and not interrupted:
            self._printed(b"MPY: soft reboot\r\n")
        requests = Requests()

        def on_data(data: bytes) -> None:
            if not data:
                self._crashed()
            for operation, payload in requests.feed(data):
                if self._process is process:  # a reset among the requests ends the rest
                    self._serve(process, operation, payload)

        self._process = process = Process(self._console, self._heap, on_data)

    def _stop(self, keep_typed: bool = False) -> None:
        # What is typed after the firmware has asked for a reset is for the next boot. A machine that is late
        # with the reset must not lose it, so what was typed a little before is kept as well.
        for timer in (self._watchdog, self._alarm):
            if timer:
                timer.cancel()
        self._watchdog = self._alarm = None
        self._raw = False
        if self._rom:
            self._rom.stop()
            self._rom = None
        self._end_process()
        if not keep_typed:
            self._console.discard()

    def _end_process(self) -> None:
        if self._answering:
            self._answering.cancel()
        if self._process:
            self._process.kill()
            self._process = None
            self._console.drain()
        self._console.deafen()
        self.peripherals.gateway.drop()

    def _restart(self, why: Reset) -> None:
        self._stop()
        self._boot(why)

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
        self._alarm = self._loop.call_later(1.0, self._boot, Reset.SOFTWARE)

    def _printed(self, data: bytes) -> None:
        if self.output:
            self.output(data)
        if self._raw:
            data = self.faults.chat(data)
        data = self.faults.spoil(data)
        self.port.write(data)
        if self.net_port:
            self.net_port.write_data(data)

    # What the chip asks for. An operation is one letter; boards/virtual/ says what it means to the firmware.

    def _serve(self, process: Process, operation: str, payload: bytes) -> None:
        slow = self.peripherals.answer_later(operation)
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
            own = self._quick.get(operation)
            process.send(reply(own(self, payload) if own else self.peripherals.answer(operation, payload)))
        except BusError as e:
            process.send(reply(status=e.errno))
        except Exception:  # a fault of a model: the firmware sees a failed call, the loop's handler the rest
            process.send(reply(status=errno.EIO))
            raise

    async def _answer_later(
        self, process: Process, ask: Callable[[bytes], Awaitable[bytes]], payload: bytes
    ) -> None:
        try:
            frame = reply(await ask(payload))
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
                "chip": chip.esptool_name,
                "read_only": self.flash_chip.read_only,
                "slow": self.flash_chip.slow,
                "brownout": self.flash_chip.brownout,
                "pins": sorted(pins),
                "input_only": sorted(pins & chip.input_only),
                "adc_pins": sorted(pins & (chip.adc | chip.adc_without_wifi)),
            }
        ).encode()

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

    def _feed(self, _: bytes) -> None:
        if self._watchdog:
            self._watchdog.cancel()
        self._watchdog = self._loop.call_later(self._watchdog_time, self._bite)

    def _bite(self) -> None:
        self._console.drain()
        self._printed(b"\r\nE task_wdt: Task watchdog got triggered.\r\n")
        self._restart(Reset.WATCHDOG)

    def _hard_reset(self, _: bytes) -> None:
        self._stop(keep_typed=True)
        self._boot(Reset.SOFTWARE)

    def _soft_reset(self, _: bytes) -> None:
        self._end_process()  # the watchdog goes on, and what was typed is read by the next REPL
        self._start(ResetCause.SOFT)

    def _power_fails(self, _: bytes) -> None:
        self._stop()
        self.peripherals.reset()
        self.is_on = False

    def _brown_out_in_flash(self, _: bytes) -> None:
        self.flash_chip.brownout = None
        self._brown_out()

    def _in_mode(self, payload: bytes) -> None:
        self._raw = payload == b"\x01"

    def _listens(self, _: bytes) -> None:
        if self._process:
            self._console.listen(self._process.pid)

    def _sleep(self, payload: bytes) -> None:
        (milliseconds,) = struct.unpack("<q", payload)
        self._stop(keep_typed=True)
        self.peripherals.reset()
        if milliseconds >= 0:
            self._alarm = self._loop.call_later(milliseconds / 1000, self._boot, Reset.DEEP_SLEEP)

    _quick: ClassVar[dict[str, Callable[["VirtualBoard", bytes], bytes]]] = {
        "h": _hello,
        "t": _set_clock,
        "m": _set_rtc_memory,
        "W": _start_watchdog,
    }
    _silent: ClassVar[dict[str, Callable[["VirtualBoard", bytes], None]]] = {
        "l": _listens,
        "M": _in_mode,
        "f": _feed,
        "R": _hard_reset,
        "S": _soft_reset,
        "P": _power_fails,
        "B": _brown_out_in_flash,
        "D": _sleep,
    }
