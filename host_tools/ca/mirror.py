"""The files that follow from the ledger: certificates, chains, trusted roots, and what the CRL must say."""

import datetime
from pathlib import Path

from cryptography import x509

from host_tools.ca.folder import Folder
from host_tools.ca.ledger import Line
from host_tools.ca.state import INIT, ISSUE, ISSUING, RETIRE, ROOT, ROTATE, State
from host_tools.pki import crl, files
from host_tools.pki.credential import pem
from host_tools.pki.crl import Revoked
from host_tools.pki.malformed import MALFORMED

Lists = dict[str, x509.CertificateRevocationList]
"""Revocation lists, by the serial of the authority's certificate that has signed them."""


def own(folder: Folder, state: State) -> dict[Path, bytes]:
    """The files with the authority's own certificates, and what stands in them."""
    roots = [state.issued[serial].certificate for serial in state.roots]
    issuing = pem(state.issued[state.issuing].certificate)
    return {
        folder.root: pem(roots[-1]),
        folder.trusted: pem(*roots),
        folder.issuing: issuing,
        folder.chain: issuing,
    }


def missing(folder: Folder, state: State) -> dict[Path, bytes]:
    """Files of certificates that are not there, or of the authority's own that say something else."""
    there = {path.name for path in folder.issued.iterdir()} if files.exists(folder.issued) else set()
    found = {
        path: data
        for path, data in own(folder, state).items()
        if not files.exists(path) or files.read(path, "certificate") != data
    }
    for each in state.issued.values():
        path = folder.certificate(each.serial)
        if path.name not in there:
            found[path] = pem(each.certificate)
    return found


def following(folder: Folder, state: State, line: Line) -> dict[Path, bytes]:
    """The files of certificates that follow from `line`, the last one of `state`."""
    if line.event == ISSUE:
        each = state.issued[line.facts["serial"]]
        return {folder.certificate(each.serial): pem(each.certificate)}
    return missing(folder, state) if line.event in (INIT, ROTATE, RETIRE) else {}


def put(path: Path, data: bytes) -> None:
    """Write one of these files, in its folder, which is made where it is missing."""
    files.make_private_folder(path.parent)
    files.write_private(path, data)


def listing(state: State, now: datetime.datetime) -> dict[str, frozenset[Revoked]]:
    """What each authority's revocation list must hold, by the serial of its certificate.

    Authorities that have expired, or whose root is trusted no more, need none.
    """
    wanted: dict[str, set[Revoked]] = {
        each.serial: set()
        for each in state.issued.values()
        if each.kind in (ROOT, ISSUING) and now < each.expires and state.root_of(each) in state.roots
    }
    for serial, revoked in state.revoked.items():
        issuer = state.issued[serial].issuer
        if issuer in wanted:
            wanted[issuer].add(revoked)
    return {serial: frozenset(entries) for serial, entries in wanted.items()}


def good_lists(folder: Folder, state: State, now: datetime.datetime) -> Lists:
    """Those lists of the folder's CRL that say what they must, signed by who must."""
    wanted = listing(state, now)
    return {
        serial: found
        for serial, found in signed_lists(folder, state).items()
        if serial in wanted and crl.entries(found) == wanted[serial]
    }


def signed_lists(folder: Folder, state: State) -> Lists:
    """The lists of the folder's CRL, by the authority that has signed them; the newest, where one has two.

    Raises LimpetError if the file cannot be read. What is damaged is left out.
    """
    found: Lists = {}
    try:
        lists = crl.from_pem(files.read(folder.crl, "revocation list")) if files.exists(folder.crl) else ()
    except ValueError:
        return found
    for each in sorted(lists, key=lambda one: one.last_update_utc):
        for authority in state.issued.values():
            if authority.kind in (ROOT, ISSUING) and _is_signed(each, authority.certificate):
                found[authority.serial] = each
    return found


def _is_signed(each: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    try:
        return each.issuer == authority.subject and each.is_signature_valid(
            authority.public_key()  # type: ignore[arg-type]
        )
    except MALFORMED:
        return False
