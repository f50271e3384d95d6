"""Asking the nodes in service how they are, and what the broker knows that the record does not."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from host_tools.errors import LimpetError
from host_tools.fleet.database import Fleet
from host_tools.fleet.record import IN_SERVICE, Node, utc
from host_tools.telemetry.operator import Heard, Operator
from host_tools.telemetry.payload import is_plain_text, whole_number

_SIDE_BY_SIDE = 32
_TEXT = 200  # characters of an error, at most


@dataclass(frozen=True, slots=True)
class Answer:
    """What a node in service said when it was asked."""

    node_id: str
    at: str = ""
    """When it answered; empty when it did not."""
    why: str = ""
    """Why there is no answer."""
    uptime: int | None = None
    spool: int | None = None
    """Readings that wait for the broker."""
    error: str = ""
    """What ended its latest session."""
    stranger: str = ""
    """The fingerprint by which it comes, when the record has another one."""


def refresh(fleet: Fleet, operator: Operator, patience: float) -> tuple[list[Answer], dict[str, str]]:
    """Ask every node in service for its health, and note in the record who answered.

    Also the node ids that the broker knows and the record does not have in service, each with what is odd.
    """
    nodes = fleet.nodes()
    serving = [node for node in nodes if node.state == IN_SERVICE]

    def ask(node: Node) -> Answer:
        heard = operator.of(node.node_id)
        answer = _asked(operator, node, heard, patience)
        if answer.at:
            fleet.seen(node.node_id, datetime.fromisoformat(answer.at))
        return answer

    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        try:
            answers = list(pool.map(ask, serving))
        except BaseException:
            operator.call_off()
            pool.shutdown(cancel_futures=True)
            raise
    return answers, strangers(nodes, operator.heard())


def strangers(nodes: Sequence[Node], heard: Mapping[str, Heard]) -> dict[str, str]:
    """What is odd about the nodes that the broker knows, by their ids."""
    states = {node.node_id: node.state for node in nodes}
    found = {}
    for node_id, words in sorted(heard.items()):
        state = states.get(node_id)
        if state is None:
            found[node_id] = "the record does not have it"
        elif state != IN_SERVICE and words.is_up:
            found[node_id] = f"it is connected, and {state}"
    return found


def _asked(operator: Operator, node: Node, heard: Heard, patience: float) -> Answer:
    if not heard.is_up:
        return Answer(node.node_id, why="not connected")
    try:
        health = operator.ask(node.node_id, b"health", patience)
    except LimpetError as error:
        return Answer(node.node_id, why=str(error))
    trouble = health.get("error")
    other = heard.certificate if heard.certificate not in ("", node.fingerprint) else ""
    return Answer(
        node.node_id,
        utc(datetime.now(UTC)),
        uptime=whole_number(health.get("uptime")),
        spool=whole_number(health.get("spool")),
        error=trouble if isinstance(trouble, str) and is_plain_text(trouble, _TEXT) else "",
        stranger=other,
    )
