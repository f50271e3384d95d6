"""How many tests had which outcome, what a rung is, and what it is not."""

from collections.abc import Iterable, Mapping
from typing import Final

from host_tools.hil.evidence.record import OUTCOMES, Outcome, Result, Rung

WHAT_IT_IS_NOT: Final[Mapping[Rung, str]] = {
    "vm": "Modules of the firmware in MicroPython's unix port. It is no node: no boot, no flash, no network "
    "of its own.",
    "virtual": "limpet's virtual board: the whole firmware in MicroPython's unix port, on modelled chips. "
    "It is no ESP32: no real radio, no real flash, no hardware's timing.",
    "emulator": "The flash image, unchanged, on an emulated ESP32. It is no board: its radio, its "
    "peripherals and its speed are the emulator's.",
    "bench": "A real board. It speaks for this board, its wiring and its supply, and for no other rung.",
}
"""A sentence or two for each rung, for whoever reads a report."""

MEANING: Final[Mapping[Outcome, str]] = {
    "passed": "did what the test asks",
    "failed": "did not",
    "blocked": "the rig could not do what the test needs, so nothing is known",
    "flaky": "failed, and passed when it was tried again",
    "quarantined": "failed, and is known to be flaky: it does not count until its quarantine expires",
}


def summary(results: Iterable[Result]) -> dict[Outcome, int]:
    """How many there are of each outcome, zeros too."""
    counts = dict.fromkeys(OUTCOMES, 0)
    for each in results:
        counts[each.outcome] += 1
    return counts


def claim(results: Iterable[Result]) -> str:
    """What a run says about hardware, in one sentence."""
    tests, real, wrong = set(), set(), set()
    for each in results:
        tests.add(each.test)
        if each.rung == "bench" and each.outcome != "blocked":
            real.add(each.test)
            if each.outcome != "passed":
                wrong.add(each.test)
    if not real:
        return "Nothing in this report ran on a real board."
    return (
        f"{len(real)} of {len(tests)} tests ran on a real board; {len(real - wrong)} of those passed there, "
        "at once and on every board that ran them."
    )
