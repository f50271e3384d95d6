"""The plan and the rehearsal in words, and for programs."""

import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from host_tools.boards import Board
from host_tools.secure.plan import Step
from host_tools.secure.rehearse import Fuse, Fuses, Rehearsed

_WIDTH = 110


def plan_text(board: Board, steps: tuple[Step, ...], meaning: Iterable[str]) -> Iterator[str]:
    """The plan, line by line, for people."""
    yield f"{board.name}: flash encryption and secure boot on {board.features.esptool_name}"
    yield from _wrapped(
        "Nothing is burnt by this command. These are for you to run, one by one; PORT is the board's port. "
        "espefuse asks for the word BURN each time.",
        "",
    )
    for number, step in enumerate(steps, 1):
        yield ""
        yield f"{number}. {step.title}"
        if step.forever:
            yield from _wrapped(f"gone for ever: {step.forever}", "   ")
        if step.hint:
            yield from _wrapped(step.hint, "   ")
        for command in step.commands:
            yield f"     {command}"
    yield ""
    yield "What it means for limpet"
    for sentence in meaning:
        yield from _wrapped(sentence, "- ")


def plan_json(board: Board, steps: tuple[Step, ...], meaning: Iterable[str]) -> dict[str, Any]:
    """The same for programs; docs/secure.md names the keys."""
    return {
        "board": board.name,
        "chip": board.chip,
        "steps": [
            {
                "title": step.title,
                "forever": step.forever,
                "hint": step.hint,
                "commands": [{"words": each.words, "burns": each.burns} for each in step.commands],
            }
            for step in steps
        ],
        "meaning": list(meaning),
    }


def step_text(number: int, done: Rehearsed) -> Iterator[str]:
    """One step of a rehearsal."""
    yield f"{number}. {done.step.title}" + ("" if done.ran else ": left out here, it burns no eFuse")
    for command in done.ran:
        yield f"     {command}"
    for name, (before, after) in done.changed.items():
        yield f"       {name}: {before} -> {after}"


def summary_text(before: Fuses, after: Fuses) -> Iterator[str]:
    """What all the steps together have changed, as a table."""
    yield ""
    rows = [(name, str(before[name]), str(fuse)) for name, fuse in after.items() if fuse != before[name]]
    rows = [("eFuse", "before", "after"), *rows]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, one, other in rows:
        yield f"{name:<{widths[0]}}  {one:<{widths[1]}}  {other}"


def rehearsal_json(board: Board, done: list[Rehearsed]) -> dict[str, Any]:
    """A rehearsal for programs; docs/secure.md names the keys."""
    return {
        "board": board.name,
        "chip": board.chip,
        "steps": [
            {
                "title": each.step.title,
                "ran": [command.words for command in each.ran],
                "changed": {name: [_fuse(fuse) for fuse in both] for name, both in each.changed.items()},
            }
            for each in done
        ],
        "before": {name: _fuse(fuse) for name, fuse in done[0].before.items()},
        "after": {name: _fuse(fuse) for name, fuse in done[-1].after.items()},
    }


def _fuse(fuse: Fuse) -> dict[str, Any]:
    value = fuse.value if isinstance(fuse.value, int) else fuse.value.hex()
    return {"value": value, "readable": fuse.readable, "writeable": fuse.writeable}


def _wrapped(text: str, before: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=before,
        subsequent_indent=" " * len(before),
        break_long_words=False,
        break_on_hyphens=False,
    )
