"""The options by which commands name the authority of a project, and how they open it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from host_tools.cli.app import remark

if TYPE_CHECKING:
    from host_tools.ca import CertificateAuthority
    from host_tools.ca.passphrase import Unlock

CaFolder = Annotated[Path, typer.Option("--ca", metavar="DIR", help="The folder of the authority.")]
PassphraseFd = Annotated[
    int | None,
    typer.Option("--passphrase-fd", metavar="N", min=0, help="Read the passphrase from this descriptor."),
]
PassphraseKeyring = Annotated[
    bool, typer.Option("--passphrase-keyring", help="Take the passphrase from this desktop's keyring.")
]

CA = Path("ca")
"""Where the authority of a project is by default."""


def unlock(folder: Path, fd: int | None, use_keyring: bool) -> "Unlock":
    """What gives the passphrase of the authority in `folder`: a descriptor, the keyring, or the terminal.

    Raises UsageError if both options are there.
    """
    from host_tools.ca import passphrase
    from host_tools.errors import UsageError

    subject = f"the authority in {folder}"
    if fd is not None and use_keyring:
        raise UsageError("--passphrase-fd and --passphrase-keyring exclude each other: give one of them.")
    if fd is not None:
        return passphrase.from_descriptor(fd, subject)
    if use_keyring:
        return passphrase.from_keyring(str(folder.resolve()), subject)
    return passphrase.from_terminal(subject)


@contextmanager
def opened(folder: Path, fd: int | None, use_keyring: bool) -> "Iterator[CertificateAuthority]":
    """The authority, open. What opening has mended, and that it ends soon, is said on standard error.

    Raises LimpetError as `CertificateAuthority.open` does.
    """
    from host_tools.ca import CertificateAuthority
    from host_tools.ca.told import shortened

    with CertificateAuthority.open(folder, unlock(folder, fd, use_keyring)) as authority:
        for clause in authority.mended:
            remark(f"{folder}: a command was cut short: {clause}")
        for clause in shortened(authority.state.issued[authority.state.issuing], authority.now()):
            remark(f"{folder}: {clause}")
        yield authority
