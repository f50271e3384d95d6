"""What Mosquitto's log tells of clients: who came, went, was not let in, and sent what. Pure: no I/O."""

import re
from dataclasses import dataclass

_LINE = re.compile(r"(\d+): (.*)")
_CAME = re.compile(r"New client connected from (\S+) as (\S+) \(p\d+, c([01]), k(\d+), u'([^']*)'\)\.")
_WENT = re.compile(
    r"Client (\S+) (closed its connection|disconnected|has exceeded timeout|already connected)\b"
)
_SENT = re.compile(r"Received PUBLISH from (\S+) \(d([01]), q1, r[01], m(\d+), '([^']*)', .*")
# The one when all of the handshake has come at once, the other else.
_TLS = re.compile(
    r"(?:Client connection from \S+ failed|OpenSSL Error\[\d+\]): error:[^:]*:[^:]*:[^:]*:(.*?)\.?"
)
_NO_FAREWELL = "unexpected eof while reading"


@dataclass(frozen=True)
class Session:
    """A client that was let in; the name is its certificate's."""

    at: int
    """When, in seconds since 1970."""
    client: str
    clean: bool
    """It wanted no session that outlives the connection."""
    keepalive: int
    """Seconds."""
    end: str = ""
    """How it ended, in the broker's words; nothing while it lasts, or when the broker ended."""


@dataclass(frozen=True)
class Packet:
    """A PUBLISH with QoS 1 that the broker got from a client."""

    at: int
    """When, in seconds since 1970."""
    client: str
    number: int
    """Its packet identifier."""
    again: bool
    """It says that it was sent before (MQTT's DUP flag)."""
    topic: str


def sessions(log: str) -> list[Session]:
    """Those in a log, oldest first."""
    found: list[Session] = []
    open_: dict[str, int] = {}
    for at, text in _lines(log):
        if came := _CAME.match(text):
            open_[came[5]] = len(found)
            found.append(Session(at, came[5], came[3] == "1", int(came[4])))
        elif (went := _WENT.match(text)) and went[1] in open_:
            old = found[open_[went[1]]]
            found[open_.pop(went[1])] = Session(old.at, old.client, old.clean, old.keepalive, went[2])
        elif text.endswith(" starting"):
            open_.clear()
    return found


def packets(log: str) -> list[Packet]:
    """Those that came, oldest first; for a broker that logs packets."""
    return [
        Packet(at, sent[1], int(sent[3]), sent[2] == "1", sent[4])
        for at, text in _lines(log)
        if (sent := _SENT.fullmatch(text))
    ]


def refusals(log: str) -> list[str]:
    """Why TLS connections were ended before a client was in, by either side, in OpenSSL's words."""
    reasons = [found[1] for _, text in _lines(log) if (found := _TLS.fullmatch(text))]
    return [each for each in reasons if each != _NO_FAREWELL]


def _lines(log: str) -> list[tuple[int, str]]:
    return [(int(found[1]), found[2]) for line in log.splitlines() if (found := _LINE.fullmatch(line))]
