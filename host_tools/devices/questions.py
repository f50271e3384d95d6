"""Finding out what is behind a serial port: what is said to it, and what its answers mean. No I/O here.

Nothing that is said stops or resets a board: no Ctrl-C, no Ctrl-D. A limpet node answers to SYN
(firmware/limpet/answerback.py). MicroPython's prompt answers to Return, and ignores SYN; it tells its version
on Ctrl-B, which also ends a raw REPL. A ROM's bootloader answers esptool's SYNC (its page "Serial Protocol").
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from host_tools.line import answerback

_CTRL_B = b"\x02"
_SYNC = b"\xc0\x00\x08\x24\x00\x00\x00\x00\x00\x07\x07\x12\x20" + b"\x55" * 32 + b"\xc0\r"
"""With a Return: a prompt that comes later has it as an odd line, and not in front of its next one."""
_SYNC_ANSWER = b"\xc0\x01\x08"
_PROMPT = b"\n>>> "
_DOWNLOAD = b"waiting for download"

_MOST_HEARD = 16384
"""Bytes. Of what a board babbles the newest count."""
_MOST_QUOTED = 40
_NO_NODE = b"-"

_STARTS = re.compile(rb"node: limpet (\S{1,32})\r?\n")
_IS = re.compile(rb"node: I am '([^'\r\n]{1,32})'\r?\n")
_BANNER = re.compile(rb"MicroPython (\S+)[^;\r\n]*; ([^\r\n]+?)\r?\n")
_ROM_OF = re.compile(rb"ESP-ROM:esp32([a-z]\d)?")
_NO_BOOT = "boot loop: nothing in its flash that it can boot"
_TROUBLE = {
    rb"invalid header: (0x[0-9a-f]+)": _NO_BOOT + " (invalid header: {})",
    rb"flash read err, (\d+)": _NO_BOOT + " (flash read err, {})",
    rb"load partition table (error)": "boot loop: it has no partition table",
    rb"(No bootable app) partitions": "boot loop: it has no application that it can boot",
    rb"(Brownout) detector was triggered": "boot loop: its supply breaks down (brownout)",
    rb"Guru Meditation Error: ([^\r\n]{1,60})": "boot loop: its firmware crashes ({})",
    rb"(filesystem appears to be corrupted)": "MicroPython waits: it finds its filesystem corrupted",
}

Kind = Literal["node", "micropython", "rom", "broken", "talks", "silent", "closed", "not asked"]


@dataclass(frozen=True)
class What:
    """What is behind a port; `text` says it to a person."""

    kind: Kind
    text: str
    version: str | None = None
    """Of the firmware for a node, of MicroPython for its prompt."""
    node: str | None = None
    """A node's id; None where it has no identity yet."""
    locked: bool = False
    """Nobody gets in by its serial port (docs/production.md)."""


class Step(NamedTuple):
    say: bytes
    seconds: float
    """How long to listen then."""


_WHO = b"\r" + answerback.ASK
WHO_ARE_YOU = (Step(b"", 0.3), Step(_WHO, 2.5))
"""What may be said to a board that is only watched. A node that is busy with TLS is slow to hear it."""
EVERYTHING = (*WHO_ARE_YOU, Step(_CTRL_B, 0.4), Step(_SYNC, 0.6))
"""The rest is said to boards that were silent until then."""


class Questions:
    """A talk with one board. Feed it what is heard, say what it gives, until `what` is there."""

    def __init__(self, steps: Sequence[Step] = EVERYTHING) -> None:
        self.what: What | None = None
        self._steps = list(steps)
        self._heard = bytearray()
        self._step_ends: float | None = None
        self._asked = b""
        self._at_prompt = False

    def hear(self, data: bytes) -> None:
        self._heard += data
        del self._heard[:-_MOST_HEARD]

    def say(self, now: float) -> bytes:
        """What is to be sent at this moment, as a rule nothing; `now` is of time.monotonic()."""
        if self.what:
            return b""
        self.what = recognise(bytes(self._heard))
        if self.what:
            return b""
        if self._asked == _WHO and self._heard.endswith(_PROMPT):
            self._at_prompt = True
            self._steps = [Step(_CTRL_B, 0.8)]
        elif self._step_ends is not None and now < self._step_ends:
            return b""
        elif self._at_prompt:
            self.what = What("micropython", "a Python prompt")
        elif not self._steps or (self._asked == _WHO and self._heard.strip(b"\x00")):
            self.what = conclude(bytes(self._heard))
        if self.what:
            return b""
        self._asked, seconds = self._steps.pop(0)
        self._step_ends = now + seconds
        return self._asked


def recognise(heard: bytes) -> What | None:
    """What a board has said of itself; None while that is open."""
    answer = _last(answerback.ANSWER, heard)
    if answer:
        firmware, name, profile = answer
        return _node(firmware, name, locked=bool(profile))
    banner = _last(_BANNER, heard)
    if banner:
        version, machine = (readable(each) for each in banner)
        return What("micropython", f"MicroPython {version} at its prompt, {machine}", version)
    if _SYNC_ANSWER in heard:
        return _rom(heard)
    return None


def conclude(heard: bytes) -> What:
    """What a board is that has answered nothing, from what it says by itself."""
    if heard.rstrip().endswith(_DOWNLOAD):
        return _rom(heard)
    version, node = introduced(heard)
    if node:  # it starts, and is too busy to answer
        return _node(version, node)
    for pattern, text in _TROUBLE.items():
        found = re.search(pattern, heard)
        if found:
            return What("broken", text.format(readable(found[1])))
    *whole, rest = heard.replace(b"\r", b"\n").split(b"\n")
    words = next((line for line in reversed(whole) if line.strip()), rest).strip()
    if not words:
        return What("silent", "silent: it sleeps, is busy or has no power, or no board is there")
    quoted = readable(words)
    cut = "…" if len(quoted) > _MOST_QUOTED else ""
    return What("talks", f"talks, but does not answer: {quoted[:_MOST_QUOTED]}{cut}")


def introduced(heard: bytes) -> tuple[bytes | None, bytes | None]:
    """The firmware's version and the node's id, as the node's log and its answer tell them."""
    answer = _last(answerback.ANSWER, heard)
    if answer:
        version, node, _ = answer
        return version, None if node == _NO_NODE else node
    starts, is_called = _last(_STARTS, heard), _last(_IS, heard)
    return starts[0] if starts else None, is_called[0] if is_called else None


def readable(data: bytes) -> str:
    """A board's words for a terminal: what is not UTF-8, or would steer the terminal, is escaped."""
    text = data.decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _last(pattern: re.Pattern[bytes], heard: bytes) -> tuple[bytes, ...] | None:
    found = list(pattern.finditer(heard))
    return found[-1].groups() if found else None


def _node(version: bytes | None, name: bytes, locked: bool = False) -> What:
    number = readable(version) if version else None
    firmware = f"limpet {number}" if number else "limpet"
    lock = "; locked, profile production" if locked else ""
    if name == _NO_NODE:
        text = f"{firmware}, without settings or without an identity{lock}"
        return What("node", text, number, locked=locked)
    return What("node", f"{firmware}, node {readable(name)}{lock}", number, readable(name), locked)


def _rom(heard: bytes) -> What:
    found = _last(_ROM_OF, heard)
    if found:
        series = found[0] or b""
        return What("rom", f"ROM bootloader of an ESP32{'-' if series else ''}{series.decode().upper()}")
    return What("rom", "ROM bootloader")
