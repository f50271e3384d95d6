"""Which clients must go when a new CRL comes. Nothing here does I/O."""

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from host_tools.pki.crl import Revoked

_SECOND = datetime.timedelta(seconds=1)


@dataclass(frozen=True)
class Holder:
    """Whose a certificate is, as the authority's folder has it."""

    name: str
    """Its common name, which is the client id."""
    serial: int
    issued: datetime.datetime


@dataclass(frozen=True)
class Verdict:
    """What a new CRL asks for."""

    put_out: tuple[tuple[str, Revoked], ...]
    """Clients whose connection must end, each with what revoked it."""
    unknown: tuple[Revoked, ...]
    """Revoked, and nobody knows whose that is."""


def judge(
    new: Iterable[Revoked],
    holders: Mapping[int, Holder],
    revoked: frozenset[int],
    connected: Mapping[str, datetime.datetime],
) -> Verdict:
    """What to do about `new` entries of a CRL.

    `revoked` has all serial numbers of the CRL; `connected` says since when each client id has its
    connection. A certificate that was superseded has a successor under the same name, and the connection may
    be the successor's: see `_is_of_the_old`.
    """
    put_out: dict[str, Revoked] = {}
    unknown = []
    for entry in sorted(new, key=lambda each: each.since):
        holder = holders.get(entry.serial)
        if holder is None:
            if entry.reason != "superseded":
                unknown.append(entry)
            continue
        if entry.reason == "superseded":
            since = connected.get(holder.name)
            successors = [
                other.issued
                for other in holders.values()
                if other.name == holder.name and other.serial not in revoked
            ]
            if since is None or not _is_of_the_old(since, entry, successors):
                continue
        put_out[holder.name] = entry
    return Verdict(tuple(put_out.items()), tuple(unknown))


def _is_of_the_old(since: datetime.datetime, entry: Revoked, successors: Iterable[datetime.datetime]) -> bool:
    """Whether a connection that began at `since` is the superseded certificate's.

    Mosquitto does not say which certificate a connection showed; the order of events does. A rotation issues
    the new one, sees the node connect with it, and only then revokes the old one: so what began before the
    new one was there is the old one's, and so is what began after the revocation and before the broker knew
    of it, for a rotated node is in by then. What began between is left alone: it is the new one's, or will be
    refused when it comes back.
    """
    newest = max(successors, default=None)
    return newest is None or since < newest or since >= entry.since + _SECOND
