"""Files that only their owner may read, written whole or not at all."""

import hashlib
import os
import tempfile
from pathlib import Path

from host_tools.errors import LimpetError

_LARGEST = 256 * 1024 * 1024


def make_private_folder(folder: Path) -> None:
    """Make `folder` with mode 0700, whatever the umask; an existing one is closed to others if it is empty.

    Raises LimpetError if that cannot be done.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
            folder.chmod(0o700)  # mkdir's own mode is subject to the umask, which may even shut us out
        except FileExistsError:
            if not any(folder.iterdir()):
                folder.chmod(folder.stat().st_mode & 0o700)
    except OSError as error:
        raise LimpetError(f"The folder {folder} cannot be made or read: {error.strerror}.") from error


def write_private(path: Path, data: bytes) -> None:
    """Write `data` to `path` with mode 0600, in one step: a reader sees the old file or the new one.

    Raises LimpetError if the folder or the disk does not allow it; nothing is left behind then.
    """
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, 0o600)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
            sync_folder(path.parent)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise LimpetError(f"{path} cannot be written: {error.strerror}.") from error


def sync_folder(folder: Path) -> None:
    """Have the names in `folder` on the disk: after a power cut a file that was renamed bears its new name.

    A folder that may be written and not be read is left to the system. Raises OSError.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex.

    Raises LimpetError if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise LimpetError(f"{path} cannot be read: {error.strerror}.") from error


def exists(path: Path) -> bool:
    """Whether there is something at `path`.

    Raises LimpetError if the folder does not let us look.
    """
    try:
        return path.exists()
    except OSError as error:
        raise LimpetError(f"{path} cannot be reached: {error.strerror}.") from error


def read(path: Path, what: str) -> bytes:
    """The bytes of `path`, at most 256 MiB: no file of ours comes near that.

    `what` names them in the LimpetError raised when they are more, or cannot be read.
    """
    try:
        # The size before the bytes: what is larger than the memory must not be asked for.
        if path.stat().st_size > _LARGEST:
            raise LimpetError(f"The {what} {path} has more than {_LARGEST >> 20} MiB: it is another file.")
        return path.read_bytes()
    except OSError as error:
        raise LimpetError(f"The {what} {path} cannot be read: {error.strerror}.") from error
