"""The spool partitions of tests/vectors/spool.json, as bytes."""

import json
from pathlib import Path
from typing import Any

from host_tools.spool.dating import Reading
from host_tools.spool.ring import Gap

VECTORS = Path(__file__).parents[1] / "vectors"
CASES: list[dict[str, Any]] = json.loads((VECTORS / "spool.json").read_text())["vectors"]
SECTOR = 4096


def as_vector(item: Reading | Gap) -> list[Any]:
    """What was decoded, as the vectors write it."""
    if isinstance(item, Gap):
        return [item.first, item.last, item.why]
    name, unit, decimals = item.channel.name, item.channel.unit, item.channel.decimals
    quality = str(item.quality)
    return [item.seq, name, unit, decimals, item.reason, item.value, item.unix_ms, quality, item.later_s]


def partition(case: dict[str, Any], sectors: int = 0) -> bytes:
    """A case's partition; blank sectors are put behind it up to `sectors` in all."""
    image = bytearray()
    for runs in case["sectors"]:
        sector = bytearray(b"\xff" * SECTOR)
        for at, text in runs:
            data = bytes.fromhex(text)
            sector[at : at + len(data)] = data
        image += sector
    return bytes(image).ljust(sectors * SECTOR, b"\xff")


def named(name: str) -> dict[str, Any]:
    (case,) = [case for case in CASES if case["name"] == name]
    return case
