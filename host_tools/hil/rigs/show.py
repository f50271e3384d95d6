"""Rigs as people read them in a list, and as JSON."""

from collections.abc import Sequence
from typing import Any

from host_tools.hil.rigs.model import RigFile
from host_tools.hil.rigs.needs import capabilities


def listed(rigs: Sequence[RigFile]) -> list[str]:
    """Name, rung, board and whereabouts of each, in columns; below it what it can do."""
    rows = [(each.name, each.rung, each.board.name, each.whereabouts) for each in rigs]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for rig, row in zip(rigs, rows, strict=True):
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        lines += ["  ".join(cells).rstrip(), f"    {', '.join(_in_short(rig))}"]
    return lines


def as_json(rig: RigFile) -> dict[str, Any]:
    """One rig; docs/rigs.md describes it."""
    return {
        "name": rig.name,
        "file": str(rig.path),
        "rung": rig.rung,
        "board": rig.board.name,
        "port": rig.whereabouts,
        "power": rig.power.kind,
        "channels": list(rig.channels),
        "capabilities": sorted(capabilities(rig)),
    }


def _in_short(rig: RigFile) -> list[str]:
    """Its capabilities, sorted, without those that say again of a channel what is said of its quantity."""
    return [word for word in sorted(capabilities(rig)) if "/" not in word] or ["nothing that a test can need"]
