"""The rung `emulator`: the composed flash, unchanged, in a program of the user's that plays the chip."""

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from host_tools.devices.port import Port
from host_tools.hil.blocked import Blocked
from host_tools.hil.board.image import NodeImage
from host_tools.hil.board.network import network_of
from host_tools.hil.errors import HilError
from host_tools.hil.listener import Listener
from host_tools.hil.rigs import EmulatorSpec, RigFile
from host_tools.hil.timeline import Timeline

_LOOPBACK = "127.0.0.1"
_ENDS_S = 10.0
_COMES_S = 30.0
_ANSWERS_S = 10.0
_LOOK_AGAIN_S = 0.05


@dataclass(frozen=True)
class Ports:
    """TCP ports of this machine, for what an emulator serves."""

    serial: int
    control: int


@dataclass(frozen=True)
class Emulator:
    """How an emulator is called."""

    program: str
    remedy: str
    arguments: Callable[[str, Path, Ports], list[str]]
    """From the chip and its flash file."""
    has_control: bool
    """It resets the chip when it is told to, and keeps no flash beyond its end. Else it is started anew for a
    reset, and waits with the boot until somebody has connected to the serial port."""


def _qemu(chip: str, flash: Path, ports: Ports) -> list[str]:
    file = str(flash).replace(",", ",,")
    return [
        *("-machine", chip, "-nographic", "-monitor", "none"),
        *("-drive", f"file={file},if=mtd,format=raw"),
        *("-serial", f"tcp:{_LOOPBACK}:{ports.serial},server=on,wait=on"),
    ]


def _esp_emu(chip: str, flash: Path, ports: Ports) -> list[str]:
    return [
        *("--chip", chip, "--firmware", str(flash)),
        *("--uart-tcp", f"{_LOOPBACK}:{ports.serial}", "--control-tcp", f"{_LOOPBACK}:{ports.control}"),
        *("--net", "user"),
    ]


EMULATORS: Mapping[str, Emulator] = {
    "qemu": Emulator(
        "qemu-system-xtensa",
        "install a release of github.com/espressif/qemu, or 'idf_tools.py install qemu-xtensa' of ESP-IDF",
        _qemu,
        has_control=False,
    ),
    "esp-emu": Emulator(
        "esp-emu", "install a release of github.com/espressif/esp-emulator", _esp_emu, has_control=True
    ),
}
"""By the kind in a rig file."""


class EmulatorRung:
    """A chip in a program, which runs from the first installation on.

    Its power is none that fails: a test that needs `power` is for another rung.
    """

    rung: Literal["emulator"] = "emulator"
    mac = ""  # what the program makes up says nothing about a board
    power = None
    radio = None

    def __init__(self, rig: RigFile, timeline: Timeline) -> None:
        """Raises Blocked when there is no such program."""
        if rig.emulator is None:
            raise ValueError(f"rig {rig.name} has no emulator; load_rig() refuses it")
        self._emulator = EMULATORS[rig.emulator.kind]
        self._program = _found(self._emulator, rig.emulator)
        self._board = rig.board
        self.network = network_of(rig.wifi)
        self._process: subprocess.Popen[bytes] | None = None
        with contextlib.ExitStack() as undo:
            folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="limpet-hil-")))
            self._flash = folder / "flash.bin"
            self._said = folder / "emulator.log"
            self._ports = _free_ports()
            port = Port(f"socket://{_LOOPBACK}:{self._ports.serial}", named=True)
            self.log = Listener(port, timeline)
            undo.callback(self.log.close)
            undo.callback(self._end)
            self._stack = undo.pop_all()

    @property
    def port(self) -> str:
        return self.log.current

    @property
    def micropython(self) -> str:
        return self._board.micropython.version if self._board.micropython else ""

    def install(self, image: NodeImage) -> None:
        self._run_anew(image.flash())

    def reset(self) -> None:
        if self._process is None:
            raise HilError("The emulator does not run before something is installed: install an image first.")
        if self._emulator.has_control:
            self.log.wait_until_open()
            self._reset_chip()
        else:
            self._run_anew()

    def close(self) -> None:
        self._stack.close()

    def _run_anew(self, flash: bytes | None = None) -> None:
        """Start it, with another flash or the one that it has left, and see that its port is heard."""
        with self.log.paused():
            self._end()
            if flash is not None:
                self._flash.write_bytes(flash)
            arguments = self._emulator.arguments(self._board.chip, self._flash, self._ports)
            with self._said.open("wb") as said:
                self._process = subprocess.Popen(
                    [self._program, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    start_new_session=True,  # a Ctrl-C is for us
                )
            self.log.begin()
        self._await_port(self._process)
        if self._emulator.has_control:
            self._reset_chip()

    def _await_port(self, process: "subprocess.Popen[bytes]") -> None:
        end = time.monotonic() + _COMES_S
        while not self.log.is_open:
            code = process.poll()
            if code is not None:
                raise HilError(f"'{self._program}' ended with exit code {code}: {self._last_words()}.")
            if time.monotonic() > end:
                raise HilError(f"'{self._program}' has not opened its serial port within {_COMES_S:g} s.")
            time.sleep(_LOOK_AGAIN_S)

    def _reset_chip(self) -> None:
        self.log.begin()
        try:
            with socket.create_connection((_LOOPBACK, self._ports.control), _ANSWERS_S) as control:
                control.sendall(b"reset\n")
                with control.makefile("rb") as answers:
                    answer = answers.readline().strip()
        except OSError as error:
            raise HilError(f"'{self._program}' cannot be told to reset its chip ({error}).") from None
        if answer != b"ok":
            said = answer.decode(errors="replace") or "nothing"
            raise HilError(f"'{self._program}' was told to reset its chip, and said {said}.")

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_ENDS_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _last_words(self) -> str:
        lines = self._said.read_text(errors="replace").strip().splitlines()
        return lines[-1].strip().rstrip(".") if lines else "it said nothing"


def _found(emulator: Emulator, spec: EmulatorSpec) -> str:
    """The program. Raises Blocked, with how to get it."""
    name = spec.program or emulator.program
    found = shutil.which(name)
    if found is None:
        where = "as the rig file names it" if spec.program else "on this machine's PATH"
        raise Blocked(
            f"There is no program '{name}', {where}: {emulator.remedy}; or name it by 'program' in the rig's "
            "[emulator]."
        )
    return found


def _free_ports() -> Ports:
    with socket.create_server((_LOOPBACK, 0)) as one, socket.create_server((_LOOPBACK, 0)) as other:
        return Ports(one.getsockname()[1], other.getsockname()[1])
