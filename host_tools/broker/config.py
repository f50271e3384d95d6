"""What a broker needs to run, checked before it starts."""

import datetime
import socket
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from host_tools.broker.acl import Access
from host_tools.errors import LimpetError
from host_tools.pki import files
from host_tools.pki.authority import CA_CERTIFICATE
from host_tools.pki.malformed import MALFORMED

BROKER = "broker"
"""The stem of the broker's files in the folder of the authority: `broker.key` and `broker.crt`."""

MAX_PACKET = 64 * 1024
"""Bytes of the largest MQTT packet that a broker takes."""


@dataclass(frozen=True)
class Listener:
    """A place where a broker listens, and the certificate and key (PEM) that it shows there."""

    address: str
    port: int
    certificate: Path
    key: Path


@dataclass(frozen=True)
class BrokerConfig:
    """Where a broker listens, with which certificate, and whom it lets do what."""

    address: str
    port: int
    """TCP port; 0 lets the broker pick a free one."""
    access: Access
    ca: Path
    certificate: Path
    key: Path
    crl: Path | None = None
    """The authority's list of revoked certificates (PEM); Mosquitto alone."""
    side: Listener | None = None
    """A second place where it listens; Mosquitto alone."""
    logs_packets: bool = False
    """Its log tells of each MQTT packet; Mosquitto alone."""

    @classmethod
    def checked(cls, folder: Path, access: Access, address: str, port: int) -> "BrokerConfig":
        """The configuration of a broker whose certificate is in the authority's `folder`.

        Raises LimpetError if a file is missing or unreadable, if key, certificate and authority do not
        belong together, if the certificate is out of date, or if address or port are not usable.
        """
        if not 0 <= port <= 65535:
            raise LimpetError(f"The port {port} is not valid: use 1 to 65535, or 0 for a free one.")
        check_address(address)
        # A configuration file knows no quotes: a line break in a path would begin another setting.
        if "\n" in str(folder.resolve()):
            raise LimpetError(f"The folder {folder} has a line break in its name: choose another.")
        base = folder.resolve()
        ca, certificate, key = base / CA_CERTIFICATE, base / f"{BROKER}.crt", base / f"{BROKER}.key"
        _check_files(ca, certificate, key)
        return cls(address, port, access, ca, certificate, key)


def decode(certificate: x509.Certificate) -> None:
    """Look at every part of a certificate, for the library decodes as it is asked.

    Raises one of MALFORMED if a part is damaged.
    """
    for part in ("subject", "issuer", "extensions", "not_valid_before_utc", "not_valid_after_utc"):
        getattr(certificate, part)
    certificate.public_key()


def check_address(address: str) -> None:
    """Raise LimpetError unless `address` is one that this machine can listen on."""
    try:
        family, _, _, _, target = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind(target)
    except (OSError, UnicodeError) as error:
        raise LimpetError(
            f"The broker cannot listen on {address!r}: it is no address of this machine."
        ) from error


def check_pair(certificate_path: Path, key_path: Path) -> x509.Certificate:
    """The certificate of a broker, the first in its file, if the key is its own.

    Raises LimpetError if one cannot be read or they do not belong together.
    """
    certificate = _certificate(certificate_path)
    try:
        key = load_pem_private_key(files.read(key_path, "broker's key"), password=None)
        public = key.public_key()
    except MALFORMED:
        # The library's own text is dropped: nothing of a key belongs in a message.
        raise LimpetError(f"{key_path} is not an unencrypted private key in PEM: issue a new one.") from None
    if public != certificate.public_key():
        raise LimpetError(
            f"{key_path} and {certificate_path} do not belong together: issue the broker a new certificate."
        )
    return certificate


def _check_files(ca_path: Path, certificate_path: Path, key_path: Path) -> None:
    ca = _certificate(ca_path)
    certificate = check_pair(certificate_path, key_path)
    end = certificate.not_valid_after_utc
    if end <= datetime.datetime.now(datetime.UTC):
        raise LimpetError(
            f"The broker's certificate {certificate_path} expired on {end:%Y-%m-%d}: issue a new one."
        )
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise LimpetError(
            f"The broker's certificate {certificate_path} was not issued by {ca_path}: issue a new one."
        ) from error


def _certificate(path: Path) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(files.read(path, "certificate"))
        decode(certificate)
        return certificate
    except MALFORMED as error:
        raise LimpetError(f"{path} is not a certificate in PEM: issue a new one.") from error
