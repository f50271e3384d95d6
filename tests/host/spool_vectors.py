"""The spool partitions of tests/vectors/spool.json, as bytes."""

import json
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parents[1] / "vectors"
CASES: list[dict[str, Any]] = json.loads((VECTORS / "spool.json").read_text())["vectors"]
SECTOR = 4096


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
