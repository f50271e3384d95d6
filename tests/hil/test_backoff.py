"""How a node that finds no broker tries again: sooner or later, but never in step with its neighbours."""

import re
from itertools import pairwise

from host_tools.hil.broker import Witness
from host_tools.hil.link import Link
from host_tools.hil.node import Node

SURELY_S = 40.0
"""Time for so many attempts that dice cannot give each of them the same pause by chance."""
FAILURE = re.compile(r"^\s*([\d.]+) uplink: \S+:\d+: ", re.MULTILINE)


def pauses(node: Node, since: int) -> list[float]:
    """Seconds from one failed attempt to the next, by the node's own clock."""
    return [b - a for a, b in pairwise(float(at) for at in FAILURE.findall(node.log.after(since)))]


def refuse(node: Node, link: Link) -> int:
    """Break the session, and let no other one begin; from where on to read the log."""
    since = node.log.mark()
    link.refuse()
    link.reset()
    return since


def test_attempts_become_rarer(node: Node, broker: Witness, link: Link) -> None:
    """Whoever has trouble is not asked at the same pace for ever."""
    since, first = refuse(node, link), node.settings["retry_ms"] / 1000
    broker.wait_for(lambda: any(each > 4 * first for each in pauses(node, since)), "a longer pause", SURELY_S)


def test_a_pause_is_any_part_of_what_it_may_be(node: Node, broker: Witness, link: Link) -> None:
    """Its limit doubles with each attempt, and dice say how much of that is waited: nodes that lose their
    broker together do not come back together."""
    since, first = refuse(node, link), node.settings["retry_ms"] / 1000

    def is_any_short() -> bool:
        return any(each < 0.85 * first * 2**i for i, each in enumerate(pauses(node, since)) if i)

    broker.wait_for(is_any_short, "a pause that is shorter than its limit", SURELY_S)
