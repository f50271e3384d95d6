"""What DTR and RTS do, as tables: each step is the two lines as a host sets them, and what the chip does."""

import pytest

from host_tools.virtual.lines import ClassicCircuit, Effect, UsbSerialJtag, lines_of

D, R, LATE = "dtr", "rts", "late"
NOTHING, HOLD, WAIT, BOOT, DOWNLOAD = (
    Effect.NOTHING,
    Effect.HOLD,
    Effect.WAIT,
    Effect.BOOT,
    Effect.DOWNLOAD,
)
Step = tuple[str, Effect]
"""The lines that are asserted, or LATE when the time of a WAIT is over; and the effect."""

CLASSIC: dict[str, list[Step]] = {
    "a terminal opens and closes the port, one line at a time": [
        ("dtr", NOTHING),
        ("dtr rts", NOTHING),
        ("dtr", NOTHING),
        ("", NOTHING),
    ],
    "esptool's classic reset after that": [
        ("dtr rts", NOTHING),
        ("rts", HOLD),
        ("rts", NOTHING),
        ("dtr rts", WAIT),
        ("dtr", DOWNLOAD),
        ("dtr", NOTHING),
        ("", NOTHING),
    ],
    "both lines at once, as a local port can": [("rts", HOLD), ("dtr", DOWNLOAD), ("", NOTHING)],
    "esptool's hard reset": [("rts", HOLD), ("rts", NOTHING), ("", BOOT)],
    "a hard reset with DTR asserted throughout does nothing": [
        ("dtr", NOTHING),
        ("dtr rts", NOTHING),
        ("dtr", NOTHING),
    ],
    "a server that asserts RTS first, and leaves it at that": [
        ("rts", HOLD),
        ("dtr rts", WAIT),
        (LATE, BOOT),
        ("rts", HOLD),
        ("", BOOT),
    ],
    "back into reset before EN rises": [
        ("rts", HOLD),
        ("dtr rts", WAIT),
        ("rts", NOTHING),
        ("dtr rts", WAIT),
        ("dtr", DOWNLOAD),
    ],
    "a late end of a wait that is over": [("rts", HOLD), ("", BOOT), (LATE, NOTHING)],
}
USB: dict[str, list[Step]] = {
    "a terminal opens and closes the port, one line at a time": [
        ("dtr", NOTHING),
        ("dtr rts", NOTHING),
        ("dtr", NOTHING),
        ("", NOTHING),
    ],
    "esptool's USB reset": [
        ("dtr", NOTHING),
        ("", NOTHING),
        ("dtr", NOTHING),
        ("dtr rts", NOTHING),
        ("rts", DOWNLOAD),
        ("rts", NOTHING),
        ("", NOTHING),
    ],
    "esptool's hard reset after a download": [
        ("dtr", NOTHING),
        ("dtr rts", NOTHING),
        ("rts", DOWNLOAD),
        ("", NOTHING),
        ("rts", BOOT),
        ("", NOTHING),
    ],
    "the flag goes when both lines are released": [("dtr", NOTHING), ("", NOTHING), ("rts", BOOT)],
    "nothing is ever late": [("rts", BOOT), (LATE, NOTHING)],
}


@pytest.mark.parametrize("steps", CLASSIC.values(), ids=CLASSIC)
def test_the_classic_circuit(steps: list[Step]) -> None:
    walk(ClassicCircuit(), steps)


@pytest.mark.parametrize("steps", USB.values(), ids=USB)
def test_the_port_of_the_chip_itself(steps: list[Step]) -> None:
    walk(UsbSerialJtag(), steps)


def test_which_board_has_which() -> None:
    assert isinstance(lines_of("uart"), ClassicCircuit)
    assert isinstance(lines_of("usb-serial-jtag"), UsbSerialJtag)


def walk(lines: ClassicCircuit | UsbSerialJtag, steps: list[Step]) -> None:
    for number, (asserted, expected) in enumerate(steps):
        found = lines.late() if asserted == LATE else lines.change(D in asserted, R in asserted)
        assert found is expected, f"step {number}: {asserted or 'none'}"
