"""Which tests are marked `security`, read from their files without importing them."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from host_tools import paths
from tests.security.promises import CLAUSES, PROMISES

TESTS = paths.ROOT / "tests"
MARKS, RUNGS = "security-marks", "security-rungs"
"""Properties in the report of a test that runs: its numbers, and what it ran on."""

_LONGEST = 300  # characters of a sentence


@dataclass(frozen=True, order=True)
class Marked:
    """A test and one of its marks. `file` is relative to the repository."""

    number: int
    file: str
    line: int
    name: str
    clauses: tuple[str, ...]
    sentence: str
    is_soak: bool


class Mistake(Exception):
    """A mark or its test is not as it should be; the text says where and why."""


def marked(folder: Path = TESTS) -> list[Marked]:
    """All marked tests below `folder`, by number, then as they stand in their files.

    Raises Mistake when marks cannot be read, name what does not exist, or their tests have no sentence.
    """
    found: list[Marked] = []
    mistakes: list[str] = []
    for path in sorted(folder.rglob("test_*.py")):
        text = path.read_text()
        if "security(" in text:
            file = MarkedFile(ast.parse(text), path.relative_to(folder.parent).as_posix())
            for marks in file.marks():
                try:
                    found.append(marks())
                except Mistake as e:
                    mistakes.append(str(e))
    if mistakes:
        raise Mistake("\n".join(mistakes))
    return sorted(found)


class MarkedFile:
    """One file of tests."""

    def __init__(self, tree: ast.Module, name: str) -> None:
        self._tree = tree
        self._name = name
        self._constants: dict[str, ast.expr] = {}
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self._constants[node.targets[0].id] = node.value

    def marks(self) -> Iterator[Callable[[], Marked]]:
        """What reads each mark, or raises Mistake."""
        for_all = self._constants.get("pytestmark")
        if for_all is not None and "security" in ast.unparse(for_all):
            yield partial(self._refuse, for_all, "mark each test by itself, not the whole file.")
        all_soak = for_all is not None and "mark.soak" in ast.unparse(for_all)
        for node in self._tree.body:
            if isinstance(node, ast.FunctionDef):
                own = map(ast.unparse, node.decorator_list)
                is_soak = all_soak or "pytest.mark.soak" in own
                for decorator in filter(is_mark, node.decorator_list):
                    assert isinstance(decorator, ast.Call)
                    yield partial(self._mark, node, decorator, is_soak)

    def arguments(self, mark: ast.Call) -> list[Any]:
        """What the mark says: number and clauses. Raises ValueError if that is more than literals say."""
        return [value for each in mark.args for value in self._values(each)]

    def _refuse(self, node: ast.expr | ast.FunctionDef, why: str) -> NoReturn:
        name = f"{node.name}: " if isinstance(node, ast.FunctionDef) else ""
        raise Mistake(f"{self._name}:{node.lineno}: {name}{why}")

    def _mark(self, function: ast.FunctionDef, mark: ast.Call, is_soak: bool) -> Marked:
        try:
            number, *clauses = self.arguments(mark)
        except ValueError:
            self._refuse(function, "write number and clauses of its mark as they are, for they are read.")
        if number not in PROMISES:
            self._refuse(function, f"there is no promise {number!r}; they go from 1 to {max(PROMISES)}.")
        for clause in clauses:
            if clause not in CLAUSES:
                self._refuse(function, f"the clause {clause!r} is not in tests/security/promises.py.")
        if not clauses:
            self._refuse(function, "its mark names no clause.")
        sentence = " ".join((ast.get_docstring(function) or "").split("\n\n")[0].split())
        if not sentence.endswith(".") or len(sentence) > _LONGEST or "|" in sentence:
            self._refuse(
                function,
                "its docstring must begin with one sentence that says what is shown "
                f"(up to {_LONGEST} characters, a full stop at its end, no '|').",
            )
        line = function.lineno
        return Marked(number, self._name, line, function.name, tuple(clauses), sentence, is_soak)

    def _values(self, argument: ast.expr) -> list[Any]:
        """What an argument stands for: itself, or a constant of the file, unpacked if it is starred.

        Raises ValueError if it is anything else.
        """
        starred = isinstance(argument, ast.Starred)
        value = argument.value if isinstance(argument, ast.Starred) else argument
        if isinstance(value, ast.Name):
            value = self._constants.get(value.id, value)
        found = ast.literal_eval(value)
        return list(found) if starred else [found]


def is_mark(decorator: ast.expr) -> bool:
    """Whether it is `@pytest.mark.security(…)`, or `@security(…)` inside MicroPython."""
    if not isinstance(decorator, ast.Call):
        return False
    return ast.unparse(decorator.func) in ("pytest.mark.security", "security")
