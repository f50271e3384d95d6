"""What came of a refresh: for a person, and as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from host_tools.errors import DONE, NO_DEVICE
from host_tools.fleet.refresh import Answer

_DIGITS = 16


def lines(answers: Sequence[Answer]) -> Iterator[str]:
    """A line for each node."""
    for each in answers:
        if not each.at:
            yield f"{each.node_id}: {each.why}"
            continue
        told = [f"{each.node_id}: answers, up for {each.uptime} s"]
        if each.spool:
            told.append(f"{each.spool} readings wait")
        if each.error:
            told.append(each.error)
        yield ", ".join(told)


def odd(answers: Sequence[Answer], strangers: Mapping[str, str]) -> Iterator[str]:
    """A sentence about each thing that must not be."""
    for each in answers:
        if each.stranger:
            yield (
                f"{each.node_id}: it comes with another certificate than the record has, "
                f"{each.stranger[:_DIGITS]}…: `limpet rotate {each.node_id}` finishes what was begun."
            )
    for node_id, why in strangers.items():
        yield f"{node_id}: the broker knows this node, but {why}."


def as_json(answers: Sequence[Answer], strangers: Mapping[str, str], code: int) -> dict[str, Any]:
    """The same as one JSON object."""
    return {
        "exit_code": code,
        "nodes": [
            {
                "node_id": each.node_id,
                "at": each.at or None,
                "why": each.why or None,
                "uptime": each.uptime,
                "spool": each.spool,
                "error": each.error or None,
                "other_certificate": each.stranger or None,
            }
            for each in answers
        ],
        "strangers": [{"node_id": node_id, "why": why} for node_id, why in strangers.items()],
    }


def exit_code(answers: Sequence[Answer]) -> int:
    """That of the command: NO_DEVICE when a node did not answer."""
    return NO_DEVICE if any(not each.at for each in answers) else DONE
