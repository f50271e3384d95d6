"""The folder of an authority: which file is what, and the lock that keeps two commands apart."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from host_tools.ca.state import State
from host_tools.errors import LimpetError
from host_tools.pki import files

_PATIENCE_S = 30.0
_POLL_S = 0.02


class Folder:
    """The paths in an authority's folder. What is not a key can be made anew from the ledger."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ledger = path / "ledger.jsonl"
        self.head = path / "ledger.head"
        self.issued = path / "issued"
        self.former = path / "former"
        """Keys of the issuing authorities and roots that came before."""
        self.root_key, self.issuing_key = path / "root.key", path / "issuing.key"
        self.next = path / "next"
        """Keys of a rotation that is under way."""
        self.root, self.issuing = path / "root.crt", path / "issuing.crt"
        self.chain = path / "chain.crt"
        """What stands between a certificate issued now and its root."""
        self.trusted = path / "trusted.crt"
        """The roots that nodes and brokers trust."""
        self.crl = path / "crl.pem"
        """The revocation lists of all authorities under the trusted roots."""

    def certificate(self, serial: str) -> Path:
        """The file of a certificate that was issued."""
        return self.issued / f"{serial}.crt"

    def former_key(self, serial: str) -> Path:
        """The key of an authority that came before, by the serial of its certificate."""
        return self.former / f"{serial}.key"

    def next_key(self, serial: str) -> Path:
        """The key of an authority whose certificate is made, and stands in the ledger's next line."""
        return self.next / f"{serial}.key"

    def key_of(self, serial: str, state: State) -> Path:
        """The key of the authority whose certificate has this serial."""
        if serial == state.issuing:
            return self.issuing_key
        return self.root_key if serial == state.roots[-1] else self.former_key(serial)

    def check(self) -> None:
        """Raise LimpetError if there is no authority in the folder."""
        if not files.exists(self.ledger):
            raise LimpetError(
                f"There is no certificate authority in {self.path}: make one with 'limpet ca init', "
                "or name its folder with --ca."
            )

    @contextlib.contextmanager
    def locked(self, *, shared: bool = False) -> Iterator[None]:
        """Keep other processes from writing to the ledger; `shared`, as readers do among themselves.

        Raises LimpetError if another one keeps us waiting for half a minute, or the ledger cannot be opened.
        """
        taken = f"Another limpet has been writing in {self.path} for {_PATIENCE_S:.0f} s"
        with _locked(self.ledger, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, taken, _PATIENCE_S):
            yield

    @contextlib.contextmanager
    def one_operator(self) -> Iterator[None]:
        """Keep other processes from being the operator: a broker has one client of a name.

        Raises LimpetError if there is another one.
        """
        taken = "Another limpet is the operator at the moment (it provisions, rotates or asks the fleet)"
        with _locked(self.trusted, fcntl.LOCK_EX, taken, 0.0):
            yield


@contextlib.contextmanager
def _locked(file: Path, kind: int, taken: str, patience: float) -> Iterator[None]:
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except OSError as error:
        raise LimpetError(f"{file} cannot be opened: {error.strerror}.") from None
    end = time.monotonic() + patience
    try:
        while True:
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise LimpetError(f"{taken}: wait for its end, then try again.") from None
            except OSError as error:
                raise LimpetError(
                    f"The folder {file.parent} allows no locks ({error.strerror}): keep it on a local disk."
                ) from None
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)  # which unlocks
