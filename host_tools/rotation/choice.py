"""Which nodes are to be rotated."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from host_tools.errors import RefusedError, UsageError
from host_tools.fleet import IN_SERVICE, FleetError, Node
from host_tools.fleet.expiry import expires_within


def choose(
    nodes: Sequence[Node],
    ids: Sequence[str],
    every: bool,
    expiring: timedelta | None,
    now: datetime,
) -> list[Node]:
    """The nodes in service that were named, or all, or those whose certificates expire within that time.

    Raises UsageError unless exactly one of the three is given, FleetError for an id that the record does not
    have, RefusedError for one that is not in service.
    """
    if sum((bool(ids), every, expiring is not None)) != 1:
        raise UsageError("Name the nodes by their ids, or take --all, or --expiring 60d: one of the three.")
    serving = [node for node in nodes if node.state == IN_SERVICE]
    if every:
        return serving
    if expiring is not None:
        return [node for node in serving if expires_within(node.expires, expiring, now)]
    known = {node.node_id: node for node in nodes}
    for node_id in ids:
        if node_id not in known:
            raise FleetError(
                f"The fleet record has no node '{node_id}': `limpet fleet list` shows its nodes."
            )
        if known[node_id].state != IN_SERVICE:
            raise RefusedError(f"The node '{node_id}' is not in service: it is {known[node_id].state}.")
    return [known[node_id] for node_id in dict.fromkeys(ids)]
