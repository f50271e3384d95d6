"""A backup of an authority's folder: one file, sealed under a passphrase, and read back before it counts."""

import hashlib
import io
import os
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from host_tools.ca import keys
from host_tools.ca.passphrase import Unlock
from host_tools.ca.sealed import (
    DamagedError,
    Seal,
    SealedReader,
    SealedWriter,
    WrongPassphraseError,
    open_seal,
    read_head,
)
from host_tools.errors import LimpetError, RefusedError
from host_tools.pki import files

_MAGIC = b"limpet CA backup 1\n"
_BLOCK = 1 << 16  # bytes read at a time


@dataclass(frozen=True)
class Backup:
    """What a backup holds."""

    files: int
    size: int
    """Bytes of all those files."""
    in_token: tuple[str, ...]
    """Names of the key files that only say where the key is. The keys themselves are not in the backup."""


def write_backup(folder: Path, file: Path, unlock: Unlock) -> Backup:
    """Write all of the authority in `folder` to `file` (mode 0600), whole or not at all, and read it back.

    The passphrase is that of the keys, and must open them; the keys stay encrypted in the backup as well.
    Where all keys are in tokens it is `unlock.new()`, for a PIN is no passphrase. Hold the folder's lock.
    Raises RefusedError if `file` is there or inside `folder`, or for a wrong or weak passphrase, LimpetError
    if something cannot be read or written.
    """
    if file.resolve().is_relative_to(folder.resolve()):
        raise RefusedError(f"{file} is inside {folder}, and would be lost with it: choose another place.")
    if files.exists(file):
        raise RefusedError(f"{file} is there already: choose another name, and keep the old backup too.")
    names = _names(folder)
    key_files = [name for name in names if name.suffix == ".key"]
    if not key_files:
        raise LimpetError(f"There is no authority in {folder}: make one with 'limpet ca init'.")
    in_token = tuple(str(name) for name in key_files if keys.in_token(folder / name))
    encrypted = [name for name in key_files if str(name) not in in_token]
    passphrase = unlock() if encrypted else unlock.new(f"New passphrase of {file}")
    for name in encrypted:
        if name.parent == PurePosixPath("."):  # those below came before, and may have had another
            keys.load(folder / name, unlock)
    seal = Seal.new(_MAGIC, passphrase)
    try:
        descriptor, scratch = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # mode 0600
        try:
            with os.fdopen(descriptor, "w+b") as out:
                digests = _write(folder, names, out, seal)
                out.flush()
                os.fsync(descriptor)
                out.seek(len(seal.head))
                _compare(out, seal, digests, file)
            Path(scratch).replace(file)
        finally:
            Path(scratch).unlink(missing_ok=True)
    except OSError as error:
        raise LimpetError(f"{file} cannot be written: {error.strerror}.") from error
    return Backup(len(names), sum(size for size, _ in digests.values()), in_token)


def restore_backup(file: Path, folder: Path, unlock: Unlock) -> Backup:
    """Put the authority in the backup `file` into `folder`, which must be empty or not there yet.

    It is there whole or not at all. Raises RefusedError if `folder` is not empty or the passphrase is wrong,
    LimpetError if `file` is no backup, damaged or cut off, or `folder` cannot be written.
    """
    if files.exists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise RefusedError(f"{folder} is not empty: restore the backup into a new folder.")
    try:
        with file.open("rb") as source:
            head = _head(source, file)
            try:
                seal = open_seal(head, _MAGIC, unlock(f"Passphrase of {file}"))
            except WrongPassphraseError:
                unlock.forget()
                raise RefusedError(f"That is not the passphrase of {file}: try again.") from None
            return _unpack(source, seal, file, folder)
    except OSError as error:
        where = error.filename or file
        raise LimpetError(f"The backup cannot be restored, {where}: {error.strerror}.") from error


def _names(folder: Path) -> list[PurePosixPath]:
    """The files of the folder, relative to it. What begins with a dot is a lock, or half written."""
    names = []
    try:
        for path in sorted(folder.rglob("*")):
            name = PurePosixPath(path.relative_to(folder).as_posix())
            if any(part.startswith(".") for part in name.parts):
                continue
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                names.append(name)
            elif not stat.S_ISDIR(mode):
                raise LimpetError(
                    f"{path} is neither file nor folder: an authority has no such thing, remove it."
                )
    except OSError as error:
        raise LimpetError(f"{error.filename or folder} cannot be read: {error.strerror}.") from error
    return names


_Digests = dict[str, tuple[int, bytes]]
"""Size and SHA-256 of each file."""


def _write(folder: Path, names: list[PurePosixPath], out: BinaryIO, seal: Seal) -> _Digests:
    digests: _Digests = {}
    writer = SealedWriter(out, seal)
    with tarfile.open(fileobj=cast("BinaryIO", writer), mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for name in names:
            with (folder / name).open("rb") as source:
                entry = tarfile.TarInfo(str(name))
                status = os.fstat(source.fileno())
                entry.size, entry.mtime, entry.mode = status.st_size, int(status.st_mtime), 0o600
                watched = _Watched(source)
                archive.addfile(entry, cast("BinaryIO", watched))
                digests[str(name)] = (entry.size, watched.digest())
    writer.close()
    return digests


class _Watched(io.RawIOBase):
    """A file that is read through, and its digest."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sum = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._sum.update(data)
        return data

    def digest(self) -> bytes:
        return self._sum.digest()


def _compare(out: BinaryIO, seal: Seal, digests: _Digests, file: Path) -> None:
    """Read back what was written."""
    found: _Digests = {}
    try:
        for name, source in _entries(SealedReader(out, seal)):
            size, digest = 0, hashlib.sha256()
            while block := source.read(_BLOCK):
                size += len(block)
                digest.update(block)
            found[name] = (size, digest.digest())
    except DamagedError:
        found.clear()
    if found != digests:
        raise LimpetError(f"{file} did not read back as it was written: see to that disk.")


def _entries(reader: SealedReader) -> Iterator[tuple[str, BinaryIO]]:
    """Names and contents, one after the other. Raises DamagedError, at the latest after the last one."""
    try:
        with tarfile.open(fileobj=cast("BinaryIO", reader), mode="r|") as archive:
            for entry in archive:
                name = PurePosixPath(entry.name)
                source = archive.extractfile(entry) if entry.isreg() else None
                if source is None or name.is_absolute() or ".." in name.parts:
                    raise DamagedError
                yield entry.name, cast("BinaryIO", source)
    except tarfile.TarError:
        raise DamagedError from None
    reader.finish()


def _head(source: BinaryIO, file: Path) -> bytes:
    try:
        return read_head(source, _MAGIC)
    except DamagedError:
        raise LimpetError(
            f"{file} is not a backup of an authority, or its beginning is damaged: take another one."
        ) from None


def _unpack(source: BinaryIO, seal: Seal, file: Path, folder: Path) -> Backup:
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))  # mode 0700
    count = size = 0
    in_token = []
    try:
        for name, content in _entries(SealedReader(source, seal)):
            target = scratch / name
            for missing in reversed([each for each in target.parents if not each.exists()]):
                missing.mkdir(mode=0o700)
            with target.open("xb") as out:
                os.fchmod(out.fileno(), 0o600)
                shutil.copyfileobj(content, out, _BLOCK)
                size += out.tell()
            count += 1
            if target.suffix == ".key" and keys.in_token(target):
                in_token.append(name)
        os.sync()  # at once for what may be thousands of files
        scratch.replace(folder)
    except DamagedError:
        raise LimpetError(f"{file} is damaged or cut off: take another backup.") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Backup(count, size, tuple(in_token))
