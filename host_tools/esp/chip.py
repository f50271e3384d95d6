"""A chip in its bootloader, by esptool: who it is, and its flash.

`connect` resets the board into the ROM's bootloader. What reads or writes flash loads esptool's stub first,
which is quicker than the ROM and can do more; where security settings forbid the stub, the ROM must do.
"""

import contextlib
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from esptool import cmds
from esptool.util import FatalError

from host_tools.errors import LimpetError, NoDeviceError, UnverifiedError
from host_tools.esp import quiet
from host_tools.line import open_line

ROM_BAUD = 115200
"""The speed of the ROM's bootloader until it is told another one, and of the firmware's console."""

Progress = Callable[[int, int], None]
"""Is told how many bytes are done, and of how many."""

# esptool answers a damaged conversation with any of these.
_TROUBLE = (FatalError, OSError, struct.error, LookupError, ValueError, TypeError, RuntimeError)
_MISMATCH = ("MD5 of file does not match", "Write failed, the written flash region is empty")
_ANSWER_S = 3.0  # esptool's own patience, so that it need not set another one for each command
_WRITE_S = 10.0
_GLANCE_S = 0.2  # how long one look at the port may take
_ATTEMPTS = 2  # esptool's resets differ in how long they wait; the second one suits boards that are slow


class LinkError(LimpetError):
    """The conversation with the chip broke off; on a slower line it may succeed."""


class ConsoleOf(Protocol):
    """What `connect` wants to know of a board (host_tools.boards.Board has it)."""

    @property
    def console_kind(self) -> str: ...


@dataclass(frozen=True)
class Security:
    """What the eFuses forbid."""

    encrypted: bool
    """The flash is encrypted: what is written plain cannot boot."""
    secure_boot: bool
    """Only signed software boots."""
    secure_download: bool
    """The bootloader neither tells nor reads anything."""


@contextlib.contextmanager
def connect(
    port: str, board: ConsoleOf | None = None, baud: int = 460800, deadline: float = 20.0
) -> Iterator["Chip"]:
    """The chip on `port` (a device, or any pyserial URL), reset into its bootloader; `port` stays open.

    `board` tells how its reset is wired; that way is tried first. `baud` is the speed for its flash.
    `deadline` bounds the seconds until it answers. The board stays in the bootloader unless `Chip.reset` ends
    that. Raises NoDeviceError when the port cannot be opened or no chip answers.
    """
    quiet.silence()
    line = open_line(port, _ANSWER_S, _WRITE_S)
    try:
        yield Chip(port, _detect(port, line, board, deadline), baud)
    finally:
        _close(line)


def _detect(port: str, line: Any, board: ConsoleOf | None, deadline: float) -> Any:
    # A USB port of Espressif's own tells esptool itself which reset it needs. One behind a URL cannot.
    # And the board may be another one than was said, which only the chip can tell.
    modes: Sequence[str] = ("default-reset", "usb-reset")
    if board is not None and board.console_kind == "usb-serial-jtag":
        modes = modes[::-1]
    end = time.monotonic() + deadline
    reason = ""
    while not reason or time.monotonic() < end:
        for mode in modes:
            try:
                if not line.is_open:  # esptool closes it when nobody answers
                    line.open()
                return cmds.detect_chip(line, ROM_BAUD, mode, connect_attempts=_ATTEMPTS)
            except _TROUBLE as error:
                reason = _reason(error)
    raise NoDeviceError(
        f"{port}: no ESP32 answers in its bootloader ({reason}); see that it is the board's port and that "
        "the board has power, or hold its BOOT button down while it resets."
    )


class Chip:
    """A chip in its bootloader. Raises LinkError when it stops answering."""

    def __init__(self, port: str, esp: Any, baud: int) -> None:
        self.port = port
        """The port as it was named."""
        self.name: str = esp.CHIP_NAME
        """As esptool calls it: "ESP32", "ESP32-S3", …"""
        self._esp = esp
        self._baud = baud
        self._attached = False
        self._hurries = False
        with self._told("asked who it is"):
            self.security = _security(esp)
            """What its eFuses forbid."""
            silent = self.security.secure_download
            self.mac = "" if silent else ":".join(f"{byte:02x}" for byte in esp.read_mac())
            """Its base MAC address, "24:0a:c4:00:00:01"; empty when it may not tell."""

    @property
    def flash_size(self) -> int:
        """Bytes of flash, 0 when the flash chip does not say."""
        with self._told("asked for its flash"):
            self._attach()
            size = cmds.detect_flash_size(self._esp)
            return cmds.flash_size_bytes(size) if size else 0

    @property
    def revision(self) -> int:
        """The chip's revision, 100 × major + minor."""
        with self._told("asked for its revision"):
            return int(self._esp.get_chip_revision())

    def hurry(self) -> None:
        """Load the stub and raise the speed, unless that is done or forbidden."""
        if self._hurries or self.security.secure_download:
            return
        with self._told("given the stub"):
            self._esp = cmds.run_stub(self._esp)
            if self._baud != ROM_BAUD:
                self._esp.change_baud(self._baud)
            self._attached = False
            self._hurries = True

    def read(self, offset: int, size: int, progress: Progress | None = None) -> bytes:
        """`size` bytes of flash from `offset` on."""
        self.hurry()
        with self._told("read"):
            self._attach()
            told = None if progress is None else lambda done, total, _offset: progress(done, total)
            return bytes(self._esp.read_flash(offset, size, told))

    def md5(self, offset: int, size: int) -> str:
        """The MD5 (hex) of a part of the flash, which the chip computes."""
        self.hurry()
        with self._told("asked for a hash"):
            self._attach()
            return str(self._esp.flash_md5sum(offset, size))

    def erase(self, offset: int, size: int) -> None:
        """Erase whole sectors."""
        self.hurry()
        with self._told("erased"):
            self._attach()
            self._esp.erase_region(offset, size)

    def erase_all(self) -> None:
        """Erase the whole flash; that takes up to two minutes."""
        self.hurry()
        with self._told("erased"):
            self._attach()
            self._esp.erase_flash()

    def write(self, parts: Sequence[tuple[int, bytes]], progress: Progress | None = None) -> None:
        """Write `parts` at their offsets, multiples of 4096, in this order; each is verified by its hash.

        Raises UnverifiedError when one does not read back.
        """
        self.hurry()
        total = sum(len(data) for _, data in parts)
        done = 0
        with self._told("written"):
            self._attach()
            for offset, data in parts:

                def report(part: int, of: int, done: int = done, size: int = len(data)) -> None:
                    if progress is not None:
                        progress(done + size * part // of, total)

                with quiet.progress(report):
                    cmds.write_flash(self._esp, [(offset, data)])
                done += len(data)

    def reset(self) -> None:
        """Start what is in flash. The chip is no longer in its bootloader; `lines` has what it says."""
        with self._told("reset"):
            # Together: some chips are told something before they are reset, and speak at once afterwards.
            if self._esp.get_baud() != ROM_BAUD:
                self._esp.change_baud(ROM_BAUD)
            self._esp.hard_reset()

    def lines(self, seconds: float) -> Iterator[str]:
        """What the board says after `reset`, line by line, for so long. A port that goes may come back."""
        end = time.monotonic() + seconds
        line = self._esp._port
        line.timeout = _GLANCE_S
        text = ""
        while (now := time.monotonic()) < end:
            try:
                if not line.is_open:
                    line.open()
                text += line.read(max(1, line.in_waiting)).decode(errors="replace")
            except OSError:  # a USB port of the chip's own may go at a reset
                _close(line)
                time.sleep(min(_GLANCE_S, end - now))
            *whole, text = text.splitlines(keepends=True) or [""]
            if text.endswith("\n"):
                whole, text = [*whole, text], ""
            yield from (each.rstrip() for each in whole)

    def _attach(self) -> None:
        if not self._attached:
            cmds.attach_flash(self._esp)
            self._attached = True

    @contextlib.contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        try:
            yield
        except _TROUBLE as error:
            reason = _reason(error)
            if reason.startswith(_MISMATCH):
                raise UnverifiedError(f"{self.port}: what was written does not read back.") from None
            raise LinkError(
                f"{self.port}: the board stopped answering while it was {doing} ({reason}); see to its cable "
                "and power, and try again."
            ) from None


def _security(esp: Any) -> Security:
    if esp.secure_download_mode:
        info = esp.get_security_info()
        encrypted = bin(info["flash_crypt_cnt"]).count("1") % 2 == 1
        return Security(encrypted, bool(info["parsed_flags"]["SECURE_BOOT_EN"]), secure_download=True)
    return Security(
        bool(esp.get_flash_encryption_enabled()), bool(esp.get_secure_boot_enabled()), secure_download=False
    )


def _reason(error: BaseException) -> str:
    """The first sentence of what esptool or pyserial says."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].strip().rstrip(".!:")


def _close(line: Any) -> None:
    with contextlib.suppress(OSError):
        # In this order the usual two transistors do not reset the chip. Lines that are released already stay
        # untouched: to esp_rfc2217_server each of these words is a reset.
        for name in ("rts", "dtr"):
            if getattr(line, name):
                setattr(line, name, False)
    with contextlib.suppress(OSError):
        line.close()
