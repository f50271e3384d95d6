"""What the `limpet ca` commands say, as text and as JSON."""

import datetime
from collections.abc import Iterable, Sequence
from typing import Any

from host_tools.ca import state as kinds
from host_tools.ca.inspection import Audit, Public
from host_tools.ca.state import Issued, State
from host_tools.pki.profiles import LIFETIME

_DATE = "%Y-%m-%d"


def certificate_as_json(each: Issued, state: State, now: datetime.datetime) -> dict[str, Any]:
    """A certificate and how it stands."""
    revoked = state.revoked.get(each.serial)
    return {
        "kind": each.kind,
        "name": each.name,
        "serial": each.serial,
        "fingerprint": each.fingerprint,
        "issued": utc(each.issued),
        "expires": utc(each.expires),
        "issuer": each.issuer,
        "state": standing(each, state, now),
        "revoked": utc(revoked.since) if revoked else None,
        "reason": revoked.reason if revoked else None,
    }


def standing(each: Issued, state: State, now: datetime.datetime) -> str:
    """`live`, `revoked` or `expired`."""
    if each.serial in state.revoked:
        return "revoked"
    return "live" if now < each.expires else "expired"


def utc(time: datetime.datetime) -> str:
    """A time as ISO 8601 in UTC."""
    return time.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def authority_as_json(seen: Public, now: datetime.datetime) -> dict[str, Any]:
    """What `limpet ca show --json` says."""
    state = seen.state
    return {
        "roots": [certificate_as_json(state.issued[serial], state, now) for serial in state.roots],
        "issuing": certificate_as_json(state.issued[state.issuing], state, now),
        "live": _count(state, now),
        "revoked": len(state.revoked),
        "lines": len(seen.lines),
        "hash": seen.lines[-1].hash,
        "backup": utc(seen.lines[state.saved - 1].time) if state.saved else None,
    }


def authority(folder: str, seen: Public, now: datetime.datetime) -> list[str]:
    """What `limpet ca show` says."""
    state = seen.state
    lines = [folder]
    for serial in state.roots:
        root = state.issued[serial]
        lines += [
            f"  root     {root.name}, until {root.expires:{_DATE}}",
            f"           SHA-256 {root.fingerprint}",
        ]
    issuing = state.issued[state.issuing]
    lines.append(f"  issuing  {issuing.name}, until {issuing.expires:{_DATE}}")
    lines += [f"           {text}" for text in shortened(issuing, now)]
    live = ", ".join(
        f"{number} {kind if number > 1 else kind.removesuffix('s')}"
        for kind, number in _count(state, now).items()
        if number
    )
    lines.append(f"  live     {live or 'no certificates'}; {len(state.revoked)} revoked")
    lines.append(f"  ledger   {len(seen.lines)} lines, the last one {seen.lines[-1].hash}")
    saved = f"{seen.lines[state.saved - 1].time:{_DATE}}, line {state.saved}" if state.saved else "none"
    lines.append(f"  backup   {saved}")
    return lines


def shortened(issuing: Issued, now: datetime.datetime) -> list[str]:
    """What there is to say of an issuing authority that ends before what it issues should."""
    if now >= issuing.expires:
        return ["it has expired: make the next one with 'limpet ca rotate'"]
    if issuing.expires - now < LIFETIME - datetime.timedelta(days=1):
        return [
            f"what is issued now ends on {issuing.expires:{_DATE}} with it: rotate with 'limpet ca rotate'"
        ]
    return []


def listing(which: Sequence[Issued], state: State, now: datetime.datetime) -> list[str]:
    """What `limpet ca list` says: a line a certificate."""
    if not which:
        return ["no certificates"]
    rows = [
        (
            each.kind,
            each.name,
            standing(each, state, now),
            f"{each.issued:{_DATE}}",
            f"{each.expires:{_DATE}}",
            each.serial,
        )
        for each in which
    ]
    rows.insert(0, ("kind", "name", "state", "issued", "expires", "serial"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def chosen(
    state: State, now: datetime.datetime, *, every: bool, within: int | None, name: str | None
) -> list[Issued]:
    """The certificates that `limpet ca list` lists, the oldest first.

    Live ones, the operator's and the authority's own apart, or `every` one; those that expire `within` so
    many days; those of one `name`.
    """
    found: Iterable[Issued] = state.issued.values()
    if not every:
        shown = (kinds.NODE, kinds.BROKER, kinds.CONSOLE)
        found = [each for each in found if each.kind in shown and state.counts(each, now)]
    if within is not None:
        found = [each for each in found if each.expires - now < datetime.timedelta(days=within)]
    return [each for each in found if name is None or each.name == name]


def audit_as_json(found: Audit) -> dict[str, Any]:
    """What `limpet ca audit --json` says."""
    return {
        "lines": found.lines,
        "hash": found.hash,
        "findings": [{"line": each.line, "text": each.text} for each in found.findings],
        "unfinished": list(found.unfinished),
    }


def _count(state: State, now: datetime.datetime) -> dict[str, int]:
    shown = (kinds.NODE, kinds.BROKER, kinds.CONSOLE)
    live = [each for each in state.issued.values() if state.counts(each, now)]
    return {f"{kind}s": sum(each.kind == kind for each in live) for kind in shown}
