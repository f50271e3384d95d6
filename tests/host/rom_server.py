"""A ROM on a TCP port for tests: esptool opens it as socket://, without lines to reset it by."""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from host_tools.virtual.flash_chip import FlashChip
from host_tools.virtual.rom.efuses import Efuses
from host_tools.virtual.rom.engine import Rom

MAC = bytes.fromhex("240ac4112233")
MIB = 1024 * 1024


class Server:
    """One board, reset into download mode at each connection unless `keep` is set.

    `rom` is the newest one; `runs` counts how often it left the download mode by itself, `brownouts` how
    often the supply failed.
    """

    def __init__(self, chip: str, flash: FlashChip, efuses: Efuses, mac: bytes = MAC) -> None:
        self.chip, self.flash, self.efuses, self.mac = chip, flash, efuses, mac
        self.keep = False
        self.rom: Rom | None = None
        self.runs = 0
        self.brownouts = 0
        self.baudrates: list[int] = []
        flash.on_brownout = self._brownout
        self._writer: asyncio.StreamWriter | None = None
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"socket://127.0.0.1:{port}"
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def close(self) -> None:
        """Hang up."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def has_stub(self) -> bool:
        """True if the flasher stub runs."""
        return self.rom is not None and self.rom.has_stub

    async def _close(self) -> None:
        self._server.close()
        if self._writer:
            self._writer.close()
        if self.rom:
            self.rom.stop()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        if not (self.keep and self.rom):
            if self.rom:
                self.rom.stop()
            self.rom = Rom(self.chip, self.mac, self.flash, self._send, efuses=self.efuses, on_run=self._ran)
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                self.rom.receive(data)
                if self.rom.baudrate not in self.baudrates:
                    self.baudrates.append(self.rom.baudrate)
        writer.close()

    def _send(self, data: bytes) -> None:
        if self._writer:
            self._writer.write(data)

    def _ran(self) -> None:
        self.runs += 1

    def _brownout(self) -> None:
        self.brownouts += 1


@contextlib.contextmanager
def rom_server(
    folder: Path, chip: str = "esp32", size: int = 4 * MIB, efuses: Efuses | None = None, mac: bytes = MAC
) -> Iterator[Server]:
    """A server with a blank flash in `folder`."""
    path = folder / f"{chip}-{size // MIB}.bin"
    path.write_bytes(b"\xff" * size)
    server = Server(chip, FlashChip(path), efuses or Efuses(), mac)
    try:
        yield server
    finally:
        server.close()


def esptool(
    url: str, *arguments: str | Path, options: Sequence[str] = (), ok: bool = True, deadline: float = 60
) -> str:
    """What the esptool command prints. `options` stand before the command."""
    command = [sys.executable, "-m", "esptool", "--port", url, "--before", "no-reset", *options]
    ended = subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=deadline,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
        check=False,
    )
    output = ended.stdout + ended.stderr
    assert (ended.returncode == 0) == ok, output
    return output
