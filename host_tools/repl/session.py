"""A board with its program stopped, and Python run on it."""

import contextlib
import re
import threading
import time
from collections.abc import Callable
from enum import Enum
from types import TracebackType
from typing import Any, Self

from mpremote.transport import TransportError
from mpremote.transport_serial import SerialTransport

from host_tools.errors import LimpetError, NoDeviceError, RefusedError, UnverifiedError
from host_tools.line import answerback
from host_tools.repl import envelope
from host_tools.repl.errors import BoardError, Damaged, ReplError
from host_tools.repl.port import Port

_BANNER = b"raw REPL; CTRL-B to exit\r\n>"
_STOP, _RAW, _SOFT_RESET = b"\r\x03", b"\r\x01", b"\x04"

_ENTER_S = 3.0  # for a node that flushes its spool first; a second Ctrl-C would cut that short
_START_S = 8.0  # from a reset through the ROM, the bootloader and a slow boot.py
_TELLS_S = 1.0  # four times what a node takes to answer who it is
_ASK_AGAIN_S = 0.5
_ASK_A_STARTER_S = 0.1  # to be heard before main.py forbids it
_SETTLE_S = 0.1  # longer than a byte and an echo take; shorter than anybody notices
_ACCEPT_S = 1.5  # without a sign of the board while it is sent code; mpremote's own limit is 10 s
_RUN_S = 12.0  # to run it; the hashes of a whole firmware take an ESP32 two
_TAKE_S = 3.0  # to put a piece on the flash, and for each kilobyte of it
_TAKE_KILOBYTE_S = 1.0
_FAREWELL_S = 4.0
_SESSION_S = 180.0
_SLOW_LINE = 5000  # bytes a second that any line carries

_MOST_PIECE = 8192
_LEAST_PIECE = 192  # less than the board's receive buffer: it is safe without flow control
_PIECE_OF_HEAP = 16  # a piece is in RAM as text, as bytes and unpacked

# A node that was stopped leaves its modules behind; a soft reset would free them too, and take a second.
_FREE = """
os.chdir("/")
for name in list(sys.modules):
    if name.split(".")[0] == "limpet":
        del sys.modules[name]
globals().pop("node", None)
gc.collect()
"""


class _Rung(Enum):
    """What is done before the next try, from the mildest."""

    AGAIN = "again"
    INTERRUPT = "Ctrl-C, and into the raw REPL again"
    RESET = "a reset, and into the raw REPL again"
    PLAIN = "without raw paste, in small pieces"


_FORGOTTEN = re.compile("NameError: name '(opened|say)'")
_NO_DAMAGE = ("MemoryError", "AttributeError", "TypeError", "RuntimeError")

_LADDER = (_Rung.AGAIN, _Rung.INTERRUPT, _Rung.INTERRUPT, _Rung.RESET, *[_Rung.PLAIN] * 4)


class Repl:
    """A board with its program stopped, in the raw REPL; it restarts at the end of the `with` block.

    What is run must be repeatable: it is tried again when the line fails. `setup` is Python that comes before
    it, and again whenever the board has restarted in between.

    Raises NoDeviceError when the port cannot be opened, when nothing answers, or no more; RefusedError when a
    node answers that is locked; BoardError when the board raises an exception; UnverifiedError when nothing
    arrives undamaged; Stopped when `stop` is set.
    """

    def __init__(self, port: str, setup: str = "", stop: threading.Event | None = None) -> None:
        """Open the port. The board notices nothing until the `with` block begins."""
        self._name = port
        self._setup = setup
        self._port = Port(port, stop or threading.Event())
        self._transport = _Transport(self._port)
        self._is_set_up = False
        self._piece = _MOST_PIECE
        self._heard = b""

    def __enter__(self) -> Self:
        self._end = time.monotonic() + _SESSION_S
        try:
            self._approach()
        except BaseException:
            self._port.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._port.stop = None
            with contextlib.suppress(TransportError, OSError):
                if error is not None and not self._stop_program(_FAREWELL_S):
                    return
                # Its answer is not waited for: the board is gone before it can give one.
                self._port.wait_at_most(_ACCEPT_S, _FAREWELL_S)
                self._transport.exec_raw_no_follow("import machine\nmachine.reset()")
        finally:
            self._port.close()

    def close(self) -> None:
        """Close the port, and leave the board as it is: untouched, or stopped."""
        self._port.close()

    def run(self, code: str) -> str:
        """Run Python on the board and give what it prints. What it defines stays until the board restarts."""
        return str(self._exchange(lambda: envelope.code(code), lambda printed: printed))

    def ask(self, expression: str, seconds: float | None = None) -> Any:
        """The value of an expression on the board: numbers, strings, and what is made of them.

        `seconds` is how long it may take, if that is long.
        """
        return self._exchange(lambda: f"say({expression})", envelope.answer, lambda: seconds or _RUN_S)

    def give(self, function: str, cut: Callable[[int], bytes]) -> Any:
        """Call a function on the board with a stream of bytes, and give what it returns.

        `cut` gets how many characters the bytes may have in their envelope, and gives them. That is less
        after each failure.
        """
        return self._exchange(
            lambda: f"say({function}({envelope.sealed(cut(self._piece))}))",
            envelope.answer,
            lambda: _TAKE_S + _TAKE_KILOBYTE_S * self._piece / 1024,
        )

    def ask_once(self, expression: str, seconds: float) -> Any:
        """As `ask`, for what cannot be repeated: None when the answer is lost. The board may have done it."""
        try:
            return envelope.answer(self._execute(f"say({expression})", seconds))
        except (Damaged, TransportError, OSError) as error:
            self._climb(_Rung.INTERRUPT, error)
            return None

    def has_memory(self, free: int) -> None:
        """The board says how many bytes of its heap are free."""
        self._piece = max(_LEAST_PIECE, min(self._piece, free // _PIECE_OF_HEAP))

    def _exchange(
        self,
        text: Callable[[], str],
        parse: Callable[[str], Any],
        seconds: Callable[[], float] = lambda: _RUN_S,
    ) -> Any:
        last: Exception | None = None
        for rung in (*_LADDER, None):
            try:
                opening = "" if self._is_set_up else self._opening()
                printed = self._execute(opening + text(), seconds())
                self._is_set_up = True
                return parse(printed)
            except BoardError as error:
                if self._is_meant(error, last):
                    raise
                if _FORGOTTEN.match(error.last_line):  # it has restarted by itself
                    self._is_set_up = False
                last = error
            except (Damaged, TransportError, OSError) as error:
                last = error
            if rung is None or time.monotonic() > self._end:
                break
            self._climb(rung, last)
        raise self._given_up(last)

    def _opening(self) -> str:
        return f"{envelope.OPENING}{envelope.code(_FREE + envelope.SAY + self._setup)}\n"

    def _execute(self, text: str, seconds: float) -> str:
        data = text.encode()
        self._port.wait_at_most(_ACCEPT_S + len(data) / _SLOW_LINE, _ACCEPT_S + 3 * len(data) / _SLOW_LINE)
        self._transport.exec_raw_no_follow(data)
        self._port.wait_at_most(seconds, seconds)
        output, error = self._transport.follow(None)
        if error:
            raise BoardError(self._name, _last_line(error.decode(errors="replace")))
        return str(output.decode(errors="replace"))

    # Getting there

    def _approach(self) -> None:
        """The first time: stop the program, by a reset if it does not let itself be stopped."""
        heard = b""
        try:
            for _ in range(2):
                if self._stop_program(_ENTER_S):
                    return
            self._refuse_locked()
            if self._restart():
                return
            heard = self._heard
        except OSError as error:
            raise NoDeviceError(f"{self._name}: the port has gone ({_last_line(str(error))}).") from None
        raise ReplError(
            f"{self._name}: no MicroPython answers ({_quoted(heard)}); see that it is the board's port, and "
            "that the board runs MicroPython."
        )

    def _refuse_locked(self) -> None:
        """Raise RefusedError if it is a node that lets nobody in: a reset would not help, but cost time."""
        self._port.wait_at_most(_TELLS_S, _TELLS_S)
        heard = b""
        with contextlib.suppress(TimeoutError):
            self._port.write(answerback.ASK)
            while not (found := answerback.ANSWER.search(heard)):
                heard = (heard + self._port.read_some())[-4096:]
            if found[3]:
                node = found[2].decode(errors="replace")
                raise RefusedError(
                    f"{self._name}: node {node} is locked (profile production): use its way in, or flash it "
                    "anew (docs/production.md)."
                )

    def _climb(self, rung: _Rung, error: Exception | None) -> None:
        """Do what may help. Raises ReplError when the board is gone."""
        if isinstance(error, OSError) and not isinstance(error, TimeoutError):
            self._reopen(error)
        self._piece = _LEAST_PIECE if rung is _Rung.PLAIN else max(_LEAST_PIECE, self._piece // 2)
        if rung is _Rung.PLAIN:
            self._transport.use_raw_paste = False
        if _has_answered(error) and rung in (_Rung.AGAIN, _Rung.RESET):
            return  # and waits for the next
        try:
            if rung is not _Rung.RESET and self._stop_program(_ENTER_S):
                return
            if self._restart():
                return
        except OSError as failure:
            self._reopen(failure)
            with contextlib.suppress(OSError):
                if self._stop_program(_START_S):
                    return
        raise self._given_up(error)

    def _reopen(self, error: OSError) -> None:
        try:
            self._port.reopen()
        except NoDeviceError:
            raise ReplError(
                f"{self._name}: the port has gone ({_last_line(str(error))}); see to its cable and power, "
                "and try again."
            ) from None

    def _stop_program(self, seconds: float) -> bool:
        """Stop whatever runs, and get into the raw REPL."""
        return self._knock(_STOP + _RAW, _RAW, seconds, _ASK_AGAIN_S)

    def _restart(self) -> bool:
        """Reset the board, and stop its program before it gets far."""
        self._is_set_up = False
        if self._port.reset_board():
            return self._knock(_STOP + _RAW, _STOP + _RAW, _START_S, _ASK_A_STARTER_S)
        if not self._stop_program(_ENTER_S):
            return False
        return self._knock(_SOFT_RESET, _RAW, _START_S, _ASK_AGAIN_S, b"soft reboot\r\n")

    def _knock(self, first: bytes, again: bytes, seconds: float, pause: float, after: bytes = b"") -> bool:
        """Send something until the raw REPL answers, which counts only `after` something else."""
        self._port.wait_at_most(seconds, seconds)
        self._heard = b""
        knocks = 0
        due = 0.0
        try:
            while True:
                if time.monotonic() >= due:
                    self._port.write(again if knocks else first)
                    knocks += 1
                    due = time.monotonic() + pause
                self._heard = (self._heard + self._port.read_some())[-4096:]
                if after in self._heard and _BANNER in self._heard[self._heard.find(after) :]:
                    if knocks > 1:
                        self._settle()
                    self._port.unread(b">")
                    return True
        except TimeoutError:
            return False

    def _settle(self) -> None:
        """Let pass the answers to further knocks."""
        quiet = time.monotonic() + _SETTLE_S
        while time.monotonic() < quiet:
            if self._port.read_some():
                quiet = time.monotonic() + _SETTLE_S

    def _is_meant(self, error: BoardError, last: Exception | None) -> bool:
        """Whether the board means it. Most exceptions can come of code that arrived damaged."""
        if error.errno is not None:
            return True
        again = isinstance(last, BoardError) and last.last_line == error.last_line
        missing = re.match(r"ImportError: no module named '(\w+)'", error.last_line)
        return again and bool(missing and missing[1] in envelope.OPENING + self._setup)

    def _given_up(self, error: Exception | None) -> LimpetError:
        if isinstance(error, BoardError) and error.last_line.startswith(_NO_DAMAGE):
            return error
        if isinstance(error, (BoardError, Damaged)):
            return UnverifiedError(
                f"{self._name}: what goes over this line arrives damaged; see to its cable, and try again."
            )
        reason = "no answer in time" if isinstance(error, TimeoutError) else _last_line(str(error))
        return ReplError(
            f"{self._name}: the board stopped answering ({reason}); see to its cable and power, "
            "and try again."
        )


class _Transport(SerialTransport):  # type: ignore[misc]
    """mpremote's transport on a port that is open already: its own way to open one hides why it fails."""

    def __init__(self, port: Port) -> None:
        self.serial: Any = port
        self.in_raw_repl = False
        self.use_raw_paste = True
        self.mounted = False
        self.is_pty = True  # to mpremote: read, do not ask first whether there is something


def _has_answered(error: Exception | None) -> bool:
    """Whether the board is where it should be, and what was said was not understood."""
    out_of_memory = isinstance(error, BoardError) and error.last_line.startswith("MemoryError")
    return isinstance(error, (BoardError, Damaged)) and not out_of_memory


def _quoted(heard: bytes) -> str:
    """What the board says, as far as it can be shown."""
    lines = [line.strip() for line in heard.decode("ascii", errors="replace").splitlines()]
    plain = [line for line in lines if line and line.isprintable() and "\ufffd" not in line]
    return f"it says {plain[-1][:60]!r}" if plain else "it says nothing" if not heard else "it babbles"


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1].rstrip(".")
