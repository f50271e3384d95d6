"""What goes wrong on the way between a chip and its host: bytes lost, bent, or read at another speed.

The same seed and the same bytes give the same damage.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

CHATTER = b"I (4711) phy_init: phy_version 4830,54550f7,Jun 20 2024,14:22:08\r\n"
"""What a chip's own libraries print when they feel like it."""
_TOO_FAST = 0.05
"""The fraction of bytes that a bad cable garbles when the line is faster than it can."""
_BITS = 8


@dataclass
class LineFaults:
    """The faults of one board's line, to be changed at any time. None of them by default."""

    drop: float = 0.0
    """The fraction of bytes that get lost, in both directions."""
    garble: float = 0.0
    """The fraction of bytes in which some bits are wrong, in both directions."""
    chatter: int = 0
    """How many more times a line of the chip's own stands in the middle of what a raw REPL prints."""
    deaf: bool = False
    """Nothing arrives, in either direction: a board that never answers."""
    max_baud: int | None = None
    """Bits a second above which the line garbles bytes, as a bad cable does; None: it never does."""
    seed: int = 0
    """What chance begins with."""
    _dice: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)

    def clear(self) -> None:
        """No faults any more; chance goes on where it was."""
        self.drop = self.garble = 0.0
        self.chatter, self.deaf, self.max_baud = 0, False, None

    def spoil(self, data: bytes) -> bytes:
        """What arrives of some bytes."""
        if self.deaf:
            return b""
        if self.drop:
            data = bytes(byte for byte in data if self._dice.random() >= self.drop)
        return self._garbled(data, self.garble) if self.garble else data

    def overdrive(self, data: bytes, baudrate: int) -> bytes:
        """What a cable passes on at this speed."""
        if self.max_baud is None or baudrate <= self.max_baud:
            return data
        return self._garbled(data, _TOO_FAST)

    def chat(self, data: bytes) -> bytes:
        """What a raw REPL prints, with a line of the chip's own in it while there are any to come."""
        if not self.chatter or not data:
            return data
        self.chatter -= 1
        middle = len(data) // 2
        return data[:middle] + CHATTER + data[middle:]

    def _garbled(self, data: bytes, fraction: float) -> bytes:
        dice = self._dice
        return bytes(byte ^ dice.randrange(1, 256) if dice.random() < fraction else byte for byte in data)


def heard_at(data: bytes, sent_at: int, heard_at: int) -> bytes:
    """What a UART makes of bytes that come at another baud rate than its own (both in bits a second).

    It waits for the edge of a start bit, and looks at the middle of each of the eight bits after it by its
    own clock. A wrong stop bit is not looked at: most drivers pass such bytes on.
    """
    if sent_at == heard_at or not data:
        return data
    levels = list(_levels(data))
    step = sent_at / heard_at  # bits of the sender that pass in one bit of the receiver
    result = bytearray()
    at = 0.0  # in bits of the sender
    while True:
        start = _falling_edge(levels, at)
        if start is None:
            return bytes(result)
        middles = (int(start + (1.5 + bit) * step) for bit in range(_BITS))
        result.append(sum(_level(levels, middle) << bit for bit, middle in enumerate(middles)))
        at = start + 9.5 * step


def _levels(data: bytes) -> Iterator[int]:
    """The line bit by bit: at rest, and for each byte start, eight bits from the lowest on, stop."""
    yield 1
    for byte in data:
        yield 0
        for bit in range(_BITS):
            yield byte >> bit & 1
        yield 1


def _level(levels: list[int], at: int) -> int:
    return levels[at] if at < len(levels) else 1  # the line rests high


def _falling_edge(levels: list[int], after: float) -> int | None:
    """Where the line goes from high to low, looked for from `after` on."""
    at = int(after)
    for wanted in (1, 0):
        while at < len(levels) and levels[at] != wanted:
            at += 1
    return at if at < len(levels) else None
