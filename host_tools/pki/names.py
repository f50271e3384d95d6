"""The names that stand in certificates: node ids, console names, broker addresses."""

import ipaddress
import re

from host_tools.errors import LimpetError

_NODE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,31}")
_CONSOLE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_HOST_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_CONSOLE_PREFIX = "limpet."

CONSOLE = "limpet.console"
"""The certificate name of the console that watches all nodes. A node id has no dot, so none can bear it."""

OPERATOR = "limpet.operator"
"""The certificate name of the operator: it watches all nodes as a console does, and sends them commands."""

OPERATOR_URI = "spiffe://limpet/operator"
"""The URI that an operator's certificate bears beside its common name."""


def is_node_id(text: str) -> bool:
    """Whether `text` may name a node: 1 to 32 of A-Z a-z 0-9 and '-', beginning with a letter or digit."""
    return _NODE_ID.fullmatch(text) is not None


def check_node_id(text: str) -> str:
    """Return `text` if it may name a node.

    Raises LimpetError otherwise.
    """
    if not is_node_id(text):
        raise LimpetError(
            f"The node id {text!r} is not valid: use 1 to 32 letters, digits and '-', "
            "beginning with a letter or digit."
        )
    return text


def device_uri(node_id: str) -> str:
    """The URI that a node's certificate bears beside its common name (SPIFFE ID, section 2)."""
    return f"spiffe://limpet/device/{node_id}"


def console_name(name: str) -> str:
    """The certificate name of the console called `name`, such as `limpet.console` for `console`.

    Raises LimpetError unless `name` is 1 to 32 lower-case letters, digits and inner '-', and not `operator`.
    """
    if not _CONSOLE.fullmatch(name):
        raise LimpetError(
            f"The console name {name!r} is not valid: use 1 to 32 lower-case letters, digits and inner '-'."
        )
    if _CONSOLE_PREFIX + name == OPERATOR:
        raise LimpetError(f"The console name {name!r} would make it an operator: choose another.")
    return _CONSOLE_PREFIX + name


def console_uri(common_name: str) -> str:
    """The URI that a console's certificate bears beside its common name."""
    return f"spiffe://limpet/console/{common_name.removeprefix(_CONSOLE_PREFIX)}"


def parse_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that `text` spells, or None if it spells none."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def check_broker_name(text: str) -> str:
    """Return `text` if a broker's certificate may bear it: an IP address or a host name (RFC 1123 §2.1).

    Raises LimpetError otherwise.
    """
    labels = text.split(".")
    if parse_ip(text) is None and (
        len(text) > 253 or labels[-1].isdigit() or not all(map(_HOST_LABEL.fullmatch, labels))
    ):
        raise LimpetError(f"The broker name {text!r} is neither a host name nor an IP address.")
    return text
