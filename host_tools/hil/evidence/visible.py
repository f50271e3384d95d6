"""Text from a board, as it can be shown: a serial log may hold anything at all.

Escaping is the business of the format that it goes into. This is about characters that XML forbids, that
hide, or that turn the line around (Unicode Technical Report 36).
"""

import re

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_PICTURES = 0x2400  # Unicode's Control Pictures, in the order of ASCII
_DELETE, _DELETE_PICTURE = 0x7F, "\u2421"
_UNSEEN = re.compile(
    "[\x80-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff]"
)


def visible(text: str) -> str:
    """The same text with every control and hidden character as something to see; colours of a terminal go."""
    text = _COLOURS.sub("", text).replace("\r\n", "\n")
    return _UNSEEN.sub(_code, _CONTROLS.sub(_picture, text))


def _picture(found: re.Match[str]) -> str:
    code = ord(found[0])
    return _DELETE_PICTURE if code == _DELETE else chr(_PICTURES + code)


def _code(found: re.Match[str]) -> str:
    return f"⟨U+{ord(found[0]):04X}⟩"
