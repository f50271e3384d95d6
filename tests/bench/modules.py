"""The firmware's modules one by one: their byte code, and the heap that each takes."""

import ast
import re
from itertools import pairwise, starmap
from pathlib import Path

from host_tools import paths
from tests.bench.ground import Ground, output
from tests.bench.table import Row
from tests.bench.whole_node import all_names, heap_between


def rows(ground: Ground) -> list[Row]:
    """Two rows for each module, in the order of import: its file's size, and its heap."""
    files = sorted((ground.firmware / "limpet").rglob("*.mpy"))
    modules = {_dotted(path.relative_to(ground.firmware)): path for path in files}
    order = _import_order(modules)
    said = output(ground.start("modules.py", *order, board=True))
    used = [int(number) for number in re.findall(r"^used (\d+)", said, re.MULTILINE)]
    states = [(each, *names) for each, names in zip(used, all_names(said), strict=True)]
    costs = dict(zip(order, starmap(heap_between, pairwise(states)), strict=True))
    found = []
    for name in order:
        found.append(Row(f"`{name}` .mpy", modules[name].stat().st_size, "B"))
        found.append(Row(f"`{name}` heap after import", costs[name], "B"))
    return found


def _dotted(path: Path) -> str:
    name = path.with_suffix("").as_posix().replace("/", ".")
    return name.removesuffix(".__init__")


def _import_order(modules: dict[str, Path]) -> list[str]:
    """Each module behind those that it imports, so that each is counted for itself."""
    needs = {name: _imports(name, modules) for name in modules}
    order: list[str] = []

    def place(name: str) -> None:
        if name not in order:
            for needed in sorted(needs[name]):
                place(needed)
            order.append(name)

    for name in sorted(modules):
        place(name)
    return order


def _imports(name: str, modules: dict[str, Path]) -> set[str]:
    source = paths.FIRMWARE / name.replace(".", "/")
    source = source / "__init__.py" if source.is_dir() else source.with_suffix(".py")
    found = {".".join(name.split(".")[: i + 1]) for i in range(name.count("."))}
    for node in ast.parse(source.read_text()).body:  # what functions import comes later, or never
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return (found & modules.keys()) - {name}
