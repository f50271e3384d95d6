"""The private keys of an authority: a file has an encrypted key, or the URI of one in a token."""

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from host_tools.ca import pkcs8
from host_tools.ca.passphrase import Unlock
from host_tools.errors import LimpetError, RefusedError, UsageError
from host_tools.pki import files

_LARGEST = 8192  # bytes of a key's file
_URI = b"pkcs11:"
_PLAIN = (b"-----BEGIN PRIVATE KEY-----", b"-----BEGIN EC PRIVATE KEY-----")


def create(path: Path, unlock: Unlock, uri: str | None = None) -> ec.EllipticCurvePrivateKey:
    """Make a new P-256 key and the file `path` for it (mode 0600).

    Without `uri` the file is the key, as PKCS#8 encrypted under the passphrase of `unlock.new()`. With `uri`,
    a `pkcs11:` URI (RFC 7512), the key is in that token, the PIN is `unlock.pin()`, and the file is the URI
    of exactly this key. An object that `uri` names is used if the token has it; where it names none, a new
    key gets a name of its own. Raises RefusedError if `path` is there already or the passphrase is weak,
    LimpetError if it cannot be done.
    """
    if files.exists(path):
        raise RefusedError(f"{path} is there already: keep that key, or choose another folder.")
    if uri is not None:
        from host_tools.ca import token

        made, whole = token.create(uri, path.stem, unlock)
        files.write_private(path, f"{whole}\n".encode())
        return made
    passphrase = unlock.new()
    key = ec.generate_private_key(ec.SECP256R1())
    files.write_private(path, pkcs8.encrypt(key, passphrase))
    return key


def load(path: Path, unlock: Unlock) -> ec.EllipticCurvePrivateKey:
    """The key of the file `path`: one in memory, or one that asks its token to sign.

    Raises RefusedError for a wrong passphrase or PIN, LimpetError if the file is missing, damaged, or no
    P-256 key.
    """
    data = files.read(path, "key")
    if len(data) > _LARGEST:
        raise LimpetError(f"{path} is not a private key: restore it from a backup.")
    if data.startswith(_URI):
        from host_tools.ca import token

        try:
            return token.load(_text(data, path), unlock)
        except UsageError as error:
            raise LimpetError(f"In {path}: {error}") from None
    if data.lstrip().startswith(_PLAIN):
        # Somebody else's file. It would work, and its owner would believe it encrypted.
        raise RefusedError(
            f"{path} is a private key without encryption: "
            f"encrypt it with 'openssl pkcs8 -topk8 -scrypt -in {path} -out {path}.new'."
        )
    return _decrypted(path, data, unlock)


def in_token(path: Path) -> bool:
    """Whether the key of the file `path` is in a token. Raises LimpetError if the file cannot be read."""
    return files.read(path, "key").startswith(_URI)


def _decrypted(path: Path, data: bytes, unlock: Unlock) -> ec.EllipticCurvePrivateKey:
    if b"-----BEGIN ENCRYPTED PRIVATE KEY-----" not in data:
        raise LimpetError(f"{path} is not an encrypted private key in PEM: restore it from a backup.")
    if not pkcs8.is_whole(data):
        raise LimpetError(f"{path} is damaged: restore it from a backup.")
    passphrase = unlock()
    # The library's own texts are dropped: nothing of a key belongs in a message.
    try:
        key = load_pem_private_key(data, passphrase)
    except (TypeError, UnsupportedAlgorithm, MemoryError):
        raise LimpetError(f"{path} is no key that can be used here: restore it from a backup.") from None
    except ValueError:
        # One wrong passphrase in 256 leaves what looks like a key of another kind, and only then fails.
        unlock.forget()
        raise RefusedError(f"That is not the passphrase of {path}: try again.") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise LimpetError(f"{path} is not a key on the curve P-256: restore the right one from a backup.")
    return key


def _text(data: bytes, path: Path) -> str:
    try:
        return data.decode("ascii").strip()
    except UnicodeDecodeError:
        raise LimpetError(f"{path} is damaged: restore it from a backup.") from None
