"""What the fleet record says of a node: the chain from a USB location to a first publish and beyond."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from host_tools.errors import LimpetError

CLAIMED, IN_SERVICE, RETIRED = "claimed", "in service", "retired"
"""A node's states: its id is taken for a board; it has proved itself; it is gone for good."""

Fact = str | int | float | bool | None


class FleetError(LimpetError):
    """The fleet record cannot be read or written, or does not have what is asked for."""


@dataclass(frozen=True, slots=True)
class Record:
    """The chain of a node that has proved itself, link by link. Times are UTC in ISO 8601."""

    node_id: str
    mac: str
    """Base MAC address of the board, lower case with colons."""
    location: str
    """Where it was plugged in: a USB location such as "1-1.2", or a URL."""
    board: str
    """Name of the board file."""
    image: str
    """SHA-256 (hex) of the flash image."""
    serial: str
    """Serial number (hex) of the node's certificate."""
    fingerprint: str
    """SHA-256 (hex) of the node's certificate (DER)."""
    client_id: str
    """The MQTT client id with which it came."""
    first_publish: str
    """When its proof arrived: the first `about` with this certificate."""
    expires: str
    """When the certificate does."""
    settings: str
    """SHA-256 (hex) of the settings on it."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node as the record has it. What a node that is only claimed has not yet is empty."""

    node_id: str
    mac: str
    state: str
    """One of CLAIMED, IN_SERVICE and RETIRED."""
    claimed_at: str
    location: str = ""
    board: str = ""
    image: str = ""
    serial: str = ""
    fingerprint: str = ""
    client_id: str = ""
    first_publish: str = ""
    provisioned_at: str = ""
    """When it was recorded as in service."""
    expires: str = ""
    settings: str = ""
    last_seen: str = ""
    retired_at: str = ""
    reason: str = ""
    """Why it was retired."""

    @property
    def is_retired(self) -> bool:
        return self.state == RETIRED


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the journal: what was done with a board, and for which node."""

    at: str
    mac: str
    node_id: str
    step: str
    facts: Mapping[str, Fact] = field(default_factory=dict)


def utc(moment: datetime) -> str:
    """A moment as the record writes it: UTC, ISO 8601, whole seconds."""
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def moment(text: str) -> datetime:
    """The moment in a time of the record, or in any ISO 8601 text with an offset. Raises FleetError."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        read = None
    if read is None or read.tzinfo is None:
        raise FleetError(f"{text!r} is no time in ISO 8601 with its offset from UTC.")
    return read
