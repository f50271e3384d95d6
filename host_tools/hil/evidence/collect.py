"""The results of all processes of a run, from their files; also while they are still being written."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

from host_tools.hil.evidence.record import Begun, Line, Outcome, Result, did_not_end, from_json
from host_tools.hil.evidence.recorder import FOLDER

_FAILED: tuple[Outcome, ...] = ("failed", "quarantined")


@dataclass(frozen=True)
class Results(Sequence[Result]):
    """One result for each test on each rig, in the order in which they began."""

    results: tuple[Result, ...]
    lost: tuple[str, ...] = ()
    """Sentences: lines that could not be read, each with its file."""

    @overload
    def __getitem__(self, at: int) -> Result: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Result, ...]: ...
    def __getitem__(self, at: int | slice) -> Result | tuple[Result, ...]:
        return self.results[at]

    def __len__(self) -> int:
        return len(self.results)


class Tail:
    """Follows the files of a run: `news` is what was written since it was asked last."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._read: dict[Path, int] = {}
        self._lines: dict[Path, int] = defaultdict(int)
        self._rest: dict[Path, bytes] = {}
        self._lost: list[str] = []

    def news(self) -> list[tuple[str, Line]]:
        """Whole lines, each with the name of the process that wrote it."""
        return [
            (path.stem, line) for path in sorted(self._folder.glob("*.jsonl")) for line in self._new(path)
        ]

    def lost(self) -> tuple[str, ...]:
        """What cannot be read, and what was begun and is no whole line yet."""
        cut = [
            f"{path.name}, line {self._lines[path] + 1}: it is cut off, so its process was killed."
            for path, rest in self._rest.items()
            if rest
        ]
        return (*self._lost, *cut)

    def _new(self, path: Path) -> Iterator[Line]:
        with path.open("rb") as file:
            file.seek(self._read.get(path, 0))
            data = file.read()
        self._read[path] = self._read.get(path, 0) + len(data)
        *whole, self._rest[path] = (self._rest.get(path, b"") + data).split(b"\n")
        for text in whole:
            self._lines[path] += 1
            try:
                yield from_json(text)
            except ValueError as error:
                self._lost.append(f"{path.name}, line {self._lines[path]}: it is no result ({error}).")


def read_results(folder: Path) -> Results:
    """What a run left in its folder. What was begun and did not end has failed."""
    tail = Tail(folder)
    ended: list[Result] = []
    begun: dict[str, Begun] = {}
    for process, line in tail.news():
        if isinstance(line, Result):
            begun.pop(process, None)
            ended.append(line)
        else:
            if process in begun:
                ended.append(did_not_end(begun[process]))
            begun[process] = line
    ended += map(did_not_end, begun.values())
    return Results(_by_test_and_rig(ended), tail.lost())


def settled(attempts: Sequence[Result]) -> Result:
    """One result of all that a test had on one rig, in order.

    It is as the last one that was not blocked. But who passed after a failure is flaky, with the evidence of
    that failure.
    """
    ran = [each for each in attempts if each.outcome != "blocked"]
    last = (ran or list(attempts))[-1]
    count = sum(each.attempts for each in ran or attempts)
    bad = [each for each in ran if each.outcome in (*_FAILED, "flaky")]
    if last.outcome == "passed" and bad:
        return replace(
            last,
            outcome="flaky",
            why=bad[-1].why,
            events=bad[-1].events,
            readings=bad[-1].readings,
            attempts=count,
        )
    return replace(last, attempts=count)


def _by_test_and_rig(results: Sequence[Result]) -> tuple[Result, ...]:
    attempts: dict[tuple[str, str, str], list[Result]] = defaultdict(list)
    for each in sorted(results, key=lambda each: each.started):
        attempts[each.test, each.rung, each.rig].append(each)
    return tuple(settled(each) for each in attempts.values())
