"""The ledger's lines: each hashes the one before and is sealed with the issuing key. Nothing here does I/O.

A line is one JSON object with `n` (1 for the first), `time` (UTC), `event`, what belongs to the event, `prev`
(the SHA-256 of the line before, as it stands in the file, without its line break) and, last, `seal`: an ECDSA
signature with SHA-256 over all of the line that stands before it. The head says how many lines there are and
what the last one hashes to, and is sealed likewise: so a ledger that lost its end shows.
"""

import base64
import datetime
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

NOTHING = "0" * 64
"""`prev` of the first line."""

TIME = "%Y-%m-%dT%H:%M:%SZ"
"""How times are written: UTC."""

_ALGORITHM = ec.ECDSA(hashes.SHA256())
_SEAL = ', "seal": "'
_END = '"}'
# What is signed begins with this: a seal is never taken for the signature of a certificate, or of the other.
_LINE, _HEAD = b"limpet ledger line\n", b"limpet ledger head\n"
_OWN = ("n", "time", "event", "prev", "seal")


class BrokenLineError(Exception):
    """Why a line is none of the ledger's, in a few words."""


@dataclass(frozen=True)
class Line:
    """One line of the ledger."""

    n: int
    time: datetime.datetime
    event: str
    facts: Mapping[str, Any]
    prev: str
    text: str
    """As it stands in the file, without its line break."""

    @property
    def hash(self) -> str:
        """What the next line has as `prev`."""
        return digest(self.text)


@dataclass(frozen=True)
class Head:
    """How many lines there are, and the hash of the last one."""

    n: int
    hash: str
    text: str


def digest(text: str) -> str:
    """The SHA-256 of a line, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def compose(
    key: ec.EllipticCurvePrivateKey,
    n: int,
    time: datetime.datetime,
    event: str,
    facts: Mapping[str, Any],
    prev: str,
) -> Line:
    """The line number `n`, sealed with `key`; `facts` must be JSON.

    Raises ValueError if a fact has a name that the line uses itself.
    """
    if clash := facts.keys() & set(_OWN):
        raise ValueError(f"the ledger has its own {sorted(clash)}")
    stamp = time.astimezone(datetime.UTC).strftime(TIME)
    body = json.dumps({"n": n, "time": stamp, "event": event, **facts, "prev": prev}, ensure_ascii=True)
    return parse(_sealed(key, _LINE, body))


def parse(text: str) -> Line:
    """The line that `text` is; its seal is not looked at, see `is_sealed`.

    Raises BrokenLineError if it is none.
    """
    value = _object(text)
    if not isinstance(value.get("seal"), str) or _SEAL not in text:
        raise BrokenLineError("it has no seal")
    n, stamp, event, prev = (value.get(name) for name in ("n", "time", "event", "prev"))
    if type(n) is not int or not isinstance(event, str) or not isinstance(prev, str):
        raise BrokenLineError("it lacks its number, its event or its hash")
    try:
        time = datetime.datetime.strptime(str(stamp), TIME).replace(tzinfo=datetime.UTC)
    except ValueError:
        raise BrokenLineError("it has no time") from None
    facts = {name: fact for name, fact in value.items() if name not in _OWN}
    return Line(n, time, event, facts, prev, text)


def compose_head(key: ec.EllipticCurvePrivateKey, line: Line) -> Head:
    """The head of a ledger that ends with `line`."""
    body = json.dumps({"n": line.n, "hash": line.hash})
    return Head(line.n, line.hash, _sealed(key, _HEAD, body))


def parse_head(text: str) -> Head:
    """The head that `text` is; its seal is not looked at.

    Raises BrokenLineError if it is none.
    """
    value = _object(text)
    n, last = value.get("n"), value.get("hash")
    if type(n) is not int or not isinstance(last, str):
        raise BrokenLineError("it lacks its number or its hash")
    return Head(n, last, text)


def is_sealed(it: Line | Head, public: ec.EllipticCurvePublicKey) -> bool:
    """Whether the private half of `public` has sealed it."""
    body, found, seal = it.text.rpartition(_SEAL)
    if not found or not seal.endswith(_END):
        return False
    purpose = _LINE if isinstance(it, Line) else _HEAD
    try:
        signature = base64.b64decode(seal.removesuffix(_END), validate=True)
        public.verify(signature, purpose + body.encode(), _ALGORITHM)
    except (ValueError, InvalidSignature):
        return False
    return True


def _sealed(key: ec.EllipticCurvePrivateKey, purpose: bytes, body: str) -> str:
    open_body = body.removesuffix("}")
    signature = key.sign(purpose + open_body.encode(), _ALGORITHM)
    return f"{open_body}{_SEAL}{base64.b64encode(signature).decode()}{_END}"


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise BrokenLineError("it is no JSON") from None
    if not isinstance(value, dict):
        raise BrokenLineError("it is no JSON object")
    return value
