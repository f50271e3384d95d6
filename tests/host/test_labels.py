"""Labels of nodes: what is on them, and what is not."""

import csv
import re
import struct
import xml.etree.ElementTree as ET
import zlib
from pathlib import Path

import pytest
import segno

from host_tools.errors import LimpetError
from host_tools.fleet import Fleet, Node, labels
from host_tools.fleet.labelling import write
from tests.host import shell
from tests.host.in_process import limpet
from tests.host.test_fleet import RECORD

NODE = Node("line3-007", "24:0a:c4:12:34:56", "in service", "", fingerprint="0123456789abcdef" * 4)
CODE = "limpet:line3-007?mac=240ac4123456&cert=0123456789abcdef"
SVG = "{http://www.w3.org/2000/svg}"


def modules() -> list[list[bool]]:
    """The code as it must be, dark modules true, with its quiet zone."""
    return [[bool(each) for each in row] for row in segno.make_qr(CODE, error="m").matrix_iter(border=4)]


def pixels(png: bytes) -> list[list[bool]]:
    """A PNG of one bit a pixel, grey: true is dark."""
    width, height, depth, colour = struct.unpack(">IIBB", png[16:26])
    assert (png[:8], depth, colour) == (b"\x89PNG\r\n\x1a\n", 1, 0)
    size = png.index(b"IDAT")
    data = zlib.decompress(png[size + 4 : size + 4 + int.from_bytes(png[size - 4 : size], "big")])
    stride = 1 + (width + 7) // 8
    rows: list[bytes] = []
    for at in range(0, height * stride, stride):
        kind, row = data[at], data[at + 1 : at + stride]
        assert kind in (0, 2)  # as it is, or the difference from the row above (PNG, third edition, 9.2)
        above = rows[-1] if kind else bytes(stride)
        rows.append(bytes((each + up) % 256 for each, up in zip(row, above, strict=False)))
    return [[not row[x // 8] >> 7 - x % 8 & 1 for x in range(width)] for row in rows]


def test_the_code_says_who_it_is() -> None:
    assert labels.uri(NODE) == CODE
    big = [row[::8] for row in pixels(labels.png(NODE))[::8]]
    assert big == modules()


def test_a_label_as_svg() -> None:
    root = ET.fromstring(labels.svg(NODE))
    assert (root.get("width"), root.get("height")) == ("60mm", "24mm")
    assert [text.text for text in root.iter(f"{SVG}text")] == [NODE.node_id, NODE.mac, "0123 4567 89ab cdef"]
    [path] = root.iter(f"{SVG}path")
    dark = sum(map(int, re.findall(r"h(\d+)", path.get("d") or "")))
    assert dark == sum(map(sum, modules()))
    for node_id in ("n", "n" * 32):
        size = labels.size_of(node_id, 4.6)
        assert 0.62 * size * len(node_id) <= 60 - 24 - 4 + 0.2


def test_a_sheet_to_print() -> None:
    other = Node("x", "24:0a:c4:12:34:57", "in service", "", fingerprint="ff" * 32)
    text = labels.sheet([NODE, other])
    assert text.count("<svg") == text.count("</svg>") == 2
    assert ET.fromstring(text[text.index("<main>") : text.index("</body>")]).tag == "main"
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")  # it needs nothing from elsewhere


def test_from_the_shell(tmp_path: Path) -> None:
    with Fleet(tmp_path / "fleet.db") as fleet:
        fleet.claim(RECORD.mac, "n01")
        fleet.in_service(RECORD)
        fleet.claim("24:0a:c4:00:00:09", "n09")
        fleet.note(RECORD.mac, "n01", "key", born="node")
    for form, path in (("sheet", "labels.html"), ("svg", "labels/n01.svg")):
        done = limpet("fleet", "labels", "--as", form, cwd=tmp_path)
        assert (done.code, done.out) == (0, f"{path}\n"), done.err
        assert "n01" in (tmp_path / path).read_text()
    written = shell.limpet("fleet", "labels", "n01", "--as", "csv", "-o", "a/b.csv", cwd=tmp_path)
    assert written.out == "a/b.csv\n"
    rows = list(csv.reader((tmp_path / "a/b.csv").read_text().splitlines()))
    assert rows[1] == ["n01", RECORD.mac, "cd" * 8, f"limpet:n01?mac=240ac4000001&cert={'cd' * 8}"]
    done = limpet("fleet", "labels", "n09", cwd=tmp_path)
    assert (done.code, done.err) == (
        1,
        "limpet: The node 'n09' has no certificate yet: finish provisioning it first.\n",
    )


def test_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for form, output in (("svg", tmp_path / "file"), ("csv", tmp_path)):
        with pytest.raises(LimpetError, match="cannot be written"):
            write([NODE], form, output)
    with pytest.raises(LimpetError, match="There is no node to make a label for"):
        write([], "sheet", None)
    assert write([NODE], "png", tmp_path / "new" / "folder") == [
        tmp_path / "new" / "folder" / "line3-007.png"
    ]
