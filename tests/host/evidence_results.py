"""Results to make reports of."""

from dataclasses import replace

from host_tools.hil.evidence import Result, Where
from host_tools.hil.timeline import Event

START = 1_700_000_000.0
VIRTUAL = Where(
    rung="virtual",
    rig="virtual",
    board="virtual",
    mac="02:4c:50:00:00:01",
    firmware="0.1.0",
    firmware_sha256="3f" * 32,
    image_sha256="ab" * 32,
    micropython="1.29.0-preview",
)
DESK = replace(VIRTUAL, rung="bench", rig="desk", board="esp32_devkitc", mac="24:0a:c4:12:34:56")


def result(where: Where = VIRTUAL, **changes) -> Result:
    """A test that passed, but for the changes."""
    facts = {name: getattr(where, name) for name in Where.__dataclass_fields__}
    facts |= {"test": "tests/hil/test_a.py::test_one", "outcome": "passed", "started": START, "seconds": 2.5}
    return Result(**{**facts, **changes})


def happened(*told) -> tuple[Event, ...]:
    """Events from (seconds since the start, source, text[, values])."""
    return tuple(Event(START + at, source, text, *values) for at, source, text, *values in told)
