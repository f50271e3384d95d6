"""What is known of one test on one rig, and its line in the file of results (docs/evidence.md)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any, Literal, get_args

from pydantic import Discriminator, TypeAdapter, ValidationError

from host_tools.hil.timeline import Event

Outcome = Literal["passed", "failed", "blocked", "flaky", "quarantined"]
Rung = Literal["vm", "virtual", "emulator", "bench"]

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
RUNGS: tuple[Rung, ...] = get_args(Rung)
"""From the furthest away from a real board to the board itself."""

Samples = tuple[tuple[float, float | None], ...]
"""Readings of a channel: seconds since 1970, and the value; None for a bad one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Where:
    """On what a test ran. What a rig does not have, or did not come to, is empty."""

    rung: Rung
    rig: str
    board: str = ""
    mac: str = ""
    firmware: str = ""
    """The firmware's version."""
    firmware_sha256: str = ""
    """Of the firmware's files, without settings and identity."""
    image_sha256: str = ""
    """Of the whole flash image that was installed."""
    micropython: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun(Where):
    """A test was begun; without a `Result` after it, it did not end."""

    test: str
    started: float
    line: Literal["begin"] = "begin"


@dataclass(frozen=True, kw_only=True, slots=True)
class Result(Where):
    """How a test ended. Times are in seconds since 1970, by the clock of the machine that ran it."""

    test: str
    """pytest's node id."""
    outcome: Outcome
    started: float
    seconds: float
    why: str = ""
    """Failed, flaky, quarantined: the report of the attempt that failed. Blocked: what the rig lacks."""
    attempts: int = 1
    needs: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()
    """The timeline of the attempt that failed; nothing for what passed or was blocked."""
    readings: Mapping[str, Samples] = field(default_factory=dict)
    line: Literal["end"] = "end"

    @property
    def where(self) -> Where:
        """On what it ran, alone."""
        return Where(**{each.name: getattr(self, each.name) for each in fields(Where)})


Line = Begun | Result

_LINES: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Discriminator("line")])


def to_json(it: Line) -> bytes:
    """One line of JSON, without its line break."""
    return _LINES.dump_json(it, warnings="error")


def to_object(it: Line) -> dict[str, Any]:
    """The same as an object that `json` writes."""
    value: dict[str, Any] = _LINES.dump_python(it, mode="json", warnings="error")
    return value


def from_json(line: bytes) -> Line:
    """What a line says. Raises ValueError if it is none of ours."""
    try:
        return _LINES.validate_json(line)
    except ValidationError as error:
        raise ValueError(f"{error.error_count()} things are wrong in it") from None


def did_not_end(begun: Begun) -> Result:
    """What a test is that was begun, and of which nothing was heard any more: failed."""
    facts = asdict(begun)
    del facts["line"]
    return Result(
        **facts,
        outcome="failed",
        seconds=0.0,
        why="did not end: its process or its machine died in the middle of it, and its events with it",
    )
