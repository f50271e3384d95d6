"""What the parent and the process that flashes one board tell each other, as JSON lines. Pure."""

import base64
import json
from dataclasses import asdict, dataclass, field
from typing import Self

from host_tools.flashing.plan import Span

BAUDS = (921600, 460800, 115200)
"""Speeds that are tried one after the other when a line fails."""


@dataclass(frozen=True)
class Job:
    """One board's flashing."""

    port: str
    console_kind: str
    """How the board's reset is wired, as in its board file."""
    bauds: tuple[int, ...]
    """Speeds to try, the next one when a line fails."""
    image: int
    """The file descriptor of the image of the whole flash."""
    regions: tuple[Span, ...]
    """What of the image is to be on the board, the partition table's sector among it."""
    erase: bool
    """Erase the whole flash first."""
    dry_run: bool
    """Write nothing."""
    proof: str
    """A regular expression; a line in which it is found proves that the board runs what was written."""

    def dump(self) -> str:
        """The line that says it."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, line: str) -> Self:
        """The job that a line says."""
        values = json.loads(line)
        values["regions"] = tuple(Span(*region) for region in values["regions"])
        values["bauds"] = tuple(values["bauds"])
        return cls(**values)


@dataclass(frozen=True)
class Consent:
    """What may be done to a board that was found."""

    leave: tuple[Span, ...] = ()
    """Regions of the image that the board keeps as it has them."""
    own: tuple[tuple[int, bytes], ...] = field(default=(), repr=False)
    """What this board alone gets, whole sectors, each with its offset. It is in no file."""

    def dump(self) -> str:
        """The line that says it."""
        return json.dumps(
            {
                "leave": self.leave,
                "own": [(offset, base64.b64encode(data).decode()) for offset, data in self.own],
            }
        )

    @classmethod
    def load(cls, line: str) -> "Consent | None":
        """The consent that a line says; None for a refusal."""
        values = json.loads(line)
        if values is None:
            return None
        return cls(
            tuple(Span(*span) for span in values["leave"]),
            tuple((offset, base64.b64decode(data)) for offset, data in values["own"]),
        )


REFUSED = "null"
"""The line that says no."""


def bauds_from(first: int) -> tuple[int, ...]:
    """`first`, and the usual speeds below it."""
    return (first, *(baud for baud in BAUDS if baud < first))
