"""Asks the boards behind ports who they are, side by side, without resetting any."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from host_tools.devices.port import Port
from host_tools.devices.probe import PROBE_S, Chip, probe
from host_tools.devices.questions import Questions, What
from host_tools.errors import NoDeviceError
from host_tools.line import open_line

_DEADLINE_S = 10.0
"""For one port, opening included: three times what a silent board takes."""
_NOT_ASKED = What("not asked", "not asked: no board comes with such a port; name it with --port to ask")

T = TypeVar("T")


@dataclass(frozen=True)
class Found:
    """A port and what is behind it."""

    port: Port
    what: What
    chip: Chip | None = None
    """When it was probed."""
    why_no_chip: str | None = None
    """When it was probed in vain: a sentence."""

    def as_json(self) -> dict[str, Any]:
        port = asdict(self.port)
        del port["named"]
        chip = asdict(self.chip) if self.chip else None
        shown = {"port": port.pop("name"), **port, "what": asdict(self.what), "chip": chip}
        return {**shown, "error": self.why_no_chip} if self.why_no_chip else shown


def identify(port: Port) -> What:
    """Ask one board. Its lines, and what it runs, stay as they are; no answer is an answer too."""
    end = time.monotonic() + _DEADLINE_S
    try:
        opened = open_line(port.name)
    except NoDeviceError as error:
        return What("closed", str(error))
    questions = Questions()
    try:
        while not questions.what and time.monotonic() < end:
            said = questions.say(time.monotonic())
            if said:
                opened.write(said)
            questions.hear(opened.read(max(1, opened.in_waiting)))
    except OSError:
        return What("closed", f"{port.name} went away while it was asked; see to its cable.")
    finally:
        with contextlib.suppress(OSError):
            opened.close()
    return questions.what or What("closed", f"{port.name} takes no bytes; see to its cable, and try again.")


def look(ports: Iterable[Port], reset: bool = False) -> list[Found]:
    """All these ports, in their order, within seconds. Those that no board comes with are not asked.

    `reset` asks the chips in their bootloaders as well.
    """
    ports = list(ports)
    boards = [port for port in ports if port.may_be_a_board]
    answers = side_by_side(identify, boards, _DEADLINE_S)
    open_ports = [port for port in boards if port in answers and answers[port].kind != "closed"]
    chips = side_by_side(probe, open_ports, PROBE_S) if reset else {}
    slow = f"did not open within {_DEADLINE_S:.0f} s; see to its cable, or to the network."
    found = []
    for port in ports:
        what = answers.get(port) or What("closed", f"{port.name} {slow}")
        chip = chips.get(port)
        found.append(
            Found(
                port,
                what if port.may_be_a_board else _NOT_ASKED,
                chip if isinstance(chip, Chip) else None,
                chip if isinstance(chip, str) else None,
            )
        )
    return found


def side_by_side(ask: Callable[[Port], T], ports: Iterable[Port], seconds: float) -> dict[Port, T]:
    """Call `ask` for each port in a thread of its own; the answers that are there in time."""
    answers: dict[Port, T] = {}
    threads = []
    for port in ports:
        thread = threading.Thread(target=lambda p=port: answers.update({p: ask(p)}), daemon=True)
        thread.start()
        threads.append(thread)
    end = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return dict(answers)
