"""The kinds of values in a node file: each a function from what TOML gives to what the node needs.

They raise ValueError for "expected …, found …", and `wrong(…)` where more can be said.
"""

import ipaddress
import re
import string
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from urllib.parse import urlsplit

from host_tools.crc8 import crc8
from host_tools.settings.units import OTHER_SPELLINGS, UNITS
from host_tools.userfile import describe, did_you_mean, wrong

MAX_NAME = 32
MAX_PREFIX_BYTES = 64
SCALED_LIMIT = 2**30
"""Scaled values stay below this, so that the node's small integers (31 bits on an ESP32) hold them."""

_MS = {"ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(?P<number>\d{1,12}(?:\.\d{1,12})?) ?(?P<unit>\S*)", re.ASCII)
# RFC 8428 section 4.5.1, less the '/' that stands between sensor and channel.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._-]*")
# RFC 1123 section 2.1
_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
_ROM = re.compile(r"[0-9A-Fa-f]{16}")
_DS18B20_FAMILIES = (0x28, 0x22)  # DS18B20, and DS1822 with the same registers
_PASSPHRASE_CHARACTERS = frozenset(map(chr, range(32, 127)))
_LARGEST_EXPONENT = 30


def number(value: object) -> Fraction:
    """A finite number, exactly as written."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError
    if isinstance(value, Decimal):
        # Nothing that is measured needs more; a fraction of 10^-999999999 would fill the memory.
        if not value.is_finite() or abs(value.adjusted()) > _LARGEST_EXPONENT:
            if value:
                raise ValueError
            return Fraction(0)
        if int(value.as_tuple().exponent) < -_LARGEST_EXPONENT:
            raise ValueError
    return Fraction(value)


def scaled(value: Fraction, decimals: int) -> int | None:
    """The value in units of 10^-decimals, or None when it has more decimals than that."""
    shifted = value * 10**decimals
    return shifted.numerator if shifted.denominator == 1 else None


def duration(low_ms: int, high_ms: int, step_ms: int = 1) -> Callable[[object], int]:
    """A validator for "500ms", "1s", "5min" or a number of seconds; it gives milliseconds."""

    def milliseconds(value: object) -> int:
        result = _seconds_or_text(value)
        if result.denominator != 1 or not low_ms <= result <= high_ms or result % step_ms:
            raise ValueError
        return result.numerator

    return milliseconds


def _seconds_or_text(value: object) -> Fraction:
    if not isinstance(value, str):
        return number(value) * _MS["s"]
    match = _DURATION.fullmatch(value.strip())
    if not match:
        raise ValueError
    unit = match["unit"]
    if unit not in _MS:
        remedy = f'Write ms, s, min, h or d after the number, for instance "{match["number"]}s".'
        raise wrong(f"{describe(value)} has {'an unknown' if unit else 'no'} unit of time. {remedy}")
    return Fraction(match["number"]) * _MS[unit]


def name(value: object) -> str:
    """A part of a channel's name: SenML's characters (RFC 8428 section 4.5.1) but '/', at most 32 of them."""
    if not isinstance(value, str):
        raise ValueError
    if len(value) > MAX_NAME:
        raise wrong(f"this name has {len(value)} characters, and at most {MAX_NAME} are allowed. Shorten it.")
    if not _NAME.fullmatch(value):
        raise wrong(
            f"{describe(value)} is not a valid name. Use letters, digits and any of '-', ':', '.', '_', "
            "and begin with a letter or digit."
        )
    return value


def unit(value: object) -> str:
    """A unit name from SenML's registry (RFC 8428 section 12.1, RFC 8798)."""
    if not isinstance(value, str):
        raise ValueError
    if value not in UNITS:
        meant = OTHER_SPELLINGS.get(value)
        remedy = f"Did you mean '{meant}'?" if meant else did_you_mean(value, sorted(UNITS))
        raise wrong(f"{describe(value)} is not a SenML unit. {remedy}")
    return value


def prefix(value: object) -> str:
    """What topics begin with: levels of an MQTT topic (MQTT 3.1.1 section 4.7) without wildcards."""
    if not isinstance(value, str) or not value:
        raise ValueError
    if "#" in value or "+" in value:
        raise wrong("'#' and '+' are wildcards of subscriptions. Leave them out.")
    if value.startswith("$"):
        raise wrong("topics that begin with '$' belong to the broker. Begin with another character.")
    if any(not character.isprintable() for character in value):
        raise wrong("the prefix has a character that cannot be printed. Leave it out.")
    if "" in value.split("/"):
        raise wrong("a '/' must stand between two names. Leave out those at the ends, and double ones.")
    if len(value.encode()) > MAX_PREFIX_BYTES:
        raise ValueError
    return value


def host(value: object) -> str:
    """A host's name (RFC 1123 section 2.1) or IPv4 address. It is never quoted: URLs may hold passwords."""
    if not isinstance(value, str):
        raise wrong("expected a host's name or IPv4 address in quotes, found something else.")
    if not value:
        raise wrong("the host is empty. Write its name or IPv4 address.")
    if "://" in value:
        found, number = _host_of_url(value)
        keys = f"host = {describe(found)}" + (f" and port = {number}" if number else "")
        raise wrong(f"expected a host, found a URL. Write {keys if found else 'the host alone'}.")
    if _is_ipv6(value):
        raise wrong("this is an IPv6 address, and the node speaks IPv4. Write a name or an IPv4 address.")
    if re.fullmatch(r"[^:@/]*:\d+", value):
        found, _, port = value.partition(":")
        raise wrong(f"the port has a key of its own. Write host = {describe(found)} and port = {port}.")
    labels = value.removesuffix(".").split(".")
    if len(value) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise wrong("this is neither a host's name nor an IPv4 address. Write one, such as 10.0.0.5.")
    if labels[-1].isdecimal() and not _is_ipv4(value):
        raise wrong("this looks like an IPv4 address, but is none. Write four numbers from 0 to 255.")
    return value


def server(value: object) -> tuple[str, int]:
    """A time server, `host` or `host:port`; the port is NTP's 123 unless given."""
    if not isinstance(value, str) or not value:
        raise ValueError
    if "://" in value:
        found, _ = _host_of_url(value)
        raise wrong(f"expected a host, found a URL. Write {describe(found) if found else 'the host alone'}.")
    found, colon, port = value.partition(":")
    if not colon or _is_ipv6(value):
        return host(value), 123
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise wrong("the port after ':' must be a number from 1 to 65535. Correct it, or leave it out.")
    return host(found), int(port)


def rom(value: object) -> str:
    """A DS18B20's ROM code: 16 hex digits as the bus sends them, family code first, CRC last (Maxim AN27)."""
    if not isinstance(value, str) or not _ROM.fullmatch(value):
        raise ValueError
    code = bytes.fromhex(value)
    if crc8(code):
        raise wrong(f"the check digits of {describe(value)} are wrong. Copy the probe's ROM code again.")
    if code[0] not in _DS18B20_FAMILIES:
        raise wrong(f"this is a chip of family {code[0]:02x}, and a DS18B20 has 28. Name another probe.")
    return value.lower()


def ssid(value: object) -> str:
    """A network's name: 1 to 32 bytes of UTF-8 (IEEE 802.11 section 9.4.2.2)."""
    if not isinstance(value, str):
        raise ValueError
    length = len(value.encode())
    if not 1 <= length <= 32:
        raise wrong(f"a network's name has 1 to 32 bytes, and this one has {length}. Correct it.")
    return value


def password(value: object) -> str:
    """A WPA2 passphrase, 8 to 63 printable ASCII characters, or its key as 64 hex digits (802.11 annex J)."""
    if not isinstance(value, str):
        raise ValueError
    if not value:
        raise wrong("the password is empty. Leave the key out for an open network.")
    is_key = len(value) == 64 and set(value) <= set(string.hexdigits)
    if not is_key and not 8 <= len(value) <= 63:
        raise wrong(
            "a password has 8 to 63 characters, or is a key of 64 hex digits, "
            f"and this one has {len(value)} characters. Correct it."
        )
    if not set(value) <= _PASSPHRASE_CHARACTERS:
        raise wrong("a password has printable ASCII characters only, and this one has others. Correct it.")
    return value


def _host_of_url(url: str) -> tuple[str, int | None]:
    """The host of a URL, empty when it has none that is understood, and its port."""
    try:
        parts = urlsplit(url)
        return parts.hostname or "", parts.port
    except ValueError:
        return "", None


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text.strip("[]"))
    except ValueError:
        return False
    return True
