"""The fleet record for a person: a table of the nodes, or the whole chain of one."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from rich.table import Table
from rich.text import Text

from host_tools.fleet.expiry import told_span, word
from host_tools.fleet.record import IN_SERVICE, Entry, Node

_COLOURS = {"expired": "bold red", "soon": "yellow", "": ""}
_DIGITS = 16  # of a fingerprint or a hash, where the whole is too long


def table(nodes: Sequence[Node], within: timedelta, now: datetime) -> Table:
    """All nodes, a line each. Certificates that expire within that time stand out by colour and word."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("node", "state", "board", "MAC", "in service since", "certificate expires", "last seen"):
        made.add_column(heading, no_wrap=True)
    for node in nodes:
        ending = _ending(node, within, now)
        since, seen = _day(node.provisioned_at), _minute(node.last_seen)
        made.add_row(node.node_id, node.state, node.board or "-", node.mac, since, ending, seen)
    return made


def standing_out(nodes: Sequence[Node], within: timedelta, now: datetime) -> str | None:
    """A sentence about the certificates that expire soon or have expired; None when there are none."""
    span = told_span(within)
    words = [word(node.expires, within, now) for node in nodes if node.state == IN_SERVICE]
    expired, soon = words.count("expired"), words.count("soon")
    if not expired and not soon:
        return None
    told = [f"{expired} expired"] * bool(expired)
    told += [f"{soon} will within {span}"] * bool(soon)
    return (
        f"Certificates of nodes in service: {', '.join(told)}. "
        f"Renew them with `limpet rotate --expiring {span}`."
    )


def lines(node: Node, journal: Sequence[Entry], within: timedelta, now: datetime) -> Iterator[str]:
    """The chain of a node, link by link, and its journal."""
    ending = word(node.expires, within, now) if node.expires and not node.is_retired else ""
    gone = f" on {_minute(node.retired_at)}: {node.reason}" if node.is_retired else ""
    yield f"{node.node_id}: {node.state}{gone}"
    for name, value in (
        ("USB location", node.location),
        ("MAC address", node.mac),
        ("board", node.board),
        ("image", node.image),
        ("certificate", node.fingerprint),
        ("serial number", node.serial),
        ("expires", f"{_minute(node.expires)}{f' ({ending})' * bool(ending)}"),
        ("MQTT client id", node.client_id),
        ("first publish", _minute(node.first_publish)),
        ("in service since", _minute(node.provisioned_at)),
        ("settings", node.settings),
        ("last seen", _minute(node.last_seen)),
    ):
        yield f"  {name:<17} {value or '-'}"
    yield "journal"
    for entry in journal:
        facts = ", ".join(f"{name} {_short(str(fact))}" for name, fact in entry.facts.items() if fact)
        yield f"  {entry.at}  {entry.mac}  {entry.step}{f': {facts}' * bool(facts)}"


def _ending(node: Node, within: timedelta, now: datetime) -> Text:
    if not node.expires:
        return Text("-")
    said = "" if node.is_retired else word(node.expires, within, now)
    return Text(f"{_day(node.expires)} {said}".rstrip(), style=_COLOURS[said])


def _short(text: str) -> str:
    is_hash = len(text) == 64 and all(digit in "0123456789abcdef" for digit in text)
    return text[:_DIGITS] if is_hash else text


def _day(text: str) -> str:
    return text[:10] or "-"


def _minute(text: str) -> str:
    return text[:16].replace("T", " ") + " UTC" if text else "-"
