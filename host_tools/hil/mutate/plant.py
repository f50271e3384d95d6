"""A mutant's firmware: a copy with one text replaced, which still compiles."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from host_tools import micropython
from host_tools.errors import LimpetError
from host_tools.hil.mutate.catalogue import Catalogue, Mutant
from host_tools.userfile import Problem


def mutated(mutant: Mutant, source: str) -> str:
    """The source with the mutant in it. Raises ValueError unless the text to be replaced is there once."""
    count = source.count(mutant.replace)
    if count != 1:
        raise ValueError(f"this text is {f'{count} times' if count else 'not'} in {mutant.file}")
    return source.replace(mutant.replace, mutant.by)


def plant(mutant: Mutant, firmware: Path, folder: Path) -> Path:
    """A copy of the firmware with the mutant in it, below `folder`; its path.

    Raises LimpetError when it does not compile, ValueError as `mutated`.
    """
    copy = folder / mutant.name
    shutil.copytree(firmware, copy, ignore=shutil.ignore_patterns("__pycache__"))
    file = copy / mutant.file
    file.write_text(mutated(mutant, file.read_text(encoding="utf-8")), encoding="utf-8")
    micropython.cross_compile(file, mutant.file)
    return copy


def plant_all(
    catalogue: Catalogue, mutants: Iterable[Mutant], firmware: Path, folder: Path
) -> dict[str, Path]:
    """The firmware of each, by the mutant's name. Raises UserFileError that names all that cannot be made."""
    planted: dict[str, Path] = {}
    problems: list[Problem] = []
    for each in mutants:
        if not _is_in(firmware, each.file):
            problems.append(
                catalogue.wrong("file", each, f"there is no such file in {firmware}. Correct it.")
            )
            continue
        try:
            planted[each.name] = plant(each, firmware, folder)
        except ValueError as error:
            problems.append(
                catalogue.wrong("replace", each, f"{error}. Write one that is there exactly once.")
            )
        except LimpetError as error:
            said = str(error).partition(": ")[2].partition(";")[0]
            problems.append(catalogue.wrong("by", each, f"{each.file} does not compile with it ({said})."))
    catalogue.refuse(problems)
    return planted


def _is_in(firmware: Path, name: str) -> bool:
    path = (firmware / name).resolve()
    return path.is_file() and path.is_relative_to(firmware.resolve())
