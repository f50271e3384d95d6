"""Where the passphrase of an authority's keys comes from: the terminal, a file descriptor, or the keyring.

Never a command line, and never the environment: every process of a user may read both.
"""

import os
import select
import shlex
import time
import unicodedata
import warnings
from collections.abc import Callable
from getpass import GetPassWarning, getpass
from typing import Protocol, TypeVar

from host_tools.ca.deadline import within
from host_tools.errors import LimpetError, RefusedError

KEYRING_SERVICE = "limpet"
"""The name of the service under which the keyring keeps our passphrases."""

_SHORTEST = 12  # characters of a new passphrase
_FEWEST = 5  # different ones
_LONGEST = 1024  # bytes
_DESCRIPTOR_DEADLINE = 30.0  # seconds for a whole line
_KEYRING_DEADLINE = 120.0  # seconds; a locked one asks its user first
_ELSEWHERE = "run it in one, or give --passphrase-fd or --passphrase-keyring"

_T = TypeVar("_T")


class _Source(Protocol):
    def __call__(self, prompt: str, *, pin_of: str | None = None, new: bool = False) -> str: ...


class Unlock:
    """Gives a passphrase: asks for it when it is first needed, keeps it until `forget`, and never shows it.

    Make one with `from_terminal`, `from_descriptor` or `from_keyring`. As a context manager it forgets at
    the end.
    """

    def __init__(self, source: _Source, subject: str) -> None:
        self._source = source
        self._subject = subject
        self._kept: dict[str | None, bytearray] = {}

    def __call__(self, prompt: str | None = None) -> bytes:
        """The passphrase, in UTF-8. `prompt` is what a terminal shows instead of the usual.

        Raises LimpetError when there is none to be had.
        """
        if None not in self._kept:
            self._keep(None, self._source(prompt or f"Passphrase of {self._subject}"))
        return bytes(self._kept[None])

    def new(self, prompt: str | None = None) -> bytes:
        """The passphrase for something new: a terminal asks twice, and one that is too weak is refused.

        Raises RefusedError for a weak one, LimpetError when there is none to be had.
        """
        if None not in self._kept:
            self._keep(None, self._source(prompt or f"New passphrase of {self._subject}", new=True))
        passphrase = bytes(self._kept[None])
        try:
            check_strength(passphrase)
        except RefusedError:
            self.forget()
            raise
        return passphrase

    def pin(self, token: str) -> bytes:
        """The PIN of `token`, such as "token plant 3". It comes from where the passphrase comes from.

        Raises LimpetError when there is none to be had.
        """
        if token not in self._kept:
            self._keep(token, self._source(f"PIN of the {token}", pin_of=token))
        return bytes(self._kept[token])

    def forget(self) -> None:
        """Drop what is kept. When it is needed again, it is asked for again."""
        for kept in self._kept.values():
            kept[:] = bytes(len(kept))
        self._kept.clear()

    def _keep(self, name: str | None, text: str) -> None:
        # One text, one sequence of bytes, on whatever system it was typed (RFC 8265, section 4.2.2).
        try:
            kept = bytearray(unicodedata.normalize("NFC", text).encode())
        except UnicodeEncodeError:
            raise LimpetError(f"What was given for {self._subject} is not UTF-8: type it anew.") from None
        if not kept:
            raise LimpetError(f"What was given for {self._subject} is empty: give its passphrase or PIN.")
        self._kept[name] = kept

    def __enter__(self) -> "Unlock":
        return self

    def __exit__(self, *_: object) -> None:
        self.forget()

    def __repr__(self) -> str:
        return "Unlock()"


def check_strength(passphrase: bytes) -> None:
    """Raise RefusedError if `passphrase` is too weak for a key that may be copied and attacked elsewhere."""
    text = passphrase.decode()
    if len(text) < _SHORTEST or len(set(text)) < _FEWEST:
        raise RefusedError(
            f"The new passphrase is too weak: take one of at least {_SHORTEST} characters, "
            f"{_FEWEST} of them different, such as four or five words."
        )


def from_terminal(subject: str) -> Unlock:
    """A passphrase that is typed at the terminal of this process, unseen. `subject` says what it opens."""

    def ask(prompt: str, *, pin_of: str | None = None, new: bool = False) -> str:
        text = _typed(f"{prompt}: ")
        if new:
            # A weak one is refused before it has to be typed again.
            check_strength(text.encode(errors="replace"))
            if _typed("The same once more: ") != text:
                raise LimpetError("The two passphrases differ: run the command again, and type it twice.")
        return text

    return Unlock(ask, subject)


def from_descriptor(number: int, subject: str, *, deadline: float = _DESCRIPTOR_DEADLINE) -> Unlock:
    """A passphrase that is the next line of the file descriptor `number`; what follows it stays there.

    The line has at most 1,024 bytes, and must be there within `deadline` seconds.
    """

    def read(prompt: str, *, pin_of: str | None = None, new: bool = False) -> str:
        return _line(number, deadline)

    return Unlock(read, subject)


def from_keyring(entry: str, subject: str) -> Unlock:
    """A passphrase that the keyring of this user's desktop keeps, for the service `limpet` and `entry`.

    A new one is taken from there too; where there is none, it is asked for at the terminal and put there.
    A PIN's entry is its token. Keyrings that keep it in plain text, or not at all, are refused.
    """

    def fetch(prompt: str, *, pin_of: str | None = None, new: bool = False) -> str:
        ring = _keyring()
        name = pin_of or entry
        found = _of_keyring(lambda: ring.get_password(KEYRING_SERVICE, name))
        if found is not None:
            return found
        if not new:
            raise LimpetError(
                f"The keyring has nothing for {subject}: "
                f"put it there with 'keyring set {KEYRING_SERVICE} {shlex.quote(name)}'."
            )
        typed = from_terminal(subject).new(prompt).decode()
        _of_keyring(lambda: ring.set_password(KEYRING_SERVICE, name, typed))
        return typed

    return Unlock(fetch, subject)


def _typed(prompt: str) -> str:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        raise LimpetError(f"There is no terminal to ask for the passphrase: {_ELSEWHERE}.") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", GetPassWarning)  # it would show what is typed
            return getpass(prompt)
    except (GetPassWarning, EOFError, OSError):
        raise LimpetError(f"The terminal gave no passphrase: {_ELSEWHERE}.") from None


def _line(number: int, deadline: float) -> str:
    what = f"--passphrase-fd {number}"
    end = time.monotonic() + deadline
    line = bytearray()
    try:
        if os.isatty(number):
            raise LimpetError(f"{what} is a terminal, which would show it: leave it out to be asked.")
        waiting = select.poll()
        waiting.register(number, select.POLLIN)
        while not line.endswith(b"\n"):
            if not waiting.poll(max(0.0, end - time.monotonic()) * 1000):
                raise LimpetError(
                    f"{what} gave no whole line within {deadline:g} s: write the passphrase to it."
                )
            # One byte at a time: the next line may be for somebody else.
            if not (byte := os.read(number, 1)):
                break
            line += byte
            if len(line) > _LONGEST:
                raise LimpetError(
                    f"{what} gave a line of more than {_LONGEST} bytes: give the passphrase alone."
                )
    except (OSError, ValueError, OverflowError) as error:
        why = (isinstance(error, OSError) and error.strerror) or "no such descriptor"
        raise LimpetError(
            f"{what} cannot be read ({why}): open it for the command, as with '3<file'."
        ) from None
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise LimpetError(f"{what} gave a line that is not UTF-8: give the passphrase alone.") from None
    if not (text := text.removesuffix("\n").removesuffix("\r")):
        raise LimpetError(f"{what} gave an empty line: write the passphrase to it.")
    return text


class _Keyring(Protocol):
    def get_password(self, service: str, username: str) -> str | None: ...
    def set_password(self, service: str, username: str, password: str) -> None: ...


def _keyring() -> _Keyring:
    import keyring

    ring = _of_keyring(keyring.get_keyring)
    for each in (ring, *getattr(ring, "backends", ())):
        kind = type(each)
        if kind.__module__ in ("keyring.backends.fail", "keyring.backends.null"):
            raise LimpetError(
                "There is no keyring on this machine that can be used: leave --passphrase-keyring out."
            )
        if kind.__module__.startswith("keyrings.alt") or "plain" in kind.__name__.lower():
            raise RefusedError(
                f"The keyring {kind.__name__} keeps passwords where others can read them: "
                "set up the one of your desktop, or leave --passphrase-keyring out."
            )
    return ring


def _of_keyring(call: Callable[[], _T]) -> _T:
    try:
        return within(_KEYRING_DEADLINE, "The keyring", call)
    except LimpetError:
        raise
    except Exception as error:  # each backend has errors of its own, and some show what they were given
        raise LimpetError(
            f"The keyring gave no answer ({type(error).__name__}): unlock it, "
            "or leave --passphrase-keyring out."
        ) from None
