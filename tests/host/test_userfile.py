"""The line of each key, whatever way TOML writes it, and files that are no TOML at all."""

import os
import random
import tomllib
from pathlib import Path

import pytest

from host_tools.userfile import UserFileError, read
from host_tools.userfile.lines import locate

LAYOUTS: dict[str, tuple[str, dict[tuple[str | int, ...], int]]] = {
    "keys": ("a = 1\n\nb = 2", {("a",): 1, ("b",): 3}),
    "table headers": (
        "[a]\nx = 1\n# c\n  [ b . c ]\nx = 1",
        {("a",): 1, ("a", "x"): 2, ("b",): 4, ("b", "c"): 4, ("b", "c", "x"): 5},
    ),
    "header after what implied it": ("[a.b]\nx = 1\n[a]\ny = 1", {("a",): 3, ("a", "b"): 1, ("a", "y"): 4}),
    "out of order": ("[a.b]\n[c]\n[a.d]\nx = 1", {("a",): 1, ("c",): 2, ("a", "d"): 3, ("a", "d", "x"): 4}),
    "dotted keys": (
        "a.b.c = 1\na . d = 2\n[t]\nu.v = 3",
        {("a",): 1, ("a", "b", "c"): 1, ("a", "d"): 2, ("t", "u"): 4, ("t", "u", "v"): 4},
    ),
    "quoted keys": (
        '"a b" = 1\n\'c.d\' = 2\n"\\u0065\\"]" = 3\n["x.y".z]\n"=" = 4',
        {("a b",): 1, ("c.d",): 2, ('e"]',): 3, ("x.y", "z"): 4, ("x.y", "z", "="): 5},
    ),
    "inline tables": (
        "a = 1\nt = { x = 1, y.z = [1,\n 2], w = { v = 1 } }\nb = 2",
        {("t", "x"): 2, ("t", "y", "z"): 2, ("t", "y", "z", 1): 3, ("t", "w", "v"): 3, ("b",): 4},
    ),
    "arrays of tables": (
        "[[w]]\nx = 1\n\n[[w]]\nx = 2\n[w.s]\ny = 1\n[[w.q]]\nz = 1\n[[w]]",
        {
            ("w",): 1,
            ("w", 0): 1,
            ("w", 0, "x"): 2,
            ("w", 1): 4,
            ("w", 1, "x"): 5,
            ("w", 1, "s"): 6,
            ("w", 1, "s", "y"): 7,
            ("w", 1, "q", 0, "z"): 9,
            ("w", 2): 10,
        },
    ),
    "arrays of inline tables": (
        "w = [ # first\n {x = 1},\n # [\n\n {x = 2, y = 3},\n]\nv = 1",
        {("w", 0): 2, ("w", 0, "x"): 2, ("w", 1): 5, ("w", 1, "y"): 5, ("v",): 7},
    ),
    "multi-line text": (
        'a = """\n[not.a.table]\nb = 1\n\\\n"""\nb = \'\'\'\n"""\n\'\'\'\nc = "[d]\\" #"\nd = 1',
        {("a",): 1, ("b",): 6, ("c",): 9, ("d",): 10},
    ),
    "other values": ("a = 1979-05-27 07:32:00\nb = 0x1F\nc = inf\nd = true\ne = 1", {("d",): 4, ("e",): 5}),
}


@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_line_of_each_key(layout, ending):
    text, expected = LAYOUTS[layout]
    text = text.replace("\n", ending)
    tomllib.loads(text)
    lines = locate(text)
    assert {path: lines.get(path) for path in expected} == expected


def paths_of(value, path=()):
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*path, key)
        yield from paths_of(each, (*path, key))


def test_every_value_of_random_documents_has_a_line():
    """Joined at random, the layouts above and their values never leave a key without its place."""
    chance = random.Random(8428)
    for _ in range(300):
        parts = [
            f"[part{index}]\n"
            + "\n".join(f"{key}{index} = {value}" for key, value in chance.sample(PAIRS, 4))
            for index in range(4)
        ]
        text = "\n".join(parts)
        lines = locate(text)
        for path in paths_of(tomllib.loads(text)):
            assert path in lines
            key = next(part for part in reversed(path) if isinstance(part, str))
            if isinstance(path[-1], str):
                assert key in text.splitlines()[lines[path] - 1]


PAIRS = [
    ("a", "1"),
    ("b.c", '"text # [x]"'),
    ("d", "[1, [2, 3], [\n4\n]]"),
    ("e", "{ f = 1, g.h = [{ i = 1 }] }"),
    ("j", '"""\nk = 1\n[l]\n"""'),
    ("m", "[{ n = 1 }, { o = { p = 2 } }]"),
    ("q", "'''r'''"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(data: bytes) -> str:
    Path("node.toml").write_bytes(data)
    with pytest.raises(UserFileError) as caught:
        read(Path("node.toml"))
    # Nothing of the file may hide behind the text.
    assert caught.value.__context__ is None or not isinstance(
        caught.value.__context__, tomllib.TOMLDecodeError
    )
    return str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "node.toml: the file is empty. Fill it in, or name another."),
        (b"\xef\xbb\xbf \r\n\t\n", "node.toml: the file is empty. Fill it in, or name another."),
        (b"a = 1\nb = '\xfc'\n", "node.toml:2: this is not UTF-8 text. Save the file as UTF-8."),
        ("a = 1\n".encode("utf-16"), "node.toml:1: this is not UTF-8 text. Save the file as UTF-8."),
        (b"#" * 65537, "node.toml: the file has more than 64 kB. Name the right one."),
        (
            b"a = 1\r\nb = virtual\r\n",
            "node.toml:2: not valid TOML: there is no valid value here. Write text in quotes, and numbers "
            "without.",
        ),
        (
            b"a = 1\na = 2\n",
            "node.toml:2: not valid TOML: this key stands in the table twice. Keep one of the two.",
        ),
        (
            b"t = {a = 1, a = 2}\n",
            "node.toml:1: not valid TOML: this key stands in the table twice. Keep one of the two.",
        ),
        (
            b"[a]\n\n[a]\n",
            "node.toml:3: not valid TOML: this table's header stands in the file twice. Join the two tables.",
        ),
        (b"a\n", "node.toml:1: not valid TOML: a key must be followed by '=' and its value."),
        (
            b'\na = "b\nc = 1\n',
            "node.toml:2: not valid TOML: a text has no closing quote on its line. Close it.",
        ),
        (
            b'a = """b\n\n',
            "node.toml:1: not valid TOML: a text has no closing quote. Close it.",
        ),
        (
            b"a = [1 2]\n",
            "node.toml:1: not valid TOML: a list has no closing ']', or two of its elements have no ',' "
            "between them.",
        ),
        (
            b"a = {b = 1 c = 2}\n",
            "node.toml:1: not valid TOML: a table has no closing '}', or two of its keys have no ',' "
            "between them.",
        ),
        (
            b"a = 1 b = 2\n",
            "node.toml:1: not valid TOML: expected newline or end of document after a statement.",
        ),
        (b"a = " + b"9" * 5000, "node.toml:1: not valid TOML: a number is too long."),
        (b"a = " + b"[" * 60000, "node.toml:1: not valid TOML: lists or tables are nested too deeply."),
    ],
)
def test_not_toml(folder, data, message):
    assert refusal(data) == message


def test_byte_order_mark_and_crlf(folder):
    Path("node.toml").write_bytes(b"\xef\xbb\xbfa = 1.50\r\nb = 2\r\n")
    file = read(Path("node.toml"))
    assert file.values == {"a": 1.5, "b": 2}
    assert str(file.values["a"]) == "1.50"
    assert file.line(("a",)) == 1
    assert file.line(("b", "no such key")) == 2
    assert file.line(("no such key",)) == 1


def test_no_file(folder):
    for name, message in {
        "node.toml": "node.toml: there is no such file. Check the name and the folder.",
        "a/node.toml": "a/node.toml: there is no such file. Check the name and the folder.",
        str(folder): f"{folder}: this is a folder. Name the file in it.",
    }.items():
        with pytest.raises(UserFileError) as caught:
            read(Path(name))
        assert str(caught.value) == message


def test_a_name_the_system_refuses(folder):
    for name in ("n" * 5000, "a\0b"):
        with pytest.raises(UserFileError, match=r"the file cannot be read: .*\. Name another\."):
            read(Path(name))


def test_no_permission(folder):
    path = Path("node.toml")
    path.write_text("a = 1")
    path.chmod(0)
    user = os.geteuid()
    if user == 0:  # root may read everything; another user may not
        folder.chmod(0o755)
        os.seteuid(65534)
    try:
        with pytest.raises(UserFileError) as caught:
            read(path)
    finally:
        os.seteuid(user)
    assert str(caught.value) == "node.toml: you may not read this file. Change its permissions or owner."
