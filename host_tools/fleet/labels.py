"""Labels for nodes: QR codes one by one, a sheet to print, or CSV for a label printer. No secrets.

The code is a URI such as `limpet:n01?mac=240ac4000001&cert=0123456789abcdef`: node id, base MAC address, and
the first 16 hex digits of the certificate's SHA-256. A rotation changes the certificate, not the label.
"""

import csv
import io
from collections.abc import Sequence
from html import escape

import segno

from host_tools.fleet.record import Node

DIGITS = 16
"""Of the fingerprint: enough that nobody makes another certificate with the same ones by chance."""

_PIXELS = 8  # of a PNG, for each module
_WIDTH, _HEIGHT, _MARGIN = 60, 24, 2  # of a label, in mm

_CSS = (
    "@page { margin: 10mm } body { margin: 0; font-family: sans-serif } "
    "main { display: flex; flex-wrap: wrap } "
    "svg { margin: 1mm; outline: 0.1mm solid #bbb; break-inside: avoid }"
)


def uri(node: Node) -> str:
    """What the code says."""
    mac = node.mac.replace(":", "")
    return f"limpet:{node.node_id}?mac={mac}&cert={node.fingerprint[:DIGITS]}"


def png(node: Node) -> bytes:
    """The code alone, as PNG."""
    out = io.BytesIO()
    _code(node).save(out, kind="png", scale=_PIXELS)
    return out.getvalue()


def svg(node: Node) -> str:
    """A label of 60 × 24 mm as SVG: the code, and what it says for people."""
    code = _code(node)
    size = _HEIGHT - 2 * _MARGIN
    modules = code.symbol_size(border=0)[0]
    path = code.svg_inline(border=0, svgclass=None, lineclass=None, omitsize=True)
    drawing = path[path.index("<path") : path.index("</svg>")]
    left, fingerprint = _HEIGHT + _MARGIN, node.fingerprint[:DIGITS]
    digits = " ".join(fingerprint[at : at + 4] for at in range(0, DIGITS, 4))
    texts = ((9, 4.6, "bold", node.node_id), (14.5, 3, "normal", node.mac), (19.5, 3, "normal", digits))
    words = "".join(
        f'<text x="{left}" y="{y}" font-family="sans-serif" font-size="{size_of(text, height)}" '
        f'font-weight="{weight}">{escape(text)}</text>'
        for y, height, weight, text in texts
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}mm" height="{_HEIGHT}mm" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}">'
        f'<g transform="translate({_MARGIN} {_MARGIN}) scale({size / modules:.5f})">{drawing}</g>'
        f"{words}</svg>"
    )


def size_of(text: str, height: float) -> float:
    """The font size in mm at which a text fits beside the code: `height`, or less."""
    room = _WIDTH - _HEIGHT - 2 * _MARGIN
    return round(
        min(height, room / (0.62 * max(len(text), 1))), 2
    )  # a letter is about 0.62 of its height wide


def sheet(nodes: Sequence[Node]) -> str:
    """All labels on a page of HTML, for a printer."""
    drawn = "\n".join(svg(node) for node in nodes)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Labels</title>'
        f"<style>{_CSS}</style></head><body><main>\n{drawn}\n</main></body></html>\n"
    )


def as_csv(nodes: Sequence[Node]) -> str:
    """A line a label: node id, MAC address, digits of the certificate, and what the code says."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("node_id", "mac", "certificate", "code"))
    writer.writerows((node.node_id, node.mac, node.fingerprint[:DIGITS], uri(node)) for node in nodes)
    return text.getvalue()


def _code(node: Node) -> segno.QRCode:
    return segno.make_qr(uri(node), error="m")
