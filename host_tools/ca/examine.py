"""Whether a ledger is whole, and if not, which line was touched. The files' contents come in; no I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec

from host_tools.ca import ledger
from host_tools.ca.ledger import BrokenLineError, Head, Line
from host_tools.ca.state import INIT, MENDED, State


@dataclass(frozen=True)
class Finding:
    """Something that is not as the authority has left it."""

    line: int | None
    """The number of the ledger's line that it is about, if it is about one."""
    text: str
    """A clause without a full stop."""


@dataclass(frozen=True)
class Examined:
    """What a ledger holds, and what is wrong with it."""

    lines: tuple[Line, ...]
    state: State = field(repr=False)
    findings: tuple[Finding, ...]
    torn: bytes = b""
    """What stands after the last line: one that a power cut has cut short."""
    headless: bool = False
    """The last line was written, its head not: a kill or a power cut between the two."""


def examine(data: bytes, head: bytes | None, *, thorough: bool = False) -> Examined:
    """Look at the contents of the ledger's file and of its head's.

    The hashes and the head's seal vouch for all lines; a line's own seal is looked at where they do not:
    beyond the head, when something is wrong, and when `thorough`.
    """
    if not thorough:
        quick = _examine(data, head, thorough=False)
        if not quick.findings:
            return quick
    return _examine(data, head, thorough=True)


def _examine(data: bytes, head_data: bytes | None, *, thorough: bool) -> Examined:
    *pieces, torn = data.split(b"\n")
    lines, findings = _parsed(pieces)
    findings += _order(lines, findings)
    head = _head(head_data, findings)
    state = State()
    before: Line | None = None
    is_good = True  # the line before: one touched line is one finding
    sealers: dict[int, ec.EllipticCurvePublicKey | None] = {}
    for line in lines:
        sealer = _founder(line) if line.event == INIT and not state.n else state.sealer
        sealers[line.n] = sealer
        was_good, is_good = is_good, True
        if thorough or head is None or line.n > head.n:
            is_good = sealer is not None and ledger.is_sealed(line, sealer)
        if not is_good:
            findings.append(Finding(line.n, f"line {line.n} was changed: its seal is wrong"))
        elif was_good and not _follows(line, before):
            findings.append(Finding(line.n, f"line {line.n} does not follow from the line before it"))
        try:
            state.take(line)
        except BrokenLineError as error:
            if not findings:  # else it may rest on what was touched
                findings.append(Finding(line.n, f"line {line.n} cannot be: {error}"))
        before = line
    if not lines and not findings:
        findings.append(Finding(1, "line 1 is missing: the ledger is empty"))
    if head:
        findings += _against(head, {line.n: line for line in lines}, sealers.get(head.n))
    headless = head is not None and before is not None and head.n < before.n
    ordered = sorted(findings, key=lambda each: (each.line is None, each.line or 0))
    return Examined(tuple(lines), state, tuple(ordered), torn, headless)


def _founder(line: Line) -> ec.EllipticCurvePublicKey | None:
    """Whose key seals the first line: it says so itself, with a certificate that leads to its root."""
    try:
        return State([line]).sealer
    except BrokenLineError:
        return None


def _parsed(pieces: Sequence[bytes]) -> tuple[list[Line], list[Finding]]:
    lines, findings = [], []
    for place, piece in enumerate(pieces, 1):
        try:
            lines.append(ledger.parse(piece.decode("ascii")))
        except (UnicodeDecodeError, BrokenLineError) as error:
            why = error if isinstance(error, BrokenLineError) else "it is no text"
            findings.append(Finding(place, f"line {place} was changed: {why}"))
    return lines, findings


def _order(lines: Sequence[Line], touched: Sequence[Finding]) -> list[Finding]:
    """Lines that are missing, doubled, or not in their place. Lines that were `touched` are in theirs."""
    findings = []
    there = {line.n for line in lines} | {finding.line for finding in touched}
    seen: set[int] = set()
    last = 0
    for line in lines:
        if line.n in seen:
            findings.append(Finding(line.n, f"line {line.n} stands there twice"))
        seen.add(line.n)
        for n in range(last + 1, min(line.n, last + 1 + len(lines))):
            if n not in there:
                findings.append(Finding(n, f"line {n} is missing"))
            elif n not in seen and all(finding.line != n for finding in touched):
                findings.append(Finding(n, f"line {n} is not in its place: lines were put in another order"))
        last = max(last, line.n)
    return findings


def _follows(line: Line, before: Line | None) -> bool:
    if before is None:
        return line.n != 1 or line.prev == ledger.NOTHING
    return line.n != before.n + 1 or line.prev == before.hash  # another number is a finding of its own


def _head(data: bytes | None, findings: list[Finding]) -> Head | None:
    if data is None:
        findings.append(Finding(None, "ledger.head is missing, so lines may be missing at the end"))
        return None
    try:
        return ledger.parse_head(data.decode("ascii").removesuffix("\n"))
    except (UnicodeDecodeError, BrokenLineError):
        findings.append(Finding(None, "ledger.head was changed: it is no head"))
        return None


def _against(
    head: Head, lines: Mapping[int, Line], sealer: ec.EllipticCurvePublicKey | None
) -> list[Finding]:
    end = max(lines, default=0)
    if head.n > end:
        missing = f"lines {end + 1} to {head.n} are" if head.n > end + 1 else f"line {head.n} is"
        return [Finding(end + 1, f"{missing} missing: the ledger was cut off")]
    # Opening an authority writes a line about what it mends, and may be killed again before the head.
    if any(line.event != MENDED for line in lines.values() if line.n > head.n + 1):
        return [Finding(head.n + 1, f"line {head.n + 1} and what follows was added behind the head's back")]
    headed = lines.get(head.n)
    if headed is None or sealer is None:
        return []  # a finding of its own
    if not ledger.is_sealed(head, sealer):
        return [Finding(None, "ledger.head was changed: its seal is wrong")]
    if head.hash != headed.hash:
        return [Finding(head.n, f"line {head.n} is not the one that ledger.head knows")]
    return []
