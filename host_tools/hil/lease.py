"""One run at a time on a rig: leases among the runs and the users of one machine (docs/lab.md).

A lease is a kernel lock (flock) on a small file, so it ends with the process that holds it, however that
ends. In the file the holder says who it is, for those who wait. What it says there decides nothing: a lease
is free when the kernel gives the lock, and taken when it does not.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from host_tools.errors import LimpetError
from host_tools.hil.blocked import Blocked
from host_tools.hil.rigs import RigFile
from host_tools.hil.unshared import Unshared
from host_tools.hil.who import user

VARIABLE = "LIMPET_LEASES"
"""The folder of the lease files, where the machine's own will not do: containers that share a bench."""

_POLL_S = 0.1
_LONGEST = 200
"""Letters of a name."""
_MOST = 8192
"""Bytes of a lease file that are read."""


@dataclass(frozen=True)
class Claim:
    """What a run wants for itself."""

    key: str
    """Which board it is: the same in every rig file that has it."""
    name: str
    """The rig's."""


class Holder(BaseModel):
    """Who holds a lease; times in seconds since 1970, by this machine's clock."""

    model_config = ConfigDict(frozen=True, strict=True)

    name: str = Field(max_length=_LONGEST)
    user: str = Field(max_length=_LONGEST)
    host: str = Field(max_length=_LONGEST)
    pid: int = Field(gt=0)
    since: float = Field(ge=0, le=1e11)
    until: float = Field(ge=0, le=1e11)
    """It means to have come further by then: each `Lease.renew` puts it off."""


class Lease:
    """A rig that is ours until the end of `held` or `first_free`."""

    def __init__(
        self, claim: Claim, file: Unshared, holder: Holder, ttl_s: float, left_by: Holder | None
    ) -> None:
        self.claim = claim
        self.left_by = left_by
        """Whose process died with the lease; None when the last one gave it back."""
        self._file = file
        self._holder = holder
        self._ttl_s = ttl_s
        self.renew()

    def renew(self) -> None:
        """Say that this run comes further, so that nobody who waits thinks it stuck."""
        if not self._file.closed:
            ours = self._holder.model_copy(update={"until": time.time() + self._ttl_s})
            data = ours.model_dump_json().encode() + b"\n"
            os.pwrite(self._file.fileno(), data, 0)
            os.ftruncate(self._file.fileno(), len(data))

    def release(self) -> None:
        """Give it back. A child that was forked has nothing to give: the lease is its parent's."""
        if not self._file.closed:
            os.ftruncate(self._file.fileno(), 0)
        self._file.close()


@contextlib.contextmanager
def held(
    claim: Claim,
    holder: str,
    *,
    wait_s: float,
    ttl_s: float,
    on_wait: Callable[[str], object],
    folder: Path | None = None,
) -> Iterator[Lease]:
    """Hold one rig; as `first_free`."""
    with first_free([claim], holder, wait_s=wait_s, ttl_s=ttl_s, on_wait=on_wait, folder=folder) as lease:
        yield lease


@contextlib.contextmanager
def first_free(
    claims: Sequence[Claim],
    holder: str,
    *,
    wait_s: float,
    ttl_s: float,
    on_wait: Callable[[str], object],
    folder: Path | None = None,
) -> Iterator[Lease]:
    """Hold whichever rig is free first; `Lease.claim` says which.

    `holder` is told to those who wait, as "alice" or "nightly #217". `on_wait` gets a sentence whenever it is
    somebody else that we wait for, and when the holder before us has died. A run that does not `renew` within
    `ttl_s` seconds is told to those who wait as stuck; its lease is not taken from it.

    Raises Blocked when none is free within `wait_s` seconds, LimpetError when the folder cannot hold leases.
    """
    folder = folder or default_folder()
    end = time.monotonic() + wait_s
    told = ""
    while True:
        lease, others = _take(claims, holder, ttl_s, folder)
        if lease:
            break
        now = time.time()
        why = " ".join(waits_for(claim, other, now) for claim, other in zip(claims, others, strict=True))
        if time.monotonic() >= end:
            raise Blocked(f"{why} We have waited {wait_s:g} s.")
        if why != told:
            on_wait(why)
            told = why
        time.sleep(_POLL_S)
    try:
        if lease.left_by:
            on_wait(left_behind(lease.claim, lease.left_by))
        yield lease
    finally:
        lease.release()


def claim_of(rig: RigFile) -> Claim | None:
    """What a run must hold to use this rig; None for one that each run makes anew for itself."""
    if rig.place:
        return Claim(f"labgrid {rig.place.coordinator or ''} {rig.place.name}", rig.name)
    return Claim(rig.port.called, rig.name) if rig.port else None


def default_folder() -> Path:
    """The folder where all users of this machine keep their leases: each of them comes to the same one.

    /run/lock is made for it, but not everywhere may everybody write to it (Debian: yes; Fedora, macOS: no).
    """
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser()
    shared = Path("/run/lock")
    with contextlib.suppress(OSError):
        if shared.stat().st_mode & stat.S_IWOTH:
            return shared
    return Path("/tmp")


def file_name(key: str) -> str:
    """A key's file: readable, and another one for every key."""
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", key)[:60].strip("-.")
    return f"limpet-{readable}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.lease"


def waits_for(claim: Claim, holder: Holder | None, now: float) -> str:
    """Whom a run waits for, in one sentence; a second one when the holder is beyond its time."""
    if holder is None:
        return f"The rig {claim.name} is held by a run that has not said yet who it is."
    sentence = f"The rig {claim.name} is held by {_who(holder)} since {_clock(holder.since)}."
    if now <= holder.until:
        return sentence
    return (
        f"{sentence} That run meant to have come further by {_clock(holder.until)}: it hangs, is stopped, or "
        f"waits for its user. Ask {holder.user}; 'kill -9 {holder.pid}' on {holder.host} frees the rig."
    )


def left_behind(claim: Claim, holder: Holder) -> str:
    """That the run before us died."""
    return (
        f"The rig {claim.name} is ours now: {_who(holder)}, who held it since {_clock(holder.since)}, ended "
        "without giving it back, so it may be in any state."
    )


def _who(holder: Holder) -> str:
    return f"{holder.name} (user {holder.user}, process {holder.pid} on {holder.host})"


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at):%Y-%m-%d %H:%M:%S}"


def _take(
    claims: Sequence[Claim], holder: str, ttl_s: float, folder: Path
) -> tuple[Lease | None, list[Holder | None]]:
    """The first lease that is free, if one is, and who holds those before it."""
    others: list[Holder | None] = []
    for claim in claims:
        file, said = _locked(folder / file_name(claim.key))
        if file:
            return Lease(claim, file, _ourselves(holder), ttl_s, left_by=said), others
        others.append(said)
    return None, others


def _ourselves(name: str) -> Holder:
    now = time.time()
    return Holder(
        name=name[:_LONGEST], user=user(), host=socket.gethostname(), pid=os.getpid(), since=now, until=now
    )


def _locked(path: Path) -> tuple[Unshared | None, Holder | None]:
    """The lease's file, if we could lock it, and who has written to it last."""
    while True:
        file = Unshared(lambda: _open(path))
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Somebody may have removed the file meanwhile: a lock on what has no name keeps nobody out.
            if _is(path, file.fileno()):
                return file, _parsed(os.pread(file.fileno(), _MOST, 0))
        except BlockingIOError:
            said = _parsed(os.pread(file.fileno(), _MOST, 0))
            file.close()
            return None, said
        except OSError as error:
            file.close()
            raise LimpetError(
                f"The folder {path.parent} allows no locks ({error.strerror}): name one on a local disk by "
                f"{VARIABLE}."
            ) from None
        file.close()


def _open(path: Path) -> int:
    # Without O_CREAT: Linux refuses it for another user's file in a folder like /tmp (fs.protected_regular).
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        while True:
            try:
                number = os.open(path, flags)
                break
            except FileNotFoundError:
                _make(path)
        if stat.S_ISREG(os.fstat(number).st_mode):
            return number
        os.close(number)
        why = "it is no file"
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
    raise LimpetError(
        f"The lease file {path} cannot be opened ({why}): remove it when nobody holds it, or name a folder "
        f"that all users of the bench may write to by {VARIABLE}."
    )


def _make(path: Path) -> None:
    """Make an empty file that every user may lock and write to.

    It appears under its name as a whole: a link to one that has its permissions already.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(prefix=".limpet-", dir=path.parent) as file:
        os.fchmod(file.fileno(), 0o666)
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(file.name)


def _is(path: Path, number: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(number))
    except FileNotFoundError:
        return False


def _parsed(data: bytes) -> Holder | None:
    """What a lease file says; None when it says nothing that can be understood.

    Every user of the machine may write there, so what would be shown on a terminal is cleaned first.
    """
    try:
        holder = Holder.model_validate_json(data)
    except ValidationError:
        return None
    return holder.model_copy(update={key: _plain(getattr(holder, key)) for key in ("name", "user", "host")})


def _plain(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
