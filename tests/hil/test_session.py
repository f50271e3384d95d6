"""The MQTT session, packet by packet."""

from host_tools.hil.broker import Witness
from host_tools.hil.link import Link
from host_tools.hil.node import Node

SLOW_S = 0.4
"""Latency each way: several packets are on their way at any time."""
MANY = 8
"""Packets of readings."""


def test_no_packet_has_the_id_of_another(node: Node, broker: Witness) -> None:
    """So a PUBACK can only count for its own packet (MQTT 3.1.1 section 2.3.1)."""
    broker.wait_for(lambda: len(broker.packets(node)) > MANY, f"{MANY} packets")
    numbers = [each.number for each in broker.packets(node) if not each.again]
    assert len(numbers) == len(set(numbers)), numbers


def test_what_is_sent_again_says_so(node: Node, broker: Witness, link: Link) -> None:
    """The broker had it, and the node did not get to know: it is the same packet once more, with DUP."""
    link.latency(SLOW_S)
    before = len(broker.packets(node))
    broker.wait_for(lambda: len(broker.packets(node)) > before + 2, "packets over the slow link")
    link.reset()
    link.clear()
    broker.readings(node)
    seen: set[int] = set()
    repeated = []
    for each in broker.packets(node):
        if each.number in seen:
            repeated.append(each)
        seen.add(each.number)
    assert repeated and all(each.again for each in repeated), repeated
