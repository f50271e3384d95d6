"""A quantity that a second board makes, with MicroPython on it: by a DAC, a heater, a lamp."""

import contextlib
from collections.abc import Callable

from host_tools.devices.port import Port
from host_tools.errors import LimpetError
from host_tools.hil.blocked import Blocked
from host_tools.hil.rigs.fields import VALUE
from host_tools.hil.rigs.port import PortChoice
from host_tools.hil.rigs.stimulus import BoardStimulus
from host_tools.repl import BoardError, Repl

FindPort = Callable[[PortChoice], Port]
"""From what stays the same of a port to the one that is there now. Raises LimpetError when it is not."""


class SecondBoard:
    """The board, with a session that lasts from the first value to the end: a board that restarts lets go of
    its pins. Several quantities may be made by one board."""

    def __init__(self, choice: PortChoice, find_port: FindPort) -> None:
        self._choice = choice
        self._find_port = find_port
        self._session = contextlib.ExitStack()
        self._repl: Repl | None = None

    def run(self, code: str) -> None:
        """Run code, which may happen twice. Raises Blocked."""
        was_there = self._repl is not None
        try:
            try:
                self._entered().run(code)
            except BoardError:
                raise
            except LimpetError:
                self.leave()
                if not was_there:
                    raise
                self._entered().run(code)
        except LimpetError as error:
            raise Blocked(f"The second board, which sets this quantity, cannot: {error}") from None

    def leave(self) -> None:
        """End the session; the board restarts."""
        self._repl = None
        self._session.close()

    def _entered(self) -> Repl:
        if self._repl is None:
            self._repl = self._session.enter_context(Repl(self._find_port(self._choice).name))
        return self._repl


class ByBoard:
    """One quantity: the rig file's code with the value in it."""

    tolerance = 0.0

    def __init__(self, spec: BoardStimulus, board: SecondBoard) -> None:
        self._spec = spec
        self._board = board
        self._last: float | None = None

    def set(self, value: float) -> None:
        self._board.run(self._spec.code.replace(VALUE, repr(float(value))))
        self._last = value

    def value(self) -> float:
        if self._last is None:
            raise Blocked(
                "Nobody knows this quantity before it is set: a second board sets it, none reads it."
            )
        return self._last

    def clear(self) -> None:
        last, self._last = self._last, None
        try:
            if last is not None and self._spec.reset_code:
                self._board.run(self._spec.reset_code)
        finally:
            self._board.leave()
