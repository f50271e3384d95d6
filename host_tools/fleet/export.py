"""The fleet record for other programs: CSV, or JSON objects."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from host_tools.fleet.record import Entry, Node


def values(node: Node) -> dict[str, str | None]:
    """A node as a JSON object; what it has not is null."""
    return {name: value or None for name, value in asdict(node).items()}


def entry(line: Entry) -> dict[str, Any]:
    """A line of the journal as a JSON object."""
    return {
        "at": line.at,
        "mac": line.mac,
        "node_id": line.node_id or None,
        "step": line.step,
        "facts": dict(line.facts),
    }


def as_csv(nodes: Sequence[Node]) -> str:
    """All nodes as CSV (RFC 4180) with a line of headings."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Node)])
    writer.writeheader()
    writer.writerows(asdict(node) for node in nodes)
    return text.getvalue()
