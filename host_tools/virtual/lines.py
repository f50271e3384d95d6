"""What DTR and RTS do to a chip: pure state machines, one a kind of console.

True is asserted, which is a low level on the wire, as in pyserial. Whoever owns the port tells every change
of the two lines; the answer says what happens to the chip.
"""

from enum import Enum
from typing import Protocol

EN_RISES_LATE = 2.0
"""Seconds after which a chip leaves reset though the host has not said which way."""


class Effect(Enum):
    """What a change of the lines does to the chip."""

    NOTHING = "nothing"
    HOLD = "hold"
    """It goes into reset, and stays there."""
    WAIT = "wait"
    """It is in reset still, and leaves it `EN_RISES_LATE` from now, unless the lines change before."""
    BOOT = "boot"
    """It leaves reset, and boots from flash."""
    DOWNLOAD = "download"
    """It leaves reset, and its ROM waits for a download."""


class Lines(Protocol):
    """DTR and RTS of one console."""

    def change(self, dtr: bool, rts: bool) -> Effect:
        """The lines are like this now."""

    def late(self) -> Effect:
        """The time that a WAIT announced is over, and nothing has changed since."""


class ClassicCircuit:
    """The two transistors of a DevKitC between a USB bridge and the chip's EN and IO0.

    RTS alone pulls EN low, DTR alone IO0; both together, or none, pull neither. The chip looks at IO0 when EN
    rises. From "RTS alone" to "DTR alone" a host goes through "both", because it changes one line at a time.
    What bridges that moment is the capacitor at EN: some milliseconds on a real board. A round trip of the
    network lies between two changes here, so this capacitor is a large one.
    """

    def __init__(self) -> None:
        self._in_reset = False

    def change(self, dtr: bool, rts: bool) -> Effect:
        if rts and not dtr:
            was, self._in_reset = self._in_reset, True
            return Effect.NOTHING if was else Effect.HOLD
        if not self._in_reset:
            return Effect.NOTHING
        if rts:
            return Effect.WAIT
        self._in_reset = False
        return Effect.DOWNLOAD if dtr else Effect.BOOT

    def late(self) -> Effect:
        was, self._in_reset = self._in_reset, False
        return Effect.BOOT if was else Effect.NOTHING


class UsbSerialJtag:
    """The chip's own USB port, after the ESP32-C3 Technical Reference Manual, "USB Serial/JTAG Controller".

    DTR alone sets a flag, none of the two clears it. RTS alone resets the chip, which waits for a download
    afterwards if the flag is set. Both together do nothing.
    """

    def __init__(self) -> None:
        self._download = False
        self._before = (False, False)

    def change(self, dtr: bool, rts: bool) -> Effect:
        before, self._before = self._before, (dtr, rts)
        if rts == dtr:
            self._download = self._download and dtr
            return Effect.NOTHING
        if dtr:
            self._download = True
            return Effect.NOTHING
        if before == (dtr, rts):
            return Effect.NOTHING
        return Effect.DOWNLOAD if self._download else Effect.BOOT

    def late(self) -> Effect:
        return Effect.NOTHING


def lines_of(console_kind: str) -> Lines:
    """Those of a board's console: "uart" or "usb-serial-jtag"."""
    return UsbSerialJtag() if console_kind == "usb-serial-jtag" else ClassicCircuit()
