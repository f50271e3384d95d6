"""Secrets out of what a rig said: those that are known, however they were written, and what looks like one.

Bytes of a key are found in hex, in base64 (also inside of a longer text of it), in the escapes of Python and
C, and in lists of numbers; six in a row are enough.
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Sequence

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

MARK = "[secret]"
"""What stands where a secret stood."""

_WINDOW = 6
"""Bytes in a row that give a secret away: another text has them by chance once in 2^48."""
_VARIED = 4
"""Different bytes that a window has at least: six times 0xFF or 0 are nobody's secret."""
_SHORTEST = 4
"""Bytes of a shorter secret that are looked for in encoded text; one below it is found as plain text only."""

_PEM = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----"
    r"(?:(?:(?!-----BEGIN)[\s\S]){0,20000}?-----END [A-Z0-9 ]*PRIVATE KEY-----"
    r"|(?:(?:[\r\n]|\\+[rn])*[A-Za-z0-9+/=]+)*)"  # a log that breaks off before the end of the key
)
_PASSWORD = re.compile(
    r"""((?P<quote>\\{0,8}["']?)\b(?:password|passphrase|psk)(?P=quote)\s*[:=]\s*(?P<open>\\{0,8}["']))"""
    r"""(?:(?!(?<!\\)(?P=open))[^\n]){1,400}""",
    re.IGNORECASE,
)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{8,}")
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2}[ :\n-]?){5,}[0-9A-Fa-f]{2,3}")
_NUMBER = r"(?:0[xX][0-9A-Fa-f]{1,2}|\d{1,3})"
_NUMBERS = re.compile(rf"{_NUMBER}(?:(?:,\s*|\s+){_NUMBER}){{5,}}")
_ESCAPE = re.compile(r"""\\+(?:x(?P<hex>[0-9A-Fa-f]{2})|(?P<letter>[\\'"abfnrtv0]))|[\s\S]""")
_LETTERS = dict(zip("\\'\"abfnrtv0", b"\\'\"\a\b\f\n\r\t\v\0", strict=True))


class Scrubber:
    """Knows the secrets of a run. Whatever goes to a file or to a screen goes through it first."""

    def __init__(self, secrets: Iterable[str | bytes] = ()) -> None:
        self._texts: list[str] = []
        self._raw: set[bytes] = set()
        """Pieces that are looked for among the bytes of a text,"""
        self._encoded: set[bytes] = set()
        """and those that are looked for in what it may be decoded to,"""
        self._short: set[bytes] = set()
        """and whole secrets that have no such pieces."""
        for each in secrets:
            self.add(each)

    def __repr__(self) -> str:
        return "<Scrubber>"

    def add(self, secret: str | bytes) -> None:
        """Take this out of all texts from now on. Of a private key (DER or PEM) it is the private number."""
        data = secret.encode() if isinstance(secret, str) else secret
        number = _private_number(data)
        if number is not None:
            data = number
        elif text := _printable(data):
            forms = {
                text,
                json.dumps(text)[1:-1],
                json.dumps(text, ensure_ascii=False)[1:-1],
                repr(text)[1:-1],
            }
            self._texts = sorted({*self._texts, *forms}, key=len, reverse=True)
            data = text.encode()
            if _SHORTEST <= len(data) < _WINDOW:
                self._short.add(data)
            self._encoded |= set(_windows(data))
            return
        self._raw |= set(_windows(data))
        self._encoded |= self._raw

    def text(self, text: str) -> str:
        """The same text without secrets; it has as many lines as before."""
        for secret in self._texts:
            text = text.replace(secret, MARK)
        text = _PEM.sub(lambda found: _mark(found[0]), text)
        text = _PASSWORD.sub(lambda found: found[1] + MARK, text)
        if self._encoded or self._short:
            text = _BASE64.sub(lambda found: self._judged(found[0], _from_base64(found[0])), text)
            text = _HEX.sub(lambda found: self._judged(found[0], _from_hex(found[0])), text)
            text = _NUMBERS.sub(lambda found: self._judged(found[0], _from_numbers(found[0])), text)
        return self._without_raw(text) if self._raw else text

    def texts(self, texts: Sequence[str]) -> list[str]:
        """Texts that were one, such as the lines of a log: a key may go over several of them."""
        scrubbed = self.text("\n".join(texts)).split("\n")
        counts = [text.count("\n") + 1 for text in texts]
        parts = iter(scrubbed)
        return ["\n".join(next(parts) for _ in range(count)) for count in counts]

    def _judged(self, text: str, decoded: Iterable[bytes]) -> str:
        secret = any(self._has_secret(data) for data in decoded)
        return _mark(text) if secret else text

    def _has_secret(self, data: bytes) -> bool:
        return any(secret in data for secret in self._short) or not self._encoded.isdisjoint(_all_in(data))

    def _without_raw(self, text: str) -> str:
        """Bytes as characters, or as escapes such as `\x1b`."""
        found = list(_ESCAPE.finditer(text)) if "\\" in text else []
        data = bytes(map(_byte, found)) or text.encode("latin-1", "replace")
        if self._raw.isdisjoint(_all_in(data)):
            return text
        secret = {
            place
            for at, window in enumerate(_all_in(data))
            if window in self._raw
            for place in range(at, at + _WINDOW)
        }
        out = []
        for at in range(len(data)):
            start, end = found[at].span() if found else (at, at + 1)
            if at not in secret:
                out.append(text[start:end])
            elif text[start:end] == "\n" or at - 1 not in secret:
                out.append(f"{MARK}\n" if text[start:end] == "\n" else MARK)
        return "".join(out)


def _mark(text: str) -> str:
    """The mark in place of a text, with its line breaks."""
    return "\n".join([MARK] * (text.count("\n") + 1))


def _private_number(data: bytes) -> bytes | None:
    """The private number of an EC key; None if these bytes are none."""
    load = load_pem_private_key if data.lstrip().startswith(b"-----BEGIN") else load_der_private_key
    try:
        key = load(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return None
    return key.private_numbers().private_value.to_bytes((key.key_size + 7) // 8, "big")


def _printable(data: bytes) -> str | None:
    """Bytes that somebody typed, such as the content of a password file."""
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None


def _windows(data: bytes) -> Iterator[bytes]:
    """Those of a secret that give it away."""
    return (each for each in _all_in(data) if len(set(each)) >= _VARIED)


def _all_in(data: bytes) -> Iterator[bytes]:
    return (data[at : at + _WINDOW] for at in range(len(data) - _WINDOW + 1))


def _from_base64(text: str) -> Iterator[bytes]:
    """What it may be: it may begin in the middle of four characters."""
    text = text.replace("-", "+").replace("_", "/")
    for skip in range(4):
        whole = text[skip:]
        yield base64.b64decode(whole + "A" * (-len(whole) % 4))


def _from_hex(text: str) -> Iterator[bytes]:
    """What it may be: it may begin with the second half of a byte."""
    digits = re.sub(r"[ :\n-]", "", text)
    for skip in range(2):
        yield bytes.fromhex(digits[skip : len(digits) - (len(digits) - skip) % 2])


def _from_numbers(text: str) -> Iterator[bytes]:
    values = [int(number, 0 if "x" in number.lower() else 10) for number in re.split(r"[,\s]+", text)]
    yield bytes(value & 0xFF for value in values)


def _byte(found: re.Match[str]) -> int:
    if found["hex"]:
        return int(found["hex"], 16)
    if found["letter"]:
        return _LETTERS[found["letter"]]
    code = ord(found[0])
    return code if code < 0x100 else ord("?")
