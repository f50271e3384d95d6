"""One process's results, line by line as they come: what was written before a kill is there after it."""

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from host_tools.errors import LimpetError
from host_tools.hil.evidence.record import Begun, Result, Where, to_json
from host_tools.hil.evidence.scrub import Scrubber
from host_tools.hil.timeline import Event, Value

FOLDER = "results"
"""Below the folder of the evidence: one file a process."""

_BY_US = ("rung", "outcome", "line")
"""Fields that have one of a few words: nothing in them can be secret."""

AnyLine = TypeVar("AnyLine", Begun, Result)


class Recorder:
    """The lines of one process. Nothing that the scrubber knows as secret is ever written."""

    def __init__(self, folder: Path, worker: str, scrubber: Scrubber) -> None:
        """`worker` names this process among those that write to `folder`.

        Raises LimpetError when the folder cannot be written.
        """
        self._scrubber = scrubber
        path = folder / FOLDER / f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', worker)}.jsonl"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")
            if self._file.tell() and not path.read_bytes().endswith(b"\n"):
                self._write(b"")  # one before us was killed in the middle of a line
        except OSError as error:
            raise LimpetError(
                f"The evidence cannot be written to {folder} ({error.strerror}): name another folder."
            ) from None

    def begin(self, test: str, where: Where) -> None:
        """A test begins on this rig, as far as the rig is known by now."""
        facts = {each.name: getattr(where, each.name) for each in fields(Where)}
        self._write(to_json(scrubbed(Begun(**facts, test=test, started=time.time()), self._scrubber)))

    def end(self, result: Result) -> None:
        """It has ended."""
        self._write(to_json(scrubbed(result, self._scrubber)))

    def close(self) -> None:
        """No more of it."""
        self._file.close()

    def _write(self, line: bytes) -> None:
        self._file.write(line + b"\n")
        self._file.flush()


def clear(folder: Path) -> None:
    """Remove the results of an earlier run."""
    for path in (folder / FOLDER).glob("*.jsonl"):
        path.unlink()


def scrubbed(it: AnyLine, scrubber: Scrubber) -> AnyLine:
    """The same without secrets, and without what cannot stand in JSON."""
    changes: dict[str, Any] = {
        each.name: scrubber.text(_storable(value))
        for each in fields(it)
        if isinstance(value := getattr(it, each.name), str) and each.name not in _BY_US
    }
    if isinstance(it, Result):
        changes["needs"] = tuple(scrubber.text(_storable(need)) for need in it.needs)
        changes["events"] = _events(it.events, scrubber)
        changes["readings"] = {
            scrubber.text(_storable(channel)): tuple(map(_sample, samples))
            for channel, samples in it.readings.items()
        }
    return replace(it, **changes)


def _events(events: Sequence[Event], scrubber: Scrubber) -> tuple[Event, ...]:
    """A key that is printed goes over several lines, so each source's are scrubbed together."""
    texts: dict[int, str] = {}
    for source in {event.source for event in events}:
        places = [place for place, event in enumerate(events) if event.source == source]
        texts |= zip(places, scrubber.texts([_storable(events[at].text) for at in places]), strict=True)
    return tuple(
        Event(event.at, event.source, texts[place], _values(event.values, scrubber))
        for place, event in enumerate(events)
    )


def _values(values: Mapping[str, Value], scrubber: Scrubber) -> dict[str, Value]:
    return {
        name: value
        if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
        else scrubber.text(_storable(str(value)))
        for name, value in values.items()
    }


def _sample(sample: tuple[float, float | None]) -> tuple[float, float | None]:
    at, value = sample
    return at, value if value is not None and math.isfinite(value) else None


def _storable(text: str) -> str:
    """Bytes that were no UTF-8 may come as lone surrogates, which no file takes: they become escapes."""
    return text.encode("utf-8", "backslashreplace").decode()
