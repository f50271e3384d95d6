"""The line of every key of a TOML document.

`tomllib` gives values without places, so the places come from the concrete syntax tree that tree-sitter
makes of the same text. `tomllib` alone decides what is valid and what it means.
"""

import tomllib
from collections.abc import Iterator

import tree_sitter_toml
from tree_sitter import Language, Node, Parser

from host_tools.userfile.problems import KeyPath

# Deeper keys are wrong in every file of ours; their parent's line serves.
_DEEPEST = 8


def locate(text: str) -> dict[KeyPath, int]:
    """The line, counted from 1, of each table, key and array element of valid TOML.

    A table has the line of its header, or that of the first key that implies it.
    """
    tree = Parser(Language(tree_sitter_toml.language())).parse(text.encode())
    locator = _Locator()
    locator.document(tree.root_node)
    return locator.lines


class _Locator:
    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._arrays: dict[KeyPath, int] = {}  # the last element of each array of tables

    def document(self, root: Node) -> None:
        for node in root.named_children:
            if node.type in ("table", "table_array_element"):
                self._table(node)
            else:
                self._pairs(node, ())

    def _table(self, node: Node) -> None:
        header = node.named_children[0]
        path: KeyPath = ()
        keys = _keys(header)[:_DEEPEST]
        for depth, key in enumerate(keys, start=1):
            path += (key,)
            self.lines.setdefault(path, _line(header))
            if node.type == "table_array_element" and depth == len(keys):
                self._arrays[path] = self._arrays.get(path, -1) + 1
            if path in self._arrays:
                path += (self._arrays[path],)
        # A header says more than a key that implied the table earlier.
        self.lines[path] = _line(header)
        for child in node.named_children[1:]:
            self._pairs(child, path)

    def _pairs(self, node: Node, table: KeyPath) -> None:
        """The pair that `node` is, or the pairs within it where the grammar is older than the file."""
        if node.type != "pair":
            for child in node.named_children:
                self._pairs(child, table)
            return
        key, value = node.named_children[0], node.named_children[-1]
        path = table
        for name in _keys(key)[:_DEEPEST]:
            path += (name,)
            self.lines.setdefault(path, _line(key))
        self._value(value, path)

    def _value(self, node: Node, path: KeyPath) -> None:
        if len(path) >= _DEEPEST:
            return
        if node.type == "inline_table":
            for child in node.named_children:
                self._pairs(child, path)
        elif node.type == "array":
            elements = (child for child in node.named_children if child.type not in ("comment", "ERROR"))
            for index, element in enumerate(elements):
                self.lines[(*path, index)] = _line(element)
                self._value(element, (*path, index))


def _line(node: Node) -> int:
    return int(node.start_point.row) + 1


def _keys(node: Node) -> list[str]:
    return [_name(part) for part in _key_parts(node)]


def _key_parts(node: Node) -> Iterator[Node]:
    if node.type == "dotted_key":
        for child in node.named_children:
            yield from _key_parts(child)
    else:
        yield node


def _name(key: Node) -> str:
    text = (key.text or b"").decode()
    # A quoted key has a string's escapes, which tomllib knows best.
    return next(iter(tomllib.loads(f"{text} = 0"))) if key.type == "quoted_key" else text
