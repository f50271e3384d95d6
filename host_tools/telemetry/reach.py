"""The way to the brokers of a node file, for an operator."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from host_tools.errors import UsageError
from host_tools.pki.names import check_broker_name
from host_tools.settings import NodeFile, load
from host_tools.telemetry.operator import Operator
from host_tools.telemetry.subscriber import SubscriberError, TlsFiles

_PORT = 8883


@dataclass(frozen=True, slots=True)
class Place:
    """A broker, the name that its certificate must bear, and the prefix of the topics there."""

    host: str
    port: int
    name: str
    prefix: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def places(node_file: Path, broker: str | None = None) -> list[Place]:
    """As `places_of`, of a node file that is yet to be read. Raises UserFileError too."""
    return places_of(load(node_file), broker)


def places_of(found: NodeFile, broker: str | None = None) -> list[Place]:
    """The brokers of a node file, in order of preference.

    `broker` is where this machine reaches them instead, HOST or HOST:PORT. Raises UsageError.
    """
    known = [Place(each.host, each.port, each.name or each.host, found.prefix) for each in found.broker]
    if broker is None:
        return known
    host, colon, port = broker.rpartition(":") if ":" in broker else (broker, "", str(_PORT))
    if not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise UsageError(f"--broker '{broker}': write HOST, or HOST:PORT with a port from 1 to 65535.")
    check_broker_name(host)
    same = [each for each in known if each.host == host and (not colon or each.port == int(port))]
    return same or [Place(host, int(port), known[0].name, found.prefix)]


@contextlib.contextmanager
def reach(where: Sequence[Place], tls: TlsFiles) -> Iterator[Operator]:
    """An operator at the first broker that lets it in. Raises SubscriberError, with a sentence for each."""
    with contextlib.ExitStack() as stack:
        yield _first(where, tls, stack)


def _first(where: Sequence[Place], tls: TlsFiles, stack: contextlib.ExitStack) -> Operator:
    troubles = []
    for place in where:
        operator = Operator(place.host, place.port, tls, prefix=place.prefix, name=place.name)
        try:
            return stack.enter_context(operator)
        except SubscriberError as error:
            troubles.append(str(error))
    raise SubscriberError(" ".join(troubles))
