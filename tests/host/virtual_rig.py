"""A bare virtual board for tests: no broker, no firmware but what the test puts into its flash."""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import serial
from mpremote.transport import TransportError
from mpremote.transport_serial import SerialTransport

from host_tools import boards, image
from host_tools.virtual import control
from host_tools.virtual.bench import Bench
from host_tools.virtual.board import VirtualBoard
from host_tools.virtual.rom.efuses import Efuses
from host_tools.virtual.world import World
from tests.host.stand import wait_until

BOARD = boards.load_board("virtual")
MAC = bytes.fromhex("240ac4aabbcc")
BLANK = b""
"""For `boards_on_bench`: a flash as it comes from the factory."""
T = TypeVar("T")


def compose(files: Mapping[str, bytes] | None = None, kind: boards.Board = BOARD) -> bytes:
    """A whole flash with these files, the stand-in for MicroPython, and nothing else."""
    return image.compose(kind, files or {}, stand_in=True)


class Rig:
    """A board that is switched on. `log` is all that it has printed; `flash` its flash file.

    `options` are those of VirtualBoard; `kind` is the board's description, `mac` its address.
    """

    def __init__(
        self,
        bench: Bench,
        path: Path,
        flash: bytes | None = None,
        *,
        kind: boards.Board = BOARD,
        mac: bytes = MAC,
        **options: Any,
    ) -> None:
        self.bench = bench
        self.flash = path
        self.flash.write_bytes(compose(kind=kind) if flash is None else flash)
        self.kind = kind
        self._mac = mac
        self.world = options.pop("world", World())
        self._log = bytearray()

        async def power_on() -> VirtualBoard:
            board = VirtualBoard(path, kind, self.world, mac, on_output=self._log.extend, **options)
            await board.power_on()
            return board

        self.board = bench.run(power_on())
        bench.on_close(self.board.close)

    @property
    def url(self) -> str:
        """Its port with DTR and RTS; only with `rfc2217`."""
        return self.board.url

    @property
    def mac(self) -> str:
        """As esptool writes it: "24:0a:c4:aa:bb:cc"."""
        return self._mac.hex(":")

    @property
    def log(self) -> str:
        return self._log.decode(errors="replace").replace("\r", "")

    @property
    def port(self) -> str:
        return self.board.port.path

    @property
    def pid(self) -> int:
        pid = self.board.pid
        assert pid is not None
        return pid

    def says(self, text: str, since: int = 0, times: int = 1) -> None:
        try:
            wait_until(lambda: self.log[since:].count(text) >= times, repr(text))
        except AssertionError as e:
            raise AssertionError(f"{e}; the board said:\n{self.log[since:]}") from None

    def faults(self, **values: Any) -> None:
        """Set faults by name: the table FAULTS in host_tools/virtual/control.py."""

        def set_all() -> None:
            for name, value in values.items():
                control.set_fault(self.board, name, value)

        self.inside(set_all)

    def power_off(self) -> None:
        self.bench.run(self.board.power_off())

    def power_on(self) -> None:
        self.bench.run(self.board.power_on())

    @contextlib.contextmanager
    def terminal(self) -> Iterator["Terminal"]:
        """The serial port, typed at as a person does."""
        with _patiently(lambda: serial.Serial(self.port, timeout=0.05, exclusive=True)) as port:
            yield Terminal(port, self)

    @contextlib.contextmanager
    def raw_repl(self, soft_reset: bool = False) -> Iterator[SerialTransport]:
        """mpremote's transport, in the raw REPL."""
        transport = _patiently(lambda: SerialTransport(self.port, timeout=20))
        try:
            transport.enter_raw_repl(soft_reset=soft_reset, timeout_overall=30)
            yield transport
            if transport.in_raw_repl:
                transport.exit_raw_repl()
        finally:
            transport.close()

    def run(self, code: str) -> str:
        """Run code on the board and give what it prints; an exception there is one here."""
        with self.raw_repl() as board:
            return str(board.exec(code).decode().replace("\r", ""))

    def eval(self, expression: str) -> Any:
        with self.raw_repl() as board:
            return board.eval(f"({expression})")

    def last_words(self, code: str) -> int:
        """Run code that does not come back, such as a reset; the place in the log where it began."""
        with self.raw_repl() as board:
            since = len(self.log)
            board.exec_raw_no_follow(code)
            board.in_raw_repl = False
            return since

    def inside(self, function: Callable[[], T]) -> T:
        """Call a function in the supervisor's loop, where the world may be changed."""
        return self.bench.call(function)


@contextlib.contextmanager
def boards_on_bench(
    count: int = 1,
    board: str = "virtual",
    flash: bytes | None = None,
    *,
    paced: bool = False,
    efuses: Efuses | None = None,
    **faults: Any,
) -> Iterator[list[Rig]]:
    """So many boards, each with its MAC, flash and `url`: esptool, mpremote and limpet take them for real.

    `flash`: what is in them at first, by default MicroPython without files; `BLANK` for nothing at all.
    `paced`: the port is as slow as its baud rate. `faults`: by name, as host_tools/virtual/control.py has
    them in its table; `efuses` is what is burnt into the chips.
    """
    kind = boards.load_board(board)
    with tempfile.TemporaryDirectory() as folder, Bench() as bench:
        made = [
            Rig(
                bench,
                Path(folder) / f"{number}.bin",
                b"\xff" * kind.flash_size if flash == BLANK else flash,
                kind=kind,
                mac=MAC[:5] + bytes((number,)),
                rfc2217=("127.0.0.1", 0),
                paced=paced,
                efuses=efuses,
            )
            for number in range(count)
        ]
        for rig in made:
            rig.faults(**faults)
        yield made


def _patiently(open_port: Callable[[], T]) -> T:
    # A process that a board starts holds the lock of a port that we have just closed, until its exec.
    for _ in range(50):
        with contextlib.suppress(serial.SerialException, TransportError):
            return open_port()
        time.sleep(0.02)
    return open_port()


class Terminal:
    """A serial port and what came out of it."""

    def __init__(self, port: serial.Serial, rig: Rig) -> None:
        self.port = port
        self.rig = rig
        self.seen = b""

    def send(self, data: bytes) -> None:
        self.port.write(data)

    def wait(self, text: bytes, seconds: float = 30.0) -> bytes:
        """Read until `text` has come; all that came with and before it."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            self.seen += self.port.read(max(1, self.port.in_waiting))
            assert time.monotonic() < end, f"no {text!r} within {seconds:.0f} s, but {self.seen[-2000:]!r}"
        head, _, self.seen = self.seen.partition(text)
        return head + text

    def prompt(self) -> None:
        """Get the friendly prompt, whatever the board was doing."""
        self.send(b"\x03\x02print('re' + 'ady')\r")
        self.wait(b"\r\nready\r\n>>> ")
