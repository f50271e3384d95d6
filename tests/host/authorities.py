"""Authorities for tests: with keys whose passphrase is cheap to try, and a clock that tests set."""

import contextlib
import datetime
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from host_tools.ca import CertificateAuthority, audit, scrypt
from host_tools.ca.passphrase import Unlock, from_descriptor
from host_tools.pki.profiles import utc_now

PASSPHRASE = "canary in a coal mine 42"


def unlock(passphrase: str = PASSPHRASE) -> Unlock:
    """What gives this passphrase."""
    reader, writer = os.pipe()
    os.write(writer, f"{passphrase}\n".encode())
    os.close(writer)
    gives = from_descriptor(reader, "the authority of a test")
    gives()
    os.close(reader)
    return gives


@contextlib.contextmanager
def cheap_passphrases() -> Iterator[None]:
    """Within the block a passphrase costs next to nothing: how hard it is to guess is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scrypt, "N", 2)
        patch.setattr(scrypt, "R", 1)
        patch.setattr(scrypt, "P", 1)
        yield


def request(node_id: str, key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
    """A node's request for its certificate, DER."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node_id)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    signed = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(Encoding.DER)


class Clock:
    """Tells the time of this machine, moved by what a test says."""

    def __init__(self) -> None:
        self.moved = datetime.timedelta()

    def __call__(self) -> datetime.datetime:
        return utc_now() + self.moved


class Place:
    """A folder for a project: its authority is a copy of one that was made before."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder = folder
        self.ca = folder / "ca"
        self.clock = Clock()
        shutil.copytree(model, self.ca)

    def open(self) -> CertificateAuthority:
        """Its authority, open."""
        return CertificateAuthority.open(self.ca, unlock(), now=self.clock)


def make(folder: Path) -> Path:
    """A new authority in `folder`/ca."""
    CertificateAuthority.init(folder / "ca", unlock(), folder / "birth.backup", organisation="Plant 7")
    return folder / "ca"


def whole_again(place: Place) -> None:
    """The authority after a kill: what it has left is told and finished, and nothing is found."""
    seen = audit(place.ca)
    assert seen.findings == ()
    with place.open() as ca:
        assert bool(ca.mended) >= bool(seen.unfinished), "finished, and not told"
    after = audit(place.ca)
    assert (after.findings, after.unfinished) == ((), ())
