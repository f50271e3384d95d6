"""A supply that tells the timeline what becomes of it."""

from host_tools.hil.blocked import Blocked
from host_tools.hil.board.protocol import Power
from host_tools.hil.timeline import Timeline


class Told:
    """`power`, with each change in the timeline once it is made."""

    def __init__(self, power: Power, timeline: Timeline) -> None:
        self._power = power
        self._timeline = timeline

    def on(self) -> None:
        self._switch("on")

    def off(self) -> None:
        self._switch("off")

    def _switch(self, to: str) -> None:
        try:
            (self._power.on if to == "on" else self._power.off)()
        except Blocked as blocked:
            self._timeline.add("power", f"could not be switched {to}: {blocked}")
            raise
        self._timeline.add("power", to)
