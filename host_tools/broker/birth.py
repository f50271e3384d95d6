"""Makes a broker's folder with what the authority gives it (`limpet broker init`)."""

import os
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from host_tools.broker import account, project, public
from host_tools.broker.project import BrokerFolder, Settings
from host_tools.ca.authority import CertificateAuthority
from host_tools.ca.passphrase import Unlock
from host_tools.errors import LimpetError, RefusedError
from host_tools.pki import files
from host_tools.pki.names import console_name


@dataclass(frozen=True)
class Wanted:
    """What the user said; None or nothing for what is to be as it was, or as it is at first."""

    names: tuple[str, ...] = ()
    address: str | None = None
    port: int | None = None
    prefix: str | None = None
    nodes: int | None = None
    user: str | None = None
    consoles: tuple[str, ...] = ()


def init(path: Path, ca: Path, unlock: Unlock, wanted: Wanted, *, again: bool = False) -> dict[str, Any]:
    """Make the broker's folder `path`, and return what it was made for.

    `again` makes an existing one anew: what is not in `wanted` stays, and its last certificate is revoked as
    superseded. Raises RefusedError if there is something at `path` and `again` was not said, LimpetError if
    something that is wanted cannot be.
    """
    before = BrokerFolder(path)
    _check_free(before, again)
    settings = _settings(before.load() if again else None, ca, wanted)
    settings.check()
    project.check_place(path, settings)
    old = _serial(before) if again else None
    with CertificateAuthority.open(ca, unlock) as authority:
        credential = authority.issue_broker(settings.names)
        if old is not None and f"{old:x}" in authority.state.issued:
            authority.revoke(f"{old:x}", "superseded")
        trusted = public.trusted(authority.folder)
        crl = files.read(authority.folder.crl, "CRL")
    folder = project.make(path, settings, credential, trusted, crl)
    return {
        "folder": str(folder.path),
        "names": list(settings.names),
        "address": settings.address,
        "port": settings.port,
        "prefix": settings.prefix,
        "nodes": settings.nodes,
        "user": settings.user,
        "consoles": list(settings.consoles),
        "serial": f"{credential.certificate.serial_number:x}",
        "expires": credential.certificate.not_valid_after_utc.isoformat(),
    }


def _check_free(folder: BrokerFolder, again: bool) -> None:
    try:
        is_there = folder.path.is_dir() and any(folder.path.iterdir())
    except OSError as error:
        raise LimpetError(f"The folder {folder.path} cannot be read: {error.strerror}.") from None
    if is_there and not again:
        if files.exists(folder.settings):
            raise RefusedError(
                f"{folder.path} is a broker's folder already: give --again to make it anew with a new "
                "certificate, or name another folder."
            )
        raise RefusedError(f"{folder.path} is not empty: name a new folder for the broker.")


def _settings(before: Settings | None, ca: Path, wanted: Wanted) -> Settings:
    root = os.geteuid() == 0
    if wanted.user is not None and not root:
        raise LimpetError("--user is for root: without root's rights Mosquitto runs as you.")
    base = before or Settings(names=wanted.names or (socket.gethostname(),), ca="")
    user = (wanted.user or base.user or account.MOSQUITTO) if root else None
    said = {
        "names": wanted.names,
        "address": wanted.address,
        "port": wanted.port,
        "prefix": wanted.prefix,
        "nodes": wanted.nodes,
        "consoles": tuple(map(console_name, wanted.consoles)),
    }
    changes: dict[str, Any] = {name: value for name, value in said.items() if value not in ((), None)}
    return replace(base, ca=str(ca.resolve()), user=user, **changes)


def _serial(folder: BrokerFolder) -> int | None:
    """The serial number of the certificate that the folder has."""
    try:
        found = public.certificates(files.read(folder.certificate, "certificate"), folder.certificate)
    except LimpetError:
        return None
    return found[0].serial_number
