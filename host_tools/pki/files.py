"""Files that only their owner may read, written whole or not at all."""

import os
import tempfile
from pathlib import Path

from host_tools.errors import LimpetError


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
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise LimpetError(f"{path} cannot be written: {error.strerror}.") from error


def exists(path: Path) -> bool:
    """Whether there is something at `path`.

    Raises LimpetError if the folder does not let us look.
    """
    try:
        return path.exists()
    except OSError as error:
        raise LimpetError(f"{path} cannot be reached: {error.strerror}.") from error


def read(path: Path, what: str) -> bytes:
    """The bytes of `path`; `what` names them in the LimpetError raised when they cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise LimpetError(f"The {what} {path} cannot be read: {error.strerror}.") from error
