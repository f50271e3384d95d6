"""What a broker takes from its authority's folder: trusted certificates, the CRL, and whose each serial is.

None of it is secret, and no passphrase is needed: it may as well be a copy of the folder without its keys.
"""

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from host_tools.broker.config import decode
from host_tools.broker.revoked import Holder
from host_tools.ca.folder import Folder
from host_tools.errors import LimpetError
from host_tools.pki import crl, files
from host_tools.pki.crl import Revoked
from host_tools.pki.malformed import MALFORMED
from host_tools.pki.profiles import BACKDATED


def trusted(folder: Folder) -> bytes:
    """The authorities that a broker is to trust, PEM: the roots, and the one below that issues now.

    The latter helps clients that show nothing but their own certificate. Raises LimpetError if one is missing
    or is no certificate.
    """
    data = b"".join(files.read(path, "authority's certificate") for path in (folder.trusted, folder.chain))
    certificates(data, folder.trusted)
    return data


def certificates(data: bytes, path: Path) -> list[x509.Certificate]:
    """The certificates in PEM.

    Raises LimpetError if there is none or one is damaged; `path` is where they came from.
    """
    try:
        found = x509.load_pem_x509_certificates(data)
        for each in found:
            decode(each)
        return found
    except MALFORMED as error:
        raise LimpetError(f"{path} holds no certificate in PEM: copy it again from the authority.") from error


def signers(data: bytes, path: Path) -> list[x509.Certificate]:
    """Of the authorities in PEM those that sign clients: the ones below a root.

    Raises LimpetError as `certificates` does.
    """
    found = certificates(data, path)
    return [each for each in found if each.issuer != each.subject] or found


def lists(data: bytes, path: Path) -> tuple[x509.CertificateRevocationList, ...]:
    """The revocation lists in PEM.

    Raises LimpetError if there is none or one is damaged; `path` is where they came from.
    """
    try:
        found = crl.from_pem(data)
        for each in found:
            # The library decodes as it is asked.
            crl.entries(each), each.issuer, each.extensions, each.last_update_utc, each.next_update_utc
    except MALFORMED:
        found = ()
    if not found:
        raise LimpetError(f"{path} holds no CRL in PEM: copy it again from the authority.")
    return found


def check_lists(
    found: tuple[x509.CertificateRevocationList, ...],
    authorities: list[x509.Certificate],
    path: Path,
    now: datetime.datetime,
) -> None:
    """Raise LimpetError unless Mosquitto will let clients in with these lists: each authority that signs
    clients has one, rightly signed, and valid at `now`.

    It matters: with a file that it cannot read Mosquitto goes on without any CRL (seen with 2.0.11).
    """
    for authority in authorities:
        mine = [each for each in found if each.issuer == authority.subject]
        if not mine:
            raise LimpetError(f"{path} has no CRL of {name_of(authority)}: copy it again from the authority.")
        for each in mine:
            if not _is_signed_by(each, authority):
                raise LimpetError(
                    f"A CRL in {path} says that it is of {name_of(authority)}, who has not signed it: copy "
                    "it again from the authority."
                )
            end = each.next_update_utc
            if each.last_update_utc > now:
                raise LimpetError(
                    f"The CRL of {name_of(authority)} in {path} is not valid before "
                    f"{each.last_update_utc:%Y-%m-%d %H:%M} UTC: set this machine's clock."
                )
            if end is not None and end <= now:
                raise LimpetError(
                    f"The CRL of {name_of(authority)} in {path} ended on {end:%Y-%m-%d}, so every client is "
                    "refused: rotate the authority with 'limpet ca rotate'."
                )


def is_older(
    found: tuple[x509.CertificateRevocationList, ...], than: tuple[x509.CertificateRevocationList, ...]
) -> bool:
    """Whether a list in `found` is older than the one of the same authority in `than`."""
    newest = {each.issuer: _number(each) for each in than}
    return any(_number(each) < newest.get(each.issuer, 0) for each in found)


def revoked(found: tuple[x509.CertificateRevocationList, ...]) -> dict[int, Revoked]:
    """All that the lists have, by serial number."""
    return {entry.serial: entry for each in found for entry in crl.entries(each)}


def name_of(certificate: x509.Certificate) -> str:
    """The common name of a certificate, or nothing."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


class Register:
    """Whose certificate a serial number is. A certificate that was read once is not read again."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder.issued
        self._read: set[str] = set()
        self._holders: dict[int, Holder] = {}

    def holders(self) -> dict[int, Holder]:
        """All clients' certificates that were ever issued; none where the folder has no copies of them."""
        try:
            names = {path.name for path in self._folder.iterdir() if path.suffix == ".crt"}
        except OSError:
            return self._holders
        for name in names - self._read:
            path = self._folder / name
            try:
                certificate = x509.load_pem_x509_certificate(path.read_bytes())
                decode(certificate)
            except (OSError, *MALFORMED):
                continue  # half copied: it is read again the next time
            self._read.add(name)
            if _is_client(certificate):
                serial = certificate.serial_number
                issued = certificate.not_valid_before_utc + BACKDATED
                self._holders[serial] = Holder(name_of(certificate), serial, issued)
        return self._holders


def _is_client(certificate: x509.Certificate) -> bool:
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return ExtendedKeyUsageOID.CLIENT_AUTH in usages


def _number(each: x509.CertificateRevocationList) -> int:
    try:
        return each.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return 0


def _is_signed_by(each: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    try:
        return each.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except MALFORMED:
        return False
