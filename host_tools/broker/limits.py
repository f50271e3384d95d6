"""How much a broker takes on for a number of nodes: figures with their reasons (docs/brokers.md)."""

from dataclasses import dataclass

_KIB = 1024
# A node's largest packet is a pack of 1,024 bytes and its topic; `about` of many channels may be more.
_PACKET = 16 * _KIB
# A node sends at most about so many messages an hour when it publishes every ten seconds.
_MESSAGES_AN_HOUR = 400
_FEWEST_QUEUED = 10_000
# Consoles, operators, the doorkeeper, and a look from outside.
_OTHERS = 20


@dataclass(frozen=True)
class Limits:
    """What Mosquitto is told to hold, as its settings are called (mosquitto.conf(5))."""

    max_packet_size: int
    """Bytes of one MQTT packet."""
    max_connections: int
    max_inflight_messages: int
    """QoS 1 messages on their way to one client, not acknowledged yet."""
    max_inflight_bytes: int
    max_queued_messages: int
    """Messages that wait for one client, connected or away."""
    max_queued_bytes: int


def limits_for(nodes: int) -> Limits:
    """The limits of a broker for so many nodes."""
    # A consumer that is away for an hour finds everything; behind that, Mosquitto drops what comes.
    queued = max(_FEWEST_QUEUED, _MESSAGES_AN_HOUR * nodes)
    inflight = 100
    return Limits(
        max_packet_size=_PACKET,
        # A node that lost its link comes back before the broker has noticed: two connections for a while.
        max_connections=2 * nodes + _OTHERS,
        max_inflight_messages=inflight,
        max_inflight_bytes=inflight * _PACKET,
        max_queued_messages=queued,
        max_queued_bytes=queued * _KIB,
    )
