"""Keeps Mosquitto running on a broker's folder, with the newest CRL, and puts out whom that revokes."""

import contextlib
import datetime
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509

from host_tools.broker import account, mosquitto, public
from host_tools.broker.account import Account
from host_tools.broker.config import check_pair
from host_tools.broker.doorkeeper import Doorkeeper, KickError
from host_tools.broker.limits import limits_for
from host_tools.broker.process import PortBusyError, StartError
from host_tools.broker.project import BrokerFolder, Settings
from host_tools.broker.revoked import judge
from host_tools.broker.service import ReloadError, Service
from host_tools.ca.folder import Folder
from host_tools.errors import LimpetError, RefusedError
from host_tools.pki import files
from host_tools.pki.names import is_node_id
from host_tools.scratch import scratch_folder
from host_tools.virtual.limits import allow_files

_LOOK_S = 0.5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_STEADY_S = 60.0  # what has run so long may be started again at once
_WARN_S = 24 * 3600.0
_FILES_BESIDE = 64
_SOON = datetime.timedelta(days=30)

_Stamp = tuple[int, int, int] | None


@dataclass(frozen=True)
class Notice:
    """Something that the keeper did or noticed, for people and for programs."""

    event: str
    """`running`, `reloaded`, `put-out`, `restarted`, `ended`, `not-taken` or `expires`."""
    text: str
    facts: dict[str, Any] = field(default_factory=dict)


def run(path: Path, ca: Path | None, *, tell: Callable[[Notice], None], say: Callable[[str], None]) -> None:
    """Run Mosquitto on the folder `path` until an exception ends it; that ends Mosquitto too.

    `ca` is the authority's folder, or a copy of it; without it, the one that the folder was made with, if
    that is there. `say` gets Mosquitto's own lines, `tell` ours.
    Raises LimpetError if it cannot begin; what goes wrong later is told, and tried again.
    """
    folder = BrokerFolder(path)
    settings = folder.load()
    authority = _authority(ca, settings, tell)
    _check_rights(folder, settings)
    executable, title = _mosquitto()
    # Read by Mosquitto's account, not changed: root reads it too, at the next start.
    owner = account.find(settings.user) if settings.user else None
    allow_files(limits_for(settings.nodes).max_connections + _FILES_BESIDE)
    with folder.locked(), scratch_folder("broker") as scratch:
        account.lend(scratch, owner)
        keeper = _Keeper(folder, authority, scratch, owner, executable, title, tell, say)
        try:
            keeper.keep()
        finally:
            keeper.stop()


class _Keeper:
    def __init__(
        self,
        folder: BrokerFolder,
        authority: Folder | None,
        scratch: Path,
        owner: Account | None,
        executable: str,
        title: str,
        tell: Callable[[Notice], None],
        say: Callable[[str], None],
    ) -> None:
        self._folder, self._authority = folder, authority
        self._scratch, self._owner = scratch, owner
        self._executable, self._title = executable, title
        self._tell, self._say = tell, say
        hall = scratch / "hall"
        hall.mkdir()
        account.give(hall, owner)
        self._doorkeeper = Doorkeeper(scratch, hall)
        self._register = public.Register(authority) if authority else None
        self._service: Service | None = None
        self._loaded: dict[Path, _Stamp] = {}
        self._lists: tuple[x509.CertificateRevocationList, ...] = ()
        self._copied: tuple[_Stamp, ...] = ()
        self._not_taken: tuple[_Stamp, ...] = ()
        self._banned: dict[str, datetime.datetime] = {}
        """Clients that have no certificate left, and the connection of theirs that was ended last."""
        self._warned = -_WARN_S

    def keep(self) -> None:
        """Start, then go on for ever."""
        self._copy()
        service = self._start()
        pause = _FIRST_PAUSE_S
        since = time.monotonic()
        while True:
            service.attend(_LOOK_S)
            if time.monotonic() - since > _STEADY_S:
                pause = _FIRST_PAUSE_S
            try:
                if service.alive:
                    self._copy()
                    again = self._follow(service) or self._put_out_again(service)
                    self._warn()
                else:
                    self._tell(Notice("ended", f"Mosquitto has ended; it is started again in {pause:.0f} s."))
                    time.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE_S)
                    self._copy()
                    again = "it had ended"
                if again:
                    service.stop()
                    service = self._start(again)
                    since = time.monotonic()
            except LimpetError as error:
                # The next look finds that it has ended, and waits before it tries again.
                self._tell(Notice("ended", str(error)))

    def stop(self) -> None:
        """End Mosquitto, if it runs."""
        if self._service is not None:
            self._service.stop()

    def _start(self, why: str | None = None) -> Service:
        folder = self._folder
        self._loaded = {path: _stamp(path) for path in folder.files()}
        self._lists = public.lists(files.read(folder.crl, "CRL"), folder.crl)
        self._banned.clear()  # nobody is connected who was not judged by this CRL
        text = files.read(folder.configuration, "configuration").decode(errors="replace")
        settings = self._scratch / "mosquitto.conf"
        for path, data in (
            self._doorkeeper.passwords(),
            (settings, (text + self._doorkeeper.configuration()).encode()),
        ):
            files.write_private(path, data)
            account.lend(path, self._owner)
        self._service = Service(self._executable, str(settings), self._say)
        settings_now = folder.load()
        port = settings_now.port
        try:
            self._service.wait_ready()
        except StartError as error:
            if "Address already in use" not in error.last_line:
                raise
            raise PortBusyError(settings_now.address or "this machine", port) from error
        where = {"port": port, "broker": self._title}
        if why:
            self._tell(Notice("restarted", f"{self._title} runs again: {why}.", where))
        else:
            self._tell(Notice("running", f"{self._title} serves {folder.path} on port {port}.", where))
        return self._service

    # -- the authority's files -----------------------------------------------------------------------------

    def _copy(self) -> None:
        """Take the authority's CRL and certificates over into our folder, if they are new and good."""
        if self._authority is None:
            return
        theirs = (self._authority.crl, self._authority.trusted, self._authority.chain)
        folder = self._folder
        # Before anything is read: what changes meanwhile is seen the next time, and so is what we write.
        stamps = tuple(map(_stamp, (*theirs, folder.crl, folder.trusted)))
        if self._copied == stamps:
            return
        self._copied = stamps
        try:
            trusted = public.trusted(self._authority)
            crl = files.read(self._authority.crl, "CRL")
            ours = files.read(folder.crl, "CRL")
            if crl != ours or trusted != files.read(folder.trusted, "certificate"):
                _checked(crl, trusted, self._authority.crl, self._lists or _readable(ours, folder.crl))
                folder.put(folder.trusted, trusted, self._owner)
                folder.put(folder.crl, crl, self._owner)
        except LimpetError as error:
            self._tell(Notice("not-taken", f"Left as it was: {error}"))

    # -- our own files -------------------------------------------------------------------------------------

    def _follow(self, service: Service) -> str | None:
        """Let Mosquitto read what has changed in the folder; return why it must be started again, if so."""
        if service.spoilt:
            return "it could not read its files again"
        folder = self._folder
        stamps = {path: _stamp(path) for path in folder.files()}
        changed = [path for path in stamps if stamps[path] != self._loaded.get(path)]
        if not changed or self._not_taken == tuple(stamps.values()):
            return None
        if folder.configuration in changed:
            return f"{folder.configuration.name} has changed"
        try:
            # With a file that does not fit, it would go on half armed.
            trusted = files.read(folder.trusted, "certificate")
            lists = _checked(files.read(folder.crl, "CRL"), trusted, folder.crl, self._lists)
            check_pair(folder.certificate, folder.key)
        except LimpetError as error:
            self._not_taken = tuple(stamps.values())
            self._tell(Notice("not-taken", f"Left as it was: {error}"))
            return None
        if consoles := [client for client in sorted(service.away) if not is_node_id(client)]:
            # At a SIGHUP, Mosquitto 2.0.11 stops keeping messages for sessions whose client is away.
            return f"messages wait for {', '.join(consoles)}, and a reload would end that"
        try:
            service.reload()
        except ReloadError as error:
            return str(error).rstrip(".")
        before, self._lists, self._loaded = self._lists, lists, stamps
        names = [path.name for path in changed]
        self._tell(Notice("reloaded", f"Reloaded: {', '.join(names)}.", {"files": names}))
        return self._put_out(service, before)

    def _put_out(self, service: Service, before: tuple[x509.CertificateRevocationList, ...]) -> str | None:
        old, new = public.revoked(before), public.revoked(self._lists)
        added = [entry for serial, entry in new.items() if serial not in old]
        if not added:
            return None
        holders = self._register.holders() if self._register else {}
        verdict = judge(added, holders, frozenset(new), service.connected)
        living = {each.name for each in holders.values() if each.serial not in new}
        for client, entry in verdict.put_out:
            if client not in living:
                self._banned[client] = datetime.datetime.now(datetime.UTC)
            try:
                self._doorkeeper.put_out(client)
            except KickError as error:
                return str(error).rstrip(".")
            facts = {"client": client, "serial": f"{entry.serial:x}", "reason": entry.reason}
            self._tell(
                Notice("put-out", f"{client} is out: its certificate is revoked ({entry.reason}).", facts)
            )
        if verdict.unknown:
            # Whoever it is: nobody stays connected over a restart, and nothing that waits is lost.
            return "a certificate was revoked, and the authority's folder does not say whose"
        return None

    def _put_out_again(self, service: Service) -> str | None:
        """Who showed its certificate before it was revoked, and says who it is only now, comes in after all.
        Put it out again."""
        for client, since in self._banned.items():
            latest = service.connected.get(client, since)
            if latest > since:
                self._banned[client] = latest
                try:
                    self._doorkeeper.put_out(client)
                except KickError as error:
                    return str(error).rstrip(".")
                self._tell(Notice("put-out", f"{client} is out again.", {"client": client}))
        return None

    # -- what ends soon ------------------------------------------------------------------------------------

    def _warn(self) -> None:
        if time.monotonic() - self._warned < _WARN_S:
            return
        self._warned = time.monotonic()
        with contextlib.suppress(LimpetError):  # of a damaged file, which was told already
            for text in expiring(self._folder, datetime.datetime.now(datetime.UTC)):
                self._tell(Notice("expires", text))


def _readable(crl: bytes, path: Path) -> tuple[x509.CertificateRevocationList, ...]:
    """The lists in `crl`, none if that is damaged."""
    try:
        return public.lists(crl, path)
    except LimpetError:
        return ()


def _checked(
    crl: bytes, trusted: bytes, path: Path, than: tuple[x509.CertificateRevocationList, ...]
) -> tuple[x509.CertificateRevocationList, ...]:
    """The lists in `crl`.

    Raises LimpetError if Mosquitto could not use them, or if one is older than in `than`.
    """
    found = public.lists(crl, path)
    public.check_lists(found, public.signers(trusted, path), path, datetime.datetime.now(datetime.UTC))
    if public.is_older(found, than):
        raise LimpetError(f"The CRL in {path} is older than the one in use: copy the newest.")
    return found


def expiring(folder: BrokerFolder, now: datetime.datetime) -> list[str]:
    """What of a broker's folder ends within a month, a sentence each, or has ended.

    Raises LimpetError if a file is damaged.
    """
    found = []
    own = public.certificates(files.read(folder.certificate, "certificate"), folder.certificate)[0]
    if own.not_valid_after_utc - now < _SOON:
        found.append(
            f"The broker's certificate ends on {own.not_valid_after_utc:%Y-%m-%d}: "
            "issue a new one with 'limpet broker init --again'."
        )
    for each in public.lists(files.read(folder.crl, "CRL"), folder.crl):
        end = each.next_update_utc
        if end is not None and end - now < _SOON:
            found.append(
                f"A CRL ends on {end:%Y-%m-%d}, with the authority that signed it, and then its clients are "
                "refused: rotate the authority with 'limpet ca rotate'."
            )
    return found


def _authority(ca: Path | None, settings: Settings, tell: Callable[[Notice], None]) -> Folder | None:
    folder = Folder(ca or Path(settings.ca))
    if files.exists(folder.crl):
        return folder
    if ca is not None:
        raise LimpetError(
            f"There is no {folder.crl.name} in {ca}: name the authority's folder, or a copy of it."
        )
    tell(
        Notice(
            "not-taken",
            f"There is no authority in {folder.path}: the CRL stays as it is in the broker's folder until "
            "somebody puts a new one there.",
        )
    )
    return None


def _check_rights(folder: BrokerFolder, settings: Settings) -> None:
    owner = folder.path.stat().st_uid
    me = os.geteuid()
    if me != owner:
        raise RefusedError(
            f"{folder.path} belongs to {account.name_of(owner)}: run the broker as {account.name_of(owner)}."
        )
    if me == 0 and settings.user is None:
        raise RefusedError(
            f"{folder.path} names no account for Mosquitto to become: make it again with "
            "'limpet broker init --again'."
        )


def _mosquitto() -> tuple[str, str]:
    executable = mosquitto.find_executable()
    version = mosquitto.version(executable) if executable else None
    if executable is None or not mosquitto.is_usable(version):
        raise LimpetError("Mosquitto 2.0 or later is needed: install the package 'mosquitto'.")
    return executable, f"Mosquitto {'.'.join(map(str, version or ()))}"


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
