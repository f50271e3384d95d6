"""Streams sealed under a passphrase: AES-256-GCM over pieces, of which none can be left out or moved.

A head, then pieces of 1 MiB, the last one shorter, each with its tag. The nonce of a piece is a random
prefix, its number, and whether it is the last (the STREAM construction of Hoang, Reyhanitabar, Rogaway and
Vizár, 2015), so a stream that is cut off, even between two pieces, is found out. Memory is that of a few
pieces.
"""

import hashlib
import hmac
import os
import struct
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from host_tools.ca import scrypt

PIECE = 1 << 20  # bytes
_TAG = 16
_PREFIX = 7  # with 4 bytes of number and 1 of end: the 12 of GCM
_CHECK = 16
_HEAD_SUM = 8


class DamagedError(Exception):
    """The stream is cut off, was changed, or is none of ours."""


class WrongPassphraseError(Exception):
    """The stream's head is whole, and the passphrase is another."""


class Seal:
    """The head of a stream, and the key that comes from it and the passphrase."""

    def __init__(self, magic: bytes, salt: bytes, prefix: bytes, passphrase: bytes) -> None:
        keys = HKDF(SHA256(), scrypt.KEY_SIZE + _CHECK, salt=None, info=magic).derive(
            scrypt.derive(passphrase, salt)
        )
        self._cipher = AESGCM(keys[: scrypt.KEY_SIZE])
        self._prefix = prefix
        # The check tells a wrong passphrase from damage. It costs an attacker as much as the first tag would.
        body = magic + salt + prefix + keys[scrypt.KEY_SIZE :]
        self.head = body + hashlib.sha256(body).digest()[:_HEAD_SUM]

    @classmethod
    def new(cls, magic: bytes, passphrase: bytes) -> "Seal":
        """For a stream to be written."""
        return cls(magic, scrypt.salt(), os.urandom(_PREFIX), passphrase)

    def write(self, number: int, data: bytes, *, last: bool) -> bytes:
        """The piece `number`, sealed."""
        return self._cipher.encrypt(self._nonce(number, last), data, self.head)

    def read(self, number: int, data: bytes, *, last: bool) -> bytes:
        """What is in the piece `number`. Raises DamagedError."""
        try:
            return self._cipher.decrypt(self._nonce(number, last), data, self.head)
        except InvalidTag:
            raise DamagedError from None

    def _nonce(self, number: int, last: bool) -> bytes:
        return self._prefix + struct.pack(">I?", number, last)


def read_head(file: BinaryIO, magic: bytes) -> bytes:
    """The head of the stream in `file`. Raises DamagedError if it is none, or not whole."""
    size = len(magic) + scrypt.SALT_SIZE + _PREFIX + _CHECK + _HEAD_SUM
    head = file.read(size)
    body = head[:-_HEAD_SUM]
    if (
        len(head) < size
        or not head.startswith(magic)
        or hashlib.sha256(body).digest()[:_HEAD_SUM] != head[len(body) :]
    ):
        raise DamagedError
    return head


def open_seal(head: bytes, magic: bytes, passphrase: bytes) -> Seal:
    """The seal of a stream that begins with `head`. Raises WrongPassphraseError."""
    rest = head[len(magic) :]
    salt, prefix = rest[: scrypt.SALT_SIZE], rest[scrypt.SALT_SIZE : scrypt.SALT_SIZE + _PREFIX]
    seal = Seal(magic, salt, prefix, passphrase)
    if not hmac.compare_digest(seal.head, head):
        raise WrongPassphraseError
    return seal


class SealedWriter:
    """A file to write to, which seals into `file`; `close` writes the last piece and leaves `file` open."""

    def __init__(self, file: BinaryIO, seal: Seal) -> None:
        self._file = file
        self._seal = seal
        self._waiting = bytearray()
        self._number = 0
        file.write(seal.head)

    def write(self, data: bytes) -> int:
        """Take `data`."""
        self._waiting += data
        while len(self._waiting) > PIECE:  # a full one may be the last
            self._out(bytes(self._waiting[:PIECE]), last=False)
            del self._waiting[:PIECE]
        return len(data)

    def close(self) -> None:
        """Write what is left, as the last piece."""
        self._out(bytes(self._waiting), last=True)

    def _out(self, data: bytes, *, last: bool) -> None:
        self._file.write(self._seal.write(self._number, data, last=last))
        self._number += 1


class SealedReader:
    """A file to read from, which opens the pieces of `file` one by one; `file` stands behind the head."""

    def __init__(self, file: BinaryIO, seal: Seal) -> None:
        self._file = file
        self._seal = seal
        self._ready = b""
        self._next = file.read(PIECE + _TAG)
        self._number = 0
        self._ended = False

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end. Raises DamagedError."""
        while len(self._ready) < size and not self._ended:
            self._ready += self._piece()
        data, self._ready = self._ready[:size], self._ready[size:]
        return data

    def finish(self) -> None:
        """Read to the end, so that all of it has been seen. Raises DamagedError."""
        while self.read(PIECE):
            pass

    def _piece(self) -> bytes:
        sealed, self._next = self._next, self._file.read(PIECE + _TAG)
        self._ended = not self._next
        data = self._seal.read(self._number, sealed, last=self._ended)
        self._number += 1
        return data
