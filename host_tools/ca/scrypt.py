"""From a passphrase to a key: scrypt (RFC 7914), slow on purpose.

The costs are one of the settings that OWASP's "Password Storage Cheat Sheet" calls equal: 16 MiB of memory,
five times over. More memory at a time is nothing that OpenSSL's own tools would read: they allow 32 MiB.
"""

import os

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

N, R, P = 2**14, 8, 5
SALT_SIZE = 16  # bytes
KEY_SIZE = 32  # bytes: AES-256


def salt() -> bytes:
    """A new salt."""
    return os.urandom(SALT_SIZE)


def derive(passphrase: bytes, salt: bytes) -> bytes:
    """The key for `passphrase` with `salt`: KEY_SIZE bytes, after a tenth of a second or more."""
    return Scrypt(salt=salt, length=KEY_SIZE, n=N, r=R, p=P).derive(passphrase)
