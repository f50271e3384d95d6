"""A benchmark's rows, as docs/benchmarks.md and build/bench.json show them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One figure. `ratio` is the value divided by the peer's; `met` is None where there is no target."""

    name: str
    value: float
    unit: str
    compared_with: str = ""
    ratio: float | None = None
    target: str = ""
    met: bool | None = None


def write_json(rows: list[Row], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def markdown(title: str, rows: list[Row]) -> str:
    """The rows as a Markdown table under a heading."""
    lines = [
        f"## {title}",
        "",
        "| figure | value | compared with | ratio | target | met |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        ratio = "" if row.ratio is None else f"{number(row.ratio)}×"
        met = {None: "", True: "yes", False: "**no**"}[row.met]
        value = f"{number(row.value)} {row.unit}"
        lines.append(f"| {row.name} | {value} | {row.compared_with} | {ratio} | {row.target} | {met} |")
    return "\n".join(lines) + "\n"


def number(value: float) -> str:
    """Three significant digits, whole numbers with thousands marked."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
