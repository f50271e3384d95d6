"""What can be seen of an authority without its keys, and whether it is as its own acts have left it."""

import datetime
import re
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from host_tools.ca import ledger, mirror
from host_tools.ca import state as kinds
from host_tools.ca.book import contents
from host_tools.ca.examine import Examined, Finding, examine
from host_tools.ca.folder import Folder
from host_tools.ca.ledger import Line
from host_tools.ca.state import Issued, State
from host_tools.errors import LimpetError, UnverifiedError, UsageError
from host_tools.pki import crl, files
from host_tools.pki.malformed import MALFORMED
from host_tools.pki.profiles import utc_now

_ISSUED = "issued"


@dataclass(frozen=True)
class Audit:
    """What an audit has seen."""

    lines: int
    hash: str
    """SHA-256 of the last line. Noted elsewhere, it shows that a ledger went on from there."""
    findings: tuple[Finding, ...]
    """What somebody has touched."""
    unfinished: tuple[str, ...]
    """What a command that was killed has left, in clauses. The next that opens the authority finishes it."""


@dataclass(frozen=True)
class Public:
    """What anybody may know who may read the folder."""

    trusted: tuple[bytes, ...]
    """The roots, DER, the newest last."""
    chain: tuple[bytes, ...]
    """What stands between a certificate that is issued now and its root, DER."""
    lines: tuple[Line, ...] = field(repr=False)
    state: State = field(repr=False)


def public(path: Path) -> Public:
    """Read the authority in the folder `path` without its keys.

    Raises LimpetError if there is none, UnverifiedError if its ledger was touched.
    """
    folder = Folder(path)
    folder.check()
    with folder.locked(shared=True):
        found = examine(*contents(folder))
    if found.findings:
        raise UnverifiedError(
            f"The ledger of {path} is not as it was left: {found.findings[0].text}; "
            "look with 'limpet ca audit', and restore it from a backup."
        )
    state = found.state
    trusted = tuple(state.issued[serial].der for serial in state.roots)
    return Public(trusted, (state.issued[state.issuing].der,), found.lines, state)


def audit(path: Path, *, known: tuple[int, str] | None = None, now: datetime.datetime | None = None) -> Audit:
    """Look at all of the authority in the folder `path`.

    `known` is the number and the hash of a line as they were noted before.
    Raises LimpetError if there is no authority, or a file cannot be read.
    """
    folder = Folder(path)
    folder.check()
    with folder.locked(shared=True):
        found = examine(*contents(folder), thorough=True)
        findings = list(found.findings)
        if known:
            findings += _as_known(found, *known)
        if not findings:  # what follows from a ledger that was touched says nothing
            pending = found.lines[-1] if found.headless else None
            findings += _certificates(folder, found.state, pending)
            findings += _own(folder, found.state, pending)
            findings += _lists(folder, found.state, now or utc_now(), pending)
    last = found.lines[-1] if found.lines else None
    return Audit(
        lines=last.n if last else 0,
        hash=last.hash if last else ledger.NOTHING,
        findings=tuple(sorted(findings, key=lambda each: (each.line is None, each.line or 0))),
        unfinished=tuple(_unfinished(found)),
    )


def noted(text: str) -> tuple[int, str]:
    """The number and the hash of a line, as an audit has shown them: `113:39bacc…`.

    Raises UsageError if it is none.
    """
    match = re.fullmatch(r"([1-9][0-9]{0,9}):([0-9a-f]{64})", text)
    if match is None:
        raise UsageError(f"{text!r} is no line and its hash: give what an audit has shown, such as 12:0a1b….")
    return int(match[1]), match[2]


def _unfinished(found: Examined) -> list[str]:
    clauses = []
    if found.headless:
        clauses.append(f"line {found.lines[-1].n} was written, and what follows from it was not finished")
    if found.torn:
        clauses.append(f"the line after line {found.lines[-1].n} was cut short" if found.lines else "")
    return clauses


def _as_known(found: Examined, n: int, digest: str) -> list[Finding]:
    line = next((each for each in found.lines if each.n == n), None)
    if line is None:
        return [Finding(n, f"line {n}, which was noted, is missing: the ledger is older than the note")]
    if line.hash != digest:
        return [Finding(n, f"line {n} is not the one that was noted")]
    return []


def _certificates(folder: Folder, state: State, pending: Line | None) -> list[Finding]:
    """The files in issued/ against the ledger, both ways; whether each certificate is what its line says."""
    findings = []
    there = {path.name: path for path in _files(folder)}
    for each in state.issued.values():
        path = there.pop(f"{each.serial}.crt", None)
        if not _is_as_told(each, state):
            findings.append(Finding(each.line, f"the certificate in line {each.line} is not what that says"))
        if path is None:
            if pending is None or each.line != pending.n:
                name = folder.certificate(each.serial).name
                findings.append(
                    Finding(each.line, f"{_ISSUED}/{name}, the certificate of line {each.line}, is missing")
                )
        elif not _holds(path, each):
            findings.append(
                Finding(each.line, f"{_ISSUED}/{path.name} is not the certificate of line {each.line}")
            )
    return [*findings, *(Finding(None, f"{_ISSUED}/{name} is in no line of the ledger") for name in there)]


def _files(folder: Folder) -> list[Path]:
    try:
        return sorted(path for path in folder.issued.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise LimpetError(f"{folder.issued} cannot be read: {error.strerror}.") from None


def _holds(path: Path, each: Issued) -> bool:
    try:
        return x509.load_pem_x509_certificate(files.read(path, "certificate")) == each.certificate
    except MALFORMED:
        return False


def _is_as_told(each: Issued, state: State) -> bool:
    try:
        certificate = each.certificate
        certificate.verify_directly_issued_by(state.issued[each.issuer].certificate)
        said = kinds.facts_of(each.kind, certificate, each.issuer)
    except (*MALFORMED, KeyError):
        return False
    names = ("name", "serial", "fingerprint", "key")
    return all(said[name] == getattr(each, name) for name in names) and (
        certificate.not_valid_after_utc == each.expires
    )


def _own(folder: Folder, state: State, pending: Line | None) -> list[Finding]:
    if pending and pending.event in (kinds.ROTATE, kinds.RETIRE):
        return []
    findings = []
    for path, data in mirror.own(folder, state).items():
        if not files.exists(path):
            findings.append(Finding(None, f"{path.name} is missing"))
        elif files.read(path, "certificate") != data:
            findings.append(Finding(None, f"{path.name} is not what the ledger says"))
    return findings


def _lists(folder: Folder, state: State, now: datetime.datetime, pending: Line | None) -> list[Finding]:
    if pending and pending.event in (kinds.REVOKE, kinds.ROTATE, kinds.RETIRE, kinds.MENDED):
        return []
    if not files.exists(folder.crl):
        return [Finding(None, f"{folder.crl.name} is missing")]
    wanted = mirror.listing(state, now)
    good = mirror.good_lists(folder, state, now)
    signed = mirror.signed_lists(folder, state)
    findings = []
    for serial, entries in wanted.items():
        if serial in good:
            continue
        name = state.issued[serial].name
        if serial not in signed:
            findings.append(Finding(None, f"{folder.crl.name} has no list that {name} has signed"))
            continue
        found = crl.entries(signed[serial])
        lines = [(f"{each.serial:x}", "lacks") for each in entries - found]
        lines += [(f"{each.serial:x}", "has") for each in found - entries]
        for revoked, verb in lines:
            line = state.revocations.get(revoked)
            about = f"the revocation of {revoked}" + (
                f" in line {line}" if line else ", which no line tells of"
            )
            findings.append(Finding(line, f"the list of {name} in {folder.crl.name} {verb} {about}"))
    return findings
