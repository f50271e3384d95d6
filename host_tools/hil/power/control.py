"""The fixture `power`: a supply that goes at the moment that a test chooses."""

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from host_tools.hil.background import Background
from host_tools.hil.blocked import Blocked
from host_tools.hil.board.protocol import Power

if TYPE_CHECKING:  # only rungs with a virtual board load it
    from host_tools.virtual.board import How

_NO_SUPPLY = "This rig cannot cut its board's power: give its file a table [power] (docs/rigs.md)."
_AT_FLASH = "Only a virtual board's power can be cut at a chosen operation of its flash."
_GLANCE_S = 0.2

Hears = Callable[[str], Callable[[float], bool]]
"""From a text to what waits so many seconds for the board to say it, from now on; whether it did."""


@runtime_checkable
class FlashPower(Power, Protocol):
    """A supply that knows what the flash chip is doing: a virtual board's."""

    def cut_at_flash(self, operation: int, how: "How", partition: str | None) -> None: ...

    def wait_until_off(self, seconds: float) -> None:
        """Raises AssertionError when it does not fail in time."""


class PowerControl:
    """The board's power. A cut is planned: each of the three calls returns at once, so that the test can do
    what the cut is to hit; `wait_until_off` then waits for it. What is planned is forgotten with the test.

    Everything raises Blocked where the rig's supply cannot be switched. What goes wrong with a plan is raised
    by whatever comes next: `wait_until_off`, another plan, or the end of the test.
    """

    def __init__(self, power: Power | None, hears: Hears) -> None:
        self._power = power
        self._hears = hears
        self._plan: Background | None = None
        self._armed: FlashPower | None = None

    def on(self) -> None:
        """Power comes. A planned cut stays planned."""
        self._supply().on()

    def off(self) -> None:
        """Power goes, at once; a planned cut is forgotten."""
        self.close()
        self._supply().off()

    def cut(self, after: float = 0.0) -> None:
        """Power goes in so many seconds."""
        self._go(lambda stop: not stop.wait(after))

    def cut_when(self, text: str, seconds: float = 60.0) -> None:
        """Power goes as soon as the board says `text`, from now on; `seconds` is how long that is waited for.
        So plan it first, and then do what makes the board say it."""
        heard = self._hears(text)

        def said(stop: threading.Event) -> bool:
            end = time.monotonic() + seconds
            while not heard(_GLANCE_S):
                if stop.is_set():
                    return False
                if time.monotonic() > end:
                    raise AssertionError(f"the power was not cut: not within {seconds:g} s {text!r}")
            return not stop.is_set()

        self._go(said)

    def cut_at_flash(self, operation: int, how: "How" = "torn", partition: str | None = None) -> None:
        """The board starts anew, and its power goes at the `operation`-th program or erase of its flash,
        counted from 1 at each reset, of those in `partition`: before it, torn in the middle of it, or after
        it."""
        power = self._supply()
        if not isinstance(power, FlashPower):
            raise Blocked(_AT_FLASH)
        self.close()
        power.cut_at_flash(operation, how, partition)
        self._armed = power

    def wait_until_off(self, seconds: float = 60.0) -> None:
        """Wait until the planned cut has happened. Raises AssertionError when it has not by then."""
        plan, armed = self._take()
        if plan:
            if not plan.done(seconds):
                raise AssertionError(f"the power was not cut within {seconds:g} s")
        elif armed:
            armed.wait_until_off(seconds)
        else:
            raise AssertionError("no cut of the power is planned")

    def close(self) -> None:
        """Forget what is planned. Raises what went wrong with it."""
        plan, _ = self._take()
        if plan:
            plan.end()

    def _take(self) -> tuple[Background | None, FlashPower | None]:
        taken = self._plan, self._armed
        self._plan = self._armed = None
        return taken

    def _supply(self) -> Power:
        if self._power is None:
            raise Blocked(_NO_SUPPLY)
        return self._power

    def _go(self, is_time: Callable[[threading.Event], bool]) -> None:
        power = self._supply()
        self.close()

        def act(stop: threading.Event) -> None:
            if is_time(stop):
                power.off()

        self._plan = Background(act, "power cut")
