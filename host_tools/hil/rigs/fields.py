"""The kinds of values in a rig file: each a function from what TOML gives to what the drivers need.

They raise ValueError for "expected …, found …", and `wrong(…)` where more can be said.
"""

import re
from pathlib import Path
from urllib.parse import urlsplit

from host_tools.settings import fields as settings
from host_tools.userfile import describe, wrong

VALUE = "{value}"
"""Stands in code and commands for the number that is set."""

_MAC = re.compile(r"[0-9a-f]{2}(?:[:-]?[0-9a-f]{2}){5}", re.IGNORECASE)
# As pyserial tells it: bus, the ports of the hubs on the way, and the interface of a device that has several.
_USB = re.compile(r"\d{1,3}-\d{1,3}(?:\.\d{1,3})*(?::\d{1,3}\.\d{1,3})?", re.ASCII)
# As uhubctl takes it: a hub may be a root hub, which is a bus alone.
_HUB = re.compile(r"\d{1,3}(?:-\d{1,3}(?:\.\d{1,3})*)?", re.ASCII)
_SCHEMES = ("rfc2217", "socket")
# A name, or a name with one of its cases: `rf-chamber`, `gas:methane`.
_CAPABILITY = re.compile(r"[a-z][a-z0-9-]*(?::[a-z0-9][a-z0-9/._-]*)?")


def mac(value: object) -> str:
    """A MAC address, made lower-case with colons."""
    if not isinstance(value, str) or not _MAC.fullmatch(value):
        raise ValueError
    digits = re.sub("[:-]", "", value).lower()
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2))


def usb(value: object) -> str:
    """The way through the USB hubs to a socket, as `limpet devices` shows it: "1-2.3"."""
    if not isinstance(value, str) or not _USB.fullmatch(value):
        raise ValueError
    return value


def hub(value: object) -> str:
    """A USB hub as uhubctl names it: "1-1", or "2" for a root hub."""
    if not isinstance(value, str) or not _HUB.fullmatch(value):
        raise ValueError
    return value


def url(value: object) -> str:
    """A pyserial URL of a port on another machine."""
    if not isinstance(value, str):
        raise ValueError
    try:
        parts = urlsplit(value)
        complete = bool(parts.hostname and parts.port)
    except ValueError:
        raise wrong(
            "this URL's port is not a number up to 65535. Write one such as rfc2217://lab:4000."
        ) from None
    if parts.scheme not in _SCHEMES:
        raise wrong(
            f"a port's URL begins with {' or '.join(f'{each}://' for each in _SCHEMES)}, and this does not. "
            "Name a port of this machine by its mac or its usb socket."
        )
    if not complete:
        raise wrong("this URL lacks its host or its port. Write one such as rfc2217://lab:4000.")
    return value


def endpoint(value: object) -> str:
    """A host and its port in one text, "lab.example:20408"."""
    if not isinstance(value, str):
        raise ValueError
    found, colon, port = value.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal() and 1 <= int(port[:6]) <= 65535):
        raise ValueError
    settings.host(found)
    return value


def text(value: object) -> str:
    """A text that is not empty and can be printed."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError
    return value


def program(value: object) -> str:
    """A program's name or path; `~` is the user's home."""
    return str(_at_home(text(value)))


def file(value: object) -> Path:
    """A file's path; `~` is the user's home."""
    return _at_home(text(value))


def argv(value: object) -> tuple[str, ...]:
    """A program and its arguments, which no shell sees."""
    if isinstance(value, str):
        raise wrong(
            "a command is a list of its program and arguments, for no shell takes it apart. "
            'Write it as in ["relay", "on", "3"].'
        )
    if not isinstance(value, list) or not value:
        raise ValueError
    first, *others = value
    if not all(isinstance(each, str) and "\0" not in each for each in others):
        raise ValueError
    return (program(first), *others)


def argv_with_value(value: object) -> tuple[str, ...]:
    """A command of which one argument or more contains `{value}`."""
    command = argv(value)
    if not any(VALUE in each for each in command[1:]):
        raise wrong(f"no argument says where the number goes. Write {VALUE} in its place.")
    return command


def code_with_value(value: object) -> str:
    """Python code for a board that contains `{value}`."""
    if not isinstance(value, str):
        raise ValueError
    if VALUE not in value:
        raise wrong(f"the code does not say where the number goes. Write {VALUE} in its place.")
    return value


def tolerance(value: object) -> float:
    """A positive number."""
    number = settings.number(value)
    if number <= 0:
        raise ValueError
    return float(number)


def capability(value: object) -> str:
    """What a rig can besides what its tables say, in a word of the user's own."""
    if not isinstance(value, str):
        raise ValueError
    if not _CAPABILITY.fullmatch(value):
        raise wrong(
            f"{describe(value)} cannot be a capability. Write lower-case letters, digits and '-', "
            'such as "rf-chamber" or "gas:methane".'
        )
    return value


def _at_home(value: str) -> Path:
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise wrong("nobody knows that home folder. Write the whole path.") from None
