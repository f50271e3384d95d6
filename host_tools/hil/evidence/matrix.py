"""Which test had which outcome where: tests down, rigs across, grouped by rung."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from host_tools.hil.evidence.record import OUTCOMES, RUNGS, Outcome, Result, Rung


@dataclass(frozen=True)
class Column:
    """One rig."""

    rung: Rung
    rig: str
    results: tuple[Result, ...]

    def facts(self, name: str) -> list[str]:
        """The different values of a field of `Where` among its results, as they came; empty ones left out."""
        return list(dict.fromkeys(value for each in self.results if (value := getattr(each, name))))

    @property
    def seconds(self) -> float:
        """Of all its tests together."""
        return sum(each.seconds for each in self.results)


@dataclass(frozen=True)
class TestRow:
    """One test: a result for each column, None where it did not run."""

    name: str
    cells: tuple[Result | None, ...]

    @property
    def outcomes(self) -> list[Outcome]:
        """Those that it had."""
        return [each for each in OUTCOMES if any(cell and cell.outcome == each for cell in self.cells)]


@dataclass(frozen=True)
class Module:
    """One file of tests."""

    path: str
    rows: list[TestRow]


@dataclass(frozen=True)
class Matrix:
    """The whole."""

    columns: list[Column]
    modules: list[Module]

    @property
    def rungs(self) -> list[tuple[Rung, int]]:
        """Each rung with the number of its columns."""
        return [(rung, len(list(group))) for rung, group in groupby(self.columns, key=lambda each: each.rung)]


def matrix_of(results: Sequence[Result]) -> Matrix:
    """Rungs from the furthest from a board to the board; files and tests in the order in which they began."""
    members: dict[tuple[Rung, str], list[Result]] = defaultdict(list)
    cells: dict[str, dict[tuple[Rung, str], Result]] = defaultdict(dict)
    for each in results:
        members[each.rung, each.rig].append(each)
        cells[each.test][each.rung, each.rig] = each
    keys = sorted(members, key=lambda key: (RUNGS.index(key[0]), key[1]))
    modules: dict[str, Module] = {}
    for test, by_rig in cells.items():
        path, _, name = test.partition("::")
        row = TestRow(name or path, tuple(by_rig.get(key) for key in keys))
        modules.setdefault(path, Module(path, [])).rows.append(row)
    return Matrix([Column(*key, tuple(members[key])) for key in keys], list(modules.values()))
