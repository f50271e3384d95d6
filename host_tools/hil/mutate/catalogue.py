"""The file of the mutants: tests/hil/mutants.toml, or another one like it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from host_tools.errors import LimpetError, UsageError
from host_tools.userfile import (
    Problem,
    UserFile,
    UserFileError,
    check_table,
    did_you_mean,
    not_a_table,
    problem,
    read,
)

_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_LIST = re.compile(r'\[(?:\s*"[^"]*"\s*,?)*\s*\]')
_WIDEST = 110


class _Table(BaseModel):
    """A mutant's table. Each description is the phrase of its error message."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    file: str = Field(description="the path of a file in the firmware, in quotes")
    replace: str = Field(description="the text to be replaced, in quotes", min_length=1)
    by: str = Field(description="the text in its place, in quotes")
    breaks: str = Field(description="what a user would lose, as one sentence", pattern=r"^[A-Z`].*\.$")
    catches: list[str] = Field(description="a list of tests, each as pytest names it")


@dataclass(frozen=True)
class Mutant:
    """A small breakage of the firmware."""

    name: str
    file: str
    """Where, from the firmware's folder."""
    replace: str
    by: str
    breaks: str
    """What a user would lose by it, in a sentence."""
    catches: tuple[str, ...]
    """Tests that have caught it, as pytest names them; tried first."""


@dataclass(frozen=True)
class Catalogue:
    """The mutants of a file, in its order."""

    file: UserFile
    mutants: tuple[Mutant, ...]

    def chosen(self, names: Sequence[str]) -> tuple[Mutant, ...]:
        """Those of these names, or all. Raises UsageError for a name that is none."""
        known = [each.name for each in self.mutants]
        for name in names:
            if name not in known:
                raise UsageError(
                    f"There is no mutant '{name}' in {self.file.name}. {did_you_mean(name, known)}"
                )
        return tuple(each for each in self.mutants if not names or each.name in names)

    def wrong(self, key: str, mutant: Mutant, text: str) -> Problem:
        """A problem with a mutant that its table alone does not show."""
        return problem((mutant.name, key), text)

    def refuse(self, problems: Iterable[Problem]) -> None:
        """Raise UserFileError if there are any."""
        if told := self.file.told(problems):
            raise UserFileError("\n".join(told))


def load(path: Path) -> Catalogue:
    """The mutants of a file. Raises UserFileError with all its problems."""
    file = read(path)
    mutants, problems = [], []
    for name, table in file.values.items():
        mutant, wrong = _mutant(name, table)
        problems += wrong
        if mutant:
            mutants.append(mutant)
    made = Catalogue(file, tuple(mutants))
    made.refuse(problems)
    return made


def with_catches(text: str, file: UserFile, catches: Mapping[str, Sequence[str]]) -> str:
    """The file's text with other tests in `catches` of these mutants; all else stays as it is."""
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    for name in sorted(catches, key=lambda name: file.line((name, "catches")), reverse=True):
        start = starts[file.line((name, "catches")) - 1]
        head, tail = text[:start], text[start:]
        text = head + _LIST.sub(lambda _, name=name: _toml(catches[name]), tail, count=1)  # type: ignore[misc]
    return text


def save(path: Path, text: str) -> None:
    """Write the file anew. Raises LimpetError when that cannot be."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise LimpetError(f"{path} cannot be written ({error.strerror}): change its permissions.") from None


def _mutant(name: str, table: Any) -> tuple[Mutant | None, list[Problem]]:
    if not isinstance(table, Mapping):
        return None, [not_a_table((name,), table)]
    checked, problems = check_table(_Table, table, (name,))
    if not _NAME.fullmatch(name):
        problems.append(
            problem((name,), "a mutant's name has small letters and digits, with '-' between words.")
        )
    if checked and checked.replace == checked.by:
        problems.append(problem((name, "by"), "this is the text that it replaces. Write another one."))
    if problems or not checked:
        return None, problems
    fields = checked.model_dump()
    return Mutant(name, **{**fields, "catches": tuple(fields["catches"])}), []


def _toml(tests: Sequence[str]) -> str:
    quoted = [f'"{test}"' for test in tests]
    short = f"[{', '.join(quoted)}]"
    if len("catches = ") + len(short) <= _WIDEST:
        return short
    return "[\n" + "".join(f"    {test},\n" for test in quoted) + "]"
