"""An authority that is open: its keys, its ledger, and how an act of it is done.

An act is a line of the ledger, durable before anything follows from it; then the files that follow from the
line; then the ledger's head. The line of a certificate holds the certificate. So wherever a process is
killed, the ledger knows what was done, and the next one that opens the authority finishes it.
"""

import contextlib
import datetime
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric import ec

from host_tools.ca import keys, mirror
from host_tools.ca import state as kinds
from host_tools.ca.book import Book
from host_tools.ca.examine import Examined
from host_tools.ca.folder import Folder
from host_tools.ca.ledger import Line
from host_tools.ca.passphrase import Unlock
from host_tools.ca.state import State
from host_tools.errors import LimpetError
from host_tools.pki import crl, files
from host_tools.pki.profiles import Clock, Signer, utc_now


class Opened:
    """What all acts need. Several processes and threads may have an authority open: each act takes the
    folder's lock for itself.
    """

    def __init__(self, folder: Folder, book: Book, unlock: Unlock, now: Clock) -> None:
        self.folder = folder
        self.now = now
        self.unlock = unlock
        self.mended: tuple[str, ...] = ()
        """What a process that was killed had left undone and opening has finished, in clauses."""
        self._book = book
        self._threads = threading.Lock()
        self._signers: dict[str, Signer] = {}
        self._issuing = book.state.issuing

    @classmethod
    def open(cls, path: Path, unlock: Unlock, *, now: Clock = utc_now) -> Self:
        """Open the authority in the folder `path`; a context manager, which forgets the passphrase.

        What a killed process left undone is finished, see `mended`.
        Raises LimpetError if there is none, if it is damaged or another process keeps it busy; RefusedError
        for a wrong passphrase; UnverifiedError if its ledger was touched.
        """
        folder = Folder(path)
        folder.check()
        with folder.locked():
            book = Book(folder)
            found = book.read()
            _check_clock(folder, book.state, now())
            moved = _keys_moved(folder, book.state)
            self = cls(folder, book, unlock, now)
            self.signer(self._issuing)
            self._mend([*_unfinished(found), *moved])
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unlock.forget()

    @property
    def state(self) -> State:
        """What the ledger comes to."""
        return self._book.state

    @contextmanager
    def acting(self) -> Iterator[None]:
        """The block in which something is decided and written; nobody else writes meanwhile."""
        with self._threads, self.folder.locked():
            if not self._book.is_current():
                found = self._book.read()
                if self.state.issuing != self._issuing:
                    raise LimpetError(
                        f"The authority in {self.folder.path} was rotated meanwhile: start the command again."
                    )
                if found.torn or found.headless:
                    self._mend(_unfinished(found))
            yield

    def write(
        self,
        event: str,
        facts: Mapping[str, Any],
        new_keys: Mapping[str, ec.EllipticCurvePrivateKey] | None = None,
    ) -> Line:
        """Write a line and what follows from it. `new_keys` are those of the authorities that it tells of."""
        key = self._signers[self._issuing].key
        line = self._book.append(key, self.now(), event, facts)
        if new_keys:
            _keys_moved(self.folder, self.state)
            for serial, new in new_keys.items():
                self._know(serial, new)
            self._issuing = self.state.issuing
        for path, data in mirror.following(self.folder, self.state, line).items():
            mirror.put(path, data)
        if event in (kinds.REVOKE, kinds.ROTATE, kinds.RETIRE):
            self._write_lists()
        self._book.close(key)  # whoever has sealed the line
        return line

    def signer(self, serial: str) -> Signer:
        """The authority whose certificate has this serial. A former one's key is decrypted when it is needed.

        Raises LimpetError if its key is not there or another one.
        """
        if serial not in self._signers:
            path = self.folder.key_of(serial, self.state)
            if not files.exists(path):
                raise LimpetError(f"{path} is not there: put that key back for this, or restore a backup.")
            self._know(serial, keys.load(path, self.unlock))
        return self._signers[serial]

    def _know(self, serial: str, key: ec.EllipticCurvePrivateKey) -> None:
        """Take `key` for that of the authority whose certificate has this serial."""
        certificate = self.state.issued[serial].certificate
        if key.public_key() != certificate.public_key():
            raise LimpetError(
                f"In {self.folder.path}, {self.folder.key_of(serial, self.state).name} is not the key of "
                f"{self.state.issued[serial].name}: restore the authority from a backup."
            )
        self._signers[serial] = Signer(key, certificate)

    def _write_lists(self) -> None:
        """Sign those revocation lists that do not say what the ledger says, and write all of them."""
        now = self.now()
        good = mirror.good_lists(self.folder, self.state, now)
        before = mirror.signed_lists(self.folder, self.state)
        for serial, entries in mirror.listing(self.state, now).items():
            if serial not in good:
                good[serial] = crl.build(self.signer(serial), entries, self.state.n, now, before.get(serial))
        files.write_private(self.folder.crl, crl.to_pem(good.values()))

    def _mend(self, clauses: list[str]) -> None:
        """Do what follows from the ledger and is not there, and write a line about it."""
        for path, data in mirror.missing(self.folder, self.state).items():
            mirror.put(path, data)
            clauses.append(f"{path.relative_to(self.folder.path)} was made anew")
        now = self.now()
        wanted = mirror.listing(self.state, now)
        lists_are_good = mirror.good_lists(self.folder, self.state, now).keys() == wanted.keys()
        if not lists_are_good:
            clauses.append(f"{self.folder.crl.name} was made anew")
        if clauses:
            key = self._signers[self._issuing].key
            self._book.append(key, now, kinds.MENDED, {"what": clauses})
            if not lists_are_good:
                self._write_lists()
            self._book.close(key)
        self.mended = tuple(clauses)


def _unfinished(found: Examined) -> list[str]:
    clauses = []
    if found.torn:
        clauses.append(f"line {found.state.n + 1} was cut short, its {len(found.torn)} bytes were removed")
    if found.headless:
        clauses.append(f"line {found.state.n} had no head")
    return clauses


def _keys_moved(folder: Folder, state: State) -> list[str]:
    """Put the keys where they belong after the line of a rotation; says which were not there yet."""
    clauses = []
    for serial in (state.roots[-1], state.issuing):
        new = folder.next_key(serial)
        if not files.exists(new):
            continue
        path = folder.key_of(serial, state)
        before = state.predecessor(serial)
        try:
            if before and files.exists(path):
                folder.former.mkdir(mode=0o700, exist_ok=True)
                path.replace(folder.former_key(before))
                files.sync_folder(folder.former)
            new.replace(path)
            files.sync_folder(folder.path)
        except OSError as error:
            raise LimpetError(f"{path} cannot be written: {error.strerror}.") from None
        clauses.append(f"{path.name} was put in its place")
    if clauses:
        with contextlib.suppress(OSError):  # not empty: what is in it is no key of the ledger's
            folder.next.rmdir()
    return clauses


def _check_clock(folder: Folder, state: State, now: datetime.datetime) -> None:
    begin = state.issued[state.issuing].certificate.not_valid_before_utc
    if now < begin:
        raise LimpetError(
            f"The certificate authority in {folder.path} is not valid before {begin:%Y-%m-%d %H:%M} UTC: "
            "set this machine's clock."
        )
