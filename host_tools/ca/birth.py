"""How an authority comes into being: whole and backed up, or not at all."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from host_tools.ca import keys, mirror
from host_tools.ca import state as kinds
from host_tools.ca.backup import Backup, write_backup
from host_tools.ca.book import Book
from host_tools.ca.folder import Folder
from host_tools.ca.passphrase import Unlock
from host_tools.errors import LimpetError, RefusedError
from host_tools.pki import crl, files, profiles
from host_tools.pki.profiles import Clock, Signer, utc_now


def create(
    path: Path,
    unlock: Unlock,
    backup: Path,
    *,
    organisation: str | None = None,
    root_uri: str | None = None,
    issuing_uri: str | None = None,
    now: Clock = utc_now,
) -> Backup:
    """Make a root and an issuing authority in the folder `path`, which must be empty or not there yet.

    Their keys are files, encrypted under the passphrase of `unlock`, or in a token where a `pkcs11:` URI says
    so. The backup is written first: an authority that is there has one.
    Raises RefusedError if something is in the way or the passphrase is weak, LimpetError if it cannot be
    done.
    """
    if organisation is not None:
        profiles.check_organisation(organisation)
    if files.exists(path) and not (path.is_dir() and not any(path.iterdir())):
        raise RefusedError(f"{path} is not empty: choose another folder for the new authority.")
    check_backup(path, backup)
    with _scratch(path) as made:
        folder = Folder(made)
        root_key = keys.create(folder.root_key, unlock, root_uri)
        issuing_key = keys.create(folder.issuing_key, unlock, issuing_uri)
        time = now()
        root = Signer(root_key, profiles.root(root_key, time, organisation=organisation))
        public = issuing_key.public_key()
        issuing = Signer(issuing_key, profiles.issuing(root, public, time, organisation=organisation))
        serial = f"{root.certificate.serial_number:x}"
        book = Book(folder)
        line = book.append(
            issuing_key,
            time,
            kinds.INIT,
            {
                kinds.ROOT: kinds.facts_of(kinds.ROOT, root.certificate),
                kinds.ISSUING: kinds.facts_of(kinds.ISSUING, issuing.certificate, serial),
            },
        )
        for file, data in mirror.following(folder, book.state, line).items():
            mirror.put(file, data)
        lists = [crl.build(signer, (), line.n, time) for signer in (root, issuing)]
        mirror.put(folder.crl, crl.to_pem(lists))
        book.close(issuing_key)
        written = write_backup(made, backup, unlock)
        book.append(issuing_key, now(), kinds.BACKUP, backup_facts(backup))
        book.close(issuing_key)
        made.replace(path)
        files.sync_folder(path.parent)
    return written


def check_backup(path: Path, backup: Path) -> None:
    """Raise RefusedError unless the authority in `path` may have a new backup in the file `backup`."""
    if backup.resolve().is_relative_to(path.resolve()):
        raise RefusedError(f"{backup} is inside {path}, and would be lost with it: choose another place.")
    if files.exists(backup):
        raise RefusedError(f"{backup} is there already: choose another name, and keep the old backup too.")


def backup_facts(file: Path) -> dict[str, str]:
    """What the ledger says of a backup: its file's name, and what it hashes to."""
    return {"file": file.name, "sha256": files.sha256(file)}


@contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))  # mode 0700
    except OSError as error:
        raise LimpetError(f"No folder can be made in {path.parent}: {error.strerror}.") from None
    try:
        yield made
    except OSError as error:
        raise LimpetError(f"The authority in {path} cannot be made: {error.strerror}.") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
