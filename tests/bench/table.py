"""A benchmark's rows, as docs/benchmarks.md and build/bench.json show them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One figure. `ratio` is the value divided by the peer's; `met` is None where there is no target.

    `note` says in a sentence or two what exactly was measured.
    """

    name: str
    value: float
    unit: str
    compared_with: str = ""
    ratio: float | None = None
    target: str = ""
    met: bool | None = None
    note: str = ""


def write_json(rows: Sequence[Row], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def markdown(title: str, rows: Sequence[Row]) -> str:
    """The rows as a Markdown table under a heading, and their notes as its footnotes."""
    notes = list(dict.fromkeys(row.note for row in rows if row.note))
    lines = [
        f"## {title}",
        "",
        "| figure | value | compared with | ratio | target | met |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        name = f"{row.name}[^{notes.index(row.note) + 1}]" if row.note else row.name
        ratio = "" if row.ratio is None else f"{number(row.ratio)}×"
        met = {None: "", True: "yes", False: "**no**"}[row.met]
        value = f"{number(row.value)} {row.unit}".strip()
        lines.append(f"| {name} | {value} | {row.compared_with} | {ratio} | {row.target} | {met} |")
    footnotes = [f"[^{i}]: {note}" for i, note in enumerate(notes, 1)]
    return "\n".join([*lines, "", *footnotes]) + "\n"


def number(value: float) -> str:
    """Three significant digits, whole numbers with thousands marked."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
