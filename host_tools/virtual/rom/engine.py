"""The chip in download mode: bytes in, bytes out."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from esptool.targets import CHIP_DEFS

from host_tools.virtual.flash_chip import FlashChip, PowerFailed
from host_tools.virtual.rom import slip
from host_tools.virtual.rom.agenda import Agenda
from host_tools.virtual.rom.chip import Chip
from host_tools.virtual.rom.efuses import Efuses
from host_tools.virtual.rom.flash_bus import FlashBus
from host_tools.virtual.rom.loader import RomLoader
from host_tools.virtual.rom.ram import Ram
from host_tools.virtual.rom.registers import Registers
from host_tools.virtual.rom.stub import GREETING, Stub

CHIPS = ("esp32", "esp32s3", "esp32c3", "esp32c6")

ROM_BAUDRATE = 115200
_LONGEST_FRAME = 8 + 0x4000 + 0xFF  # bytes; the stub's buffer
_BUFFERS = 2  # frames that wait while the chip is busy; more are lost
_ROM_FLASH_SIZE = 4 * 1024 * 1024  # what the ROM takes the flash for until SPI_SET_PARAMS
_WATCHDOG = 0.05  # seconds; esptool sets 2000 ticks of a 136 kHz clock


class Rom:
    """Make one at each reset into download mode; `stop()` it when the chip is reset or loses power.

    `chip` is one of CHIPS. `send` gets the bytes for the host. `on_run` is called when the chip leaves
    download mode by itself: the host asked for the application, or a watchdog that it set has bitten.
    `baudrate` is the chip's; it changes after the response that says so was sent.

    When the flash's supply fails, the chip falls silent and the flash's `on_brownout` is called.
    Only what takes time needs a running event loop: a slow flash and the watchdog.
    """

    def __init__(
        self,
        chip: str,
        mac: bytes,
        flash: FlashChip,
        send: Callable[[bytes], None],
        *,
        efuses: Efuses | None = None,
        on_run: Callable[[], None] = lambda: None,
    ) -> None:
        if chip not in CHIPS:
            raise ValueError(f"chip {chip!r}; there are {', '.join(CHIPS)}")
        target: Any = CHIP_DEFS[chip]
        efuses = efuses or Efuses()
        self.baudrate = ROM_BAUDRATE
        self.on_run = on_run
        self._flash = flash
        self._send_on = send
        self._agenda = Agenda(self._send)
        self._slip = slip.Decoder(_LONGEST_FRAME)
        self._waiting: deque[bytes] = deque()
        self._timers: set[asyncio.TimerHandle] = set()
        self._busy = False
        self._stopped = False
        self._chip = Chip(
            target=target,
            efuses=efuses,
            registers=Registers(target, mac, efuses, flash, lambda: self.baudrate, self._set_watchdog),
            bus=FlashBus(flash, _ROM_FLASH_SIZE, self._agenda.spend),
            ram=Ram(),
            agenda=self._agenda,
            flash_size=flash.size,
            change_baudrate=self._change_baudrate,
            start_stub=self._start_stub,
            start_rom=self._start_rom,
            hang=self.stop,
            run=self._run,
        )
        answers = target.SECURITY_INFO_SUPPORTED or not efuses.secure_download
        self._loader: RomLoader | Stub | None = RomLoader(self._chip) if answers else None

    @property
    def has_stub(self) -> bool:
        """True while the flasher stub runs."""
        return isinstance(self._loader, Stub)

    def receive(self, data: bytes) -> None:
        """Bytes from the host. Never raises for what they are."""
        for frame in self._slip.feed(data):
            if not self._busy:
                self._serve(frame)
            elif len(self._waiting) < _BUFFERS:
                self._waiting.append(frame)

    def stop(self) -> None:
        """The chip is silent from now on, and its flash is left alone."""
        self._stopped = True
        self._loader = None
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _send(self, data: bytes) -> None:
        if not self._stopped:
            self._send_on(data)

    def _serve(self, frame: bytes) -> None:
        if self._loader is None:
            return
        failed = False
        try:
            self._loader.take(frame)
        except PowerFailed:
            failed = True
        duration, items = self._agenda.take()
        self._busy = bool(duration)
        for delay, action in items:
            if delay:
                self._later(delay, action)
            else:
                action()
        if self._busy and not self._stopped:
            self._later(duration, self._ready)
        if failed:
            self.stop()
            self._flash.on_brownout()

    def _ready(self) -> None:
        self._busy = False
        while self._waiting and not self._busy:
            self._serve(self._waiting.popleft())

    def _later(self, delay: float, action: Callable[[], None]) -> None:
        def due() -> None:
            self._timers.discard(timer)
            action()

        timer = asyncio.get_running_loop().call_later(delay, due)
        self._timers.add(timer)

    def _change_baudrate(self, rate: int) -> None:
        self.baudrate = rate

    def _start_stub(self) -> None:
        self._loader = Stub(self._chip)
        self._send(slip.encode(GREETING))

    def _start_rom(self) -> None:
        self.baudrate = ROM_BAUDRATE
        self._chip.bus.configure(_ROM_FLASH_SIZE)
        self._loader = RomLoader(self._chip)

    def _set_watchdog(self) -> None:
        self._later(_WATCHDOG, self._run)

    def _run(self) -> None:
        self.stop()
        self.on_run()
