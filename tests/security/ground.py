"""What security tests stand on: an authority of their own, who unlocks it, and brokers that trust it."""

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509

from host_tools.broker import Kind, public, start_broker
from host_tools.broker.mosquitto import find_executable
from host_tools.broker.project import BrokerFolder, Settings, make
from host_tools.broker.service import Service
from host_tools.ca import CertificateAuthority, keys
from host_tools.ca.folder import Folder
from host_tools.ca.passphrase import Unlock
from host_tools.pki import files
from host_tools.pki.credential import pem
from host_tools.pki.profiles import Signer
from tests.security.forged import Hierarchy

PASSPHRASE = "canary passphrase 9d41c7 of the tests"


def unlock() -> Unlock:
    """Gives the passphrase of the tests."""

    def say(prompt: str, **_: Any) -> str:
        return PASSPHRASE

    return Unlock(say, "the tests' authority")


def new_authority(folder: Path) -> Path:
    """Make an authority; the folder that it is in."""
    CertificateAuthority.init(folder / "ca", unlock(), folder / "ca.backup")
    return folder / "ca"


def hierarchy(authority: CertificateAuthority) -> Hierarchy:
    """The authority's own keys and certificates, to sign what it never would."""
    state, folder = authority.state, authority.folder
    root, issuing = state.issued[state.roots[-1]], state.issued[state.issuing]
    return Hierarchy(
        Signer(keys.load(folder.root_key, unlock()), root.certificate),
        Signer(keys.load(folder.issuing_key, unlock()), issuing.certificate),
    )


@dataclass
class Mosquitto:
    """Mosquitto with the configuration of `limpet broker init`."""

    port: int
    folder: BrokerFolder
    service: Service

    def take_lists(self, authority: CertificateAuthority) -> None:
        """Have it use the authority's CRL as it is now."""
        self.folder.put(self.folder.crl, authority.folder.crl.read_bytes())
        self.service.reload()


@contextlib.contextmanager
def mosquitto(authority: CertificateAuthority, path: Path) -> Iterator[Mosquitto]:
    """It runs for as long as the `with` block does."""
    executable = find_executable()
    assert executable is not None
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    account = "root" if os.geteuid() == 0 else None
    settings = Settings(("localhost",), str(authority.folder.path), "127.0.0.1", port, user=account)
    credential = authority.issue_broker(settings.names)
    trusted = public.trusted(Folder(authority.folder.path))
    folder = make(path, settings, credential, trusted, authority.folder.crl.read_bytes())
    service = Service(executable, str(folder.configuration), lambda line: None)
    try:
        service.wait_ready()
        yield Mosquitto(port, folder, service)
    finally:
        service.stop()


@contextlib.contextmanager
def broker(kind: Kind, authority: CertificateAuthority, path: Path) -> Iterator[int]:
    """The port of a broker of either kind that trusts the authority."""
    if kind == "mosquitto":
        with mosquitto(authority, path) as running:
            yield running.port
        return
    credential = authority.issue_broker(["localhost"])
    credential.save(path, "broker")
    authorities = map(x509.load_der_x509_certificate, (*authority.chain, *authority.trusted))
    files.write_private(path / "ca.crt", pem(*authorities))
    with start_broker(path, prefer="embedded") as embedded:
        yield embedded.port
