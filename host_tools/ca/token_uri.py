"""Where a key in a PKCS#11 token is: the URI of RFC 7512, as far as we need it."""

import re
from dataclasses import dataclass, replace
from typing import NoReturn
from urllib.parse import quote, unquote_to_bytes

from host_tools.errors import UsageError

SCHEME = "pkcs11:"
_PATH = ("token", "serial", "manufacturer", "model", "object", "id", "type")
_QUERY = ("module-path",)
# What is left as it is in a path's value and in a query's (RFC 7512, section 2.3, pk11-res-avail and more).
_PATH_SAFE, _QUERY_SAFE = ":[]@!$'()*+,=&", ":[]@!$'()*+,=/?|"
_ATTRIBUTE = re.compile(r"([A-Za-z0-9_-]+)=((?:[^%\x00-\x20\x7f-\U0010ffff]|%[0-9A-Fa-f]{2})*)")


@dataclass(frozen=True)
class TokenUri:
    """Which module, which token, and which object in it; None is whatever there is."""

    module: str
    """The path of the shared library that talks to the token."""
    token: str | None
    serial: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    object: str | None = None
    id: bytes | None = None

    @property
    def name(self) -> str:
        """The token, in a sentence."""
        return f"token {self.token if self.token is not None else self.serial}"

    def naming(self, label: str, identifier: bytes) -> "TokenUri":
        """The same for exactly one object."""
        return replace(self, object=label, id=identifier)

    def __str__(self) -> str:
        values = {
            "token": self.token,
            "serial": self.serial,
            "manufacturer": self.manufacturer,
            "model": self.model,
            "object": self.object,
        }
        path = [
            f"{name}={quote(value, safe=_PATH_SAFE)}" for name, value in values.items() if value is not None
        ]
        if self.id is not None:
            path.append("id=" + "".join(f"%{byte:02x}" for byte in self.id))
        return f"{SCHEME}{';'.join(path)}?module-path={quote(self.module, safe=_QUERY_SAFE)}"


def parse(text: str) -> TokenUri:
    """Read `text`, such as `pkcs11:token=limpet?module-path=/usr/lib/softhsm/libsofthsm2.so`.

    Raises UsageError if it is no such URI, names no token or no module, or holds a PIN.
    """
    if not text.startswith(SCHEME):
        _refuse("it does not begin with 'pkcs11:'")
    path, _, query = text.removeprefix(SCHEME).partition("?")
    found = _attributes(path, ";", _PATH) | _attributes(query, "&", _QUERY)
    words = {name: _text(name, value) for name, value in found.items() if name != "id"}
    if words.get("type", "private") != "private":
        _refuse("its 'type' must be 'private'")
    if "token" not in words and "serial" not in words:
        _refuse("it names no token: add 'token=' with the token's label")
    if not words.get("module-path", "").startswith("/"):
        _refuse("it needs '?module-path=' with the whole path of the token's library")
    return TokenUri(
        module=words["module-path"],
        token=words.get("token"),
        serial=words.get("serial"),
        manufacturer=words.get("manufacturer"),
        model=words.get("model"),
        object=words.get("object"),
        id=found.get("id"),
    )


def _attributes(part: str, separator: str, known: tuple[str, ...]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for piece in part.split(separator) if part else []:
        name = piece.partition("=")[0]
        if name.startswith("pin-"):
            # The URI is an argument, and goes into a file. It is not shown again either.
            _refuse("a PIN does not belong in it, for it is asked for, or comes by --passphrase-fd")
        match = _ATTRIBUTE.fullmatch(piece)
        if not match:
            _refuse(f"its part {len(found) + 1} is not 'name=value' with other characters as %XX")
        if name not in known:
            _refuse(f"it has '{name}', where {', '.join(known)} can be")
        if name in found:
            _refuse(f"it has '{name}' twice")
        found[name] = unquote_to_bytes(match[2])
    return found


def _text(name: str, value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        _refuse(f"its '{name}' is not UTF-8")
    if "\0" in text:
        _refuse(f"its '{name}' has a zero byte")
    return text


def _refuse(why: str) -> NoReturn:
    raise UsageError(f"The PKCS#11 URI cannot be used: {why}.")
