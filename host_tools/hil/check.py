"""Proves a rig before it is used (`limpet hil check`): that it is the right board, that the node lives on the
network that is there, and that its power really goes and comes."""

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from host_tools.devices.port import Port
from host_tools.devices.probe import Chip, probe
from host_tools.errors import LimpetError
from host_tools.flashing.guards import Allowed, Found, refusal
from host_tools.hil.blocked import Blocked
from host_tools.hil.errors import HilError
from host_tools.hil.node import Node
from host_tools.hil.rig import NODE_ID, Rig
from host_tools.hil.rigs import RigFile
from host_tools.line import answerback

Outcome = Literal["passed", "failed", "blocked"]

MOST_OFF_S = 5.0
"""Seconds between this machine's clock and the node's that are well; a reading needs a second to come."""
_SETTLES_S = 0.5
"""Until what was said before is through, and a supply's capacitors are empty."""
_ASK_AGAIN_S = 0.5
_GLANCE_S = 0.1
_ANSWER = re.compile(answerback.ANSWER.pattern.decode())
_WORDS = re.compile("[ -~]{8}.*\n")
"""Said by whoever has power; a line without it may be noisy."""
_FIREWALL = (
    "let {} pass from the node's network to this machine, through its firewall too, and give the rig as "
    "'host' the address by which the node reaches it"
)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `text` is what was seen; `remedy` what to do, where the text does not say
    that already."""

    name: str
    outcome: Outcome
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Patience:
    """Seconds that a rig gets for each step: many times what a good one needs."""

    opens: float = 10.0
    """The port."""
    starts: float = 20.0
    """The firmware, once it is installed."""
    joins: float = 60.0
    """The node, its network."""
    syncs: float = 30.0
    """The node's clock, once there is a network."""
    delivers: float = 30.0
    """The first reading, once there is a time."""
    agrees: float = 15.0
    """A reading whose time is right, once they come."""
    silent: float = 4.0
    """How long a board without power has to say nothing."""
    returns: float = 30.0
    """The port, and an answer, once there is power."""


class _Wrong(Exception):
    """A step has seen something wrong."""

    def __init__(self, text: str, remedy: str) -> None:
        super().__init__(text)
        self.text = text
        self.remedy = remedy


def check(file: RigFile, patience: Patience | None = None) -> Iterator[Finding]:
    """Open a rig and prove it; findings as they come. It gets the firmware and settings that a test has."""
    try:
        with Rig(file, holder="limpet hil check") as rig, rig.test():
            yield from prove(rig, patience)
    except Blocked as blocked:
        yield Finding("rig", "blocked", str(blocked))
    except LimpetError as error:
        yield Finding("rig", "failed", str(error))


def prove(rig: Rig, patience: Patience | None = None) -> Iterator[Finding]:
    """The findings about an open rig, within its `test`, as they come. What rests on a step that did not pass
    is blocked by it."""
    proof = _Proof(rig, patience or Patience())
    steps: Sequence[tuple[str, Callable[[], str], str]] = (
        ("port", proof.port, ""),
        ("board", proof.board, "port"),
        ("firmware", proof.firmware, "board"),
        ("network", proof.network, "firmware"),
        ("time server", proof.time_server, "network"),
        ("broker", proof.broker, "time server"),
        ("clock", proof.clock, "broker"),
        ("power goes", proof.power_goes, "firmware"),
        ("power comes", proof.power_comes, "power goes"),
    )
    outcomes: dict[str, Outcome] = {}
    for name, look, rests_on in steps:
        if outcomes.get(rests_on, "passed") == "passed":
            found = _looked_at(name, look)
        else:
            found = Finding(name, "blocked", f"it rests on '{rests_on}'")
        outcomes[name] = found.outcome
        yield found


def _looked_at(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name, "passed", look())
    except _Wrong as wrong:
        return Finding(name, "failed", wrong.text, wrong.remedy)
    except Blocked as blocked:
        return Finding(name, "blocked", str(blocked))
    except LimpetError as error:
        return Finding(name, "failed", str(error))


class _Proof:
    """The steps. Each gives what it has seen, or raises _Wrong, or what the rig raises."""

    def __init__(self, rig: Rig, patience: Patience) -> None:
        self._rig = rig
        self._log = rig.board.log
        self._patience = patience
        self._node = Node(rig.board, rig.timeline, NODE_ID)
        self._before = 0, 0
        """Questions to the clock, and connections over the link, that were there before the node."""

    def port(self) -> str:
        if self._rig.board.power:
            self._rig.board.power.on()
        if self._rig.rung == "emulator":
            return "comes with the firmware"
        self._log.wait_until_open(self._patience.opens)
        return f"{self._rig.board.port} opens"

    def board(self) -> str:
        if "download" not in self._rig.capabilities:
            return f"taken for {self._rig.file.board.name}: the port has no lines to ask the chip by"
        with self._log.paused() as port:
            chip = probe(Port(port, named=True))
        if isinstance(chip, str):
            raise _Wrong(chip, "see to the board's power and cable, and that its DTR and RTS are wired")
        why = mistaken(chip, self._rig.file)
        if why:
            raise _Wrong(f"It is another board: {why}", "plug in the right one, or correct the rig file")
        return f"{chip.name}, {chip.mac}, {chip.flash_size >> 20} MB of flash"

    def firmware(self) -> str:
        if "network" in self._rig.capabilities:
            self._rig.broker.start()  # the node looks for it at once
            self._before = self._rig.clock.asked, len(self._rig.link.connections)
        self._node.install(self._rig.image)
        if not self._log.find(f"I am '{NODE_ID}'", self._patience.starts):
            raise _Wrong(
                f"The firmware does not start; the board says: {_last(self._log.after(self._log.since))}",
                "see what it says with 'limpet monitor'; a supply that breaks down says 'Brownout'",
            )
        return "flashed, and starts"

    def network(self) -> str:
        where = self._rig.link.address  # Blocked where there is no network
        joined = self._log.find(re.compile("wifi: (joined .*)"), self._patience.joins)
        if not joined:
            raise _Wrong(
                f"The node does not join its network: {self._said('wifi')}",
                "see that the table [wifi] names a network of 2.4 GHz in its reach, and the right password",
            )
        return f"{joined[1]}; this machine is {where} to it"

    def time_server(self) -> str:
        clock = self._rig.clock
        if self._log.find("clock: synced", self._patience.syncs):
            return f"the node asks {clock.address}:{clock.port} (UDP), and believes it"
        if clock.asked > self._before[0]:
            raise _Wrong(
                f"The node asks for the time, and takes no answer: {self._said('clock')}",
                "let UDP pass from this machine to the node's network",
            )
        raise _Wrong(
            f"Nobody asks the time server {clock.address}:{clock.port} (UDP): {self._said('clock')}",
            _FIREWALL.format("UDP"),
        )

    def broker(self) -> str:
        link = self._rig.link
        try:
            self._rig.broker.wait_for_readings(self._node, 1, seconds=self._patience.delivers)
        except AssertionError:
            said = self._said("uplink")
            if len(link.connections) == self._before[1]:
                raise _Wrong(
                    f"Nobody comes to the broker at {link.address}:{link.port} (TCP): {said}",
                    _FIREWALL.format("TCP"),
                ) from None
            why = (self._rig.broker.refusals() or [said])[-1]
            raise _Wrong(
                f"The node comes to the broker, and delivers nothing: {why}",
                "see to what is between them; a clock that is wrong makes certificates invalid",
            ) from None
        return f"readings come to {link.address}:{link.port} over mutual TLS"

    def clock(self) -> str:
        end = time.monotonic() + self._patience.agrees
        while abs(age := self._age()) > MOST_OFF_S:
            if time.monotonic() > end:
                way = "behind" if age > 0 else "ahead of"
                raise _Wrong(
                    f"The node's clock is {abs(age):.0f} s {way} this machine's",
                    "see that nothing else in its network answers for the time server, and that this machine "
                    "keeps its own time",
                )
            time.sleep(_GLANCE_S)
        return f"a reading is {max(age, 0.0):.1f} s old when it is here"

    def power_goes(self) -> str:
        power = self._rig.power
        if not self._hears(_ANSWER, self._patience.starts):
            raise _Wrong(
                "The node does not answer, so that its silence would prove nothing",
                "see what it does with 'limpet monitor'",
            )
        power.off()
        time.sleep(_SETTLES_S)
        if self._hears(_WORDS, self._patience.silent):
            power.on()
            raise _Wrong(
                "The board goes on after its power was cut",
                "see that [power] switches what the board hangs on, and that no other cable feeds it",
            )
        return f"it says nothing for {self._patience.silent:g} s"

    def power_comes(self) -> str:
        try:
            self._rig.power.on()
            if self._hears(_ANSWER, self._patience.returns):
                return "the port is back, and the node answers"
            self._log.wait_until_open(0.0)
        except HilError as error:
            raise _Wrong(
                f"The port does not come back with the power: {error}",
                "see that [power] switches it on again, and to the cable; some hubs need to be replugged",
            ) from None
        raise _Wrong(
            f"The port is back, but no node answers within {self._patience.returns:g} s of power",
            "see that the supply is strong enough: a board that starts needs half an ampere for a moment",
        )

    def _said(self, who: str) -> str:
        """The last that a module of the firmware has said since the start."""
        lines = [line for line in self._log.after(self._log.since).splitlines() if f" {who}: " in line]
        return _last("\n".join(lines)).partition(f" {who}: ")[2] if lines else f"it says nothing of its {who}"

    def _age(self) -> float:
        """Of the last reading that has come, in seconds."""
        newest = self._rig.broker.readings(self._node, settle=None)[-1]
        return time.time() - newest.unix_ms / 1000

    def _hears(self, wanted: re.Pattern[str], seconds: float) -> bool:
        """Whether the board, which is asked who it is, says something like that in a line from now on. Its
        port may be away meanwhile."""
        mark = self._log.mark()
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            with contextlib.suppress(HilError):
                if self._log.is_open:
                    self._log.write(answerback.ASK)
            if self._log.find(wanted, min(_ASK_AGAIN_S, left), mark):
                return True
        return False


def mistaken(chip: Chip, rig: RigFile) -> str | None:
    """Why this chip is not the rig's; None when it is."""
    found = Found(
        chip=chip.name,
        mac=chip.mac,
        flash_size=chip.flash_size,
        revision=0,
        encrypted=chip.encrypted,
        secure_boot=chip.secure_boot,
        secure_download=False,
    )
    mac = rig.port.mac if rig.port else None
    return refusal(found, Allowed(rig.board, macs=[mac] if mac else []))


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing"
