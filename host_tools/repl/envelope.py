"""How code and data travel to a board and answers come back: small, and never taken for right when damaged.

There: raw deflate, in base64, with a CRC-32. Back: the repr of a value, with its CRC-32, on a line of its
own; whatever else the board prints is no part of the answer. Pure.
"""

import ast
import base64
import re
import zlib
from typing import Any

from host_tools.repl.errors import Damaged

_WINDOW_BITS = 12  # 4 KiB of the board's RAM while it unpacks

OPENING = f"""\
import binascii,deflate,gc,io,os,sys
def opened(c,s):
 s=binascii.a2b_base64(s)
 if binascii.crc32(s)!=c:raise ValueError("damaged")
 return deflate.DeflateIO(io.BytesIO(s),deflate.RAW,{_WINDOW_BITS})
"""
"""Sent plainly, before all else: what opens envelopes."""

SAY = """
def say(value):
    text = repr(value)
    print("\\n<%d %s>" % (binascii.crc32(text), text))
"""

_ANSWER = re.compile(r"^<(\d+) (.*)>$", re.MULTILINE)


def sealed(data: bytes) -> str:
    """An expression whose value, on the board, is a stream of these bytes."""
    packed = squeezed(data)
    return f"opened({zlib.crc32(packed)},{base64.b64encode(packed)!r})"


def squeezed(data: bytes) -> bytes:
    """The bytes as they are packed in an envelope."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -_WINDOW_BITS)
    return packer.compress(data) + packer.flush()


def code(source: str) -> str:
    """A statement that runs this source. The indentation is made as small as it can be."""
    small = re.sub("(?m)^ +", lambda spaces: " " * (len(spaces[0]) // 4), source)
    return f"exec({sealed(small.encode())}.read())"


def answer(printed: str) -> Any:
    """What the board has said. Raises Damaged."""
    for crc, text in _ANSWER.findall(printed.replace("\r", "")):
        if zlib.crc32(text.encode()) == int(crc):
            try:
                return ast.literal_eval(text)
            except (ValueError, SyntaxError):
                break
    raise Damaged("what the board says arrives damaged")
