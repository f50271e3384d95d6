"""The account that Mosquitto runs as. Started by root it leaves root's rights and becomes another."""

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from host_tools.errors import LimpetError

MOSQUITTO = "mosquitto"
"""The account that packages of Mosquitto make for it."""


@dataclass(frozen=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int


def find(name: str) -> Account:
    """The account called `name`.

    Raises LimpetError if there is none.
    """
    try:
        found = pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise LimpetError(
            f"There is no account {name!r} on this machine: install Mosquitto, which makes one, or name "
            "another with --user."
        ) from None
    return Account(name, found.pw_uid, found.pw_gid)


def lend(path: Path, account: Account | None) -> None:
    """Let `account` read a file or folder of root's, and nobody else; it may not change it. None: leave it.

    Raises OSError as the system does.
    """
    if account is not None:
        os.chown(path, 0, account.gid)
        path.chmod(0o750 if path.is_dir() else 0o640)


def give(path: Path, account: Account | None) -> None:
    """Make a folder `account`'s own; None: leave it ours.

    Raises OSError as the system does.
    """
    path.chmod(0o700)
    if account is not None:
        os.chown(path, account.uid, account.gid)


def name_of(uid: int) -> str:
    """What the account with the number `uid` is called, or the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def closed_folder(account: Account, folder: Path) -> Path | None:
    """The first of the folders above `folder` that `account` cannot enter, or None."""
    groups = {account.gid, *os.getgrouplist(account.name, account.gid)}
    for each in reversed(folder.resolve().parents):
        found = each.stat()
        if account.uid == 0:
            continue
        if found.st_uid == account.uid:
            needed = stat.S_IXUSR
        elif found.st_gid in groups:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not found.st_mode & needed:
            return each
    return None
