"""What a broker sees of a node: its state, its will, its first session and the next; and a second broker."""

import pytest

from host_tools.hil.broker import Witness
from host_tools.hil.link import Link
from host_tools.hil.node import Node
from host_tools.hil.power import PowerControl
from host_tools.hil.rig import Rig


def is_up(broker: Witness, node: Node) -> bool:
    state = broker.state(node)
    return bool(state and state["up"])


def test_it_tells_what_it_is_and_what_it_measures(node: Node, broker: Witness, rig: Rig) -> None:
    about = broker.wait_for(lambda: broker.about(node), "what the node tells of itself")
    assert (about["node"], about["firmware"]) == (node.id, rig.where.firmware)
    assert [each["n"] for each in about["channels"]] == list(node.channels)
    assert broker.retained(node, "about") == about


@pytest.mark.needs("power")
def test_the_will_speaks_for_a_node_without_power(node: Node, broker: Witness, power: PowerControl) -> None:
    assert is_up(broker, node)
    power.off()
    broker.wait_for(lambda: broker.wills(node), "the last will")
    assert broker.retained(node, "state") == broker.wills(node)[-1]
    power.on()
    broker.wait_for(lambda: is_up(broker, node), "the node's state after its will")
    assert broker.retained(node, "state") == broker.state(node)


def test_the_will_speaks_for_a_node_that_cannot(node: Node, broker: Witness, link: Link) -> None:
    """Its silence alone tells the broker: 1.5 times the keepalive (MQTT 3.1.1 section 3.1.2.10)."""
    node.configure(keepalive=5)
    broker.wait_for(lambda: is_up(broker, node), "the node's state")
    before = len(broker.wills(node))
    link.cut()
    broker.wait_for(lambda: len(broker.wills(node)) > before, "the last will")
    link.restore()
    broker.wait_for(lambda: is_up(broker, node), "the node's state after its will")


def test_a_quiet_session_is_kept_alive(node: Node, broker: Witness) -> None:
    """With nothing to say for longer than the keepalive, it pings: the broker never gives it up."""
    quiet = [{**each, "period_ms": 60_000} for each in node.settings["sensors"]]
    node.configure(sensors=quiet, keepalive=5, health_s=3600)
    broker.wait_for(lambda: is_up(broker, node), "the node's state")
    sessions, wills = len(broker.connections(node)), len(broker.wills(node))
    node.run_for(9)
    assert (len(broker.connections(node)), len(broker.wills(node))) == (sessions, wills)


def test_the_broker_keeps_its_session(node: Node, broker: Witness, link: Link) -> None:
    """Persistent, under its own name: a command sent while it is away reaches it later."""
    link.reset()
    broker.wait_for(lambda: len(broker.connections(node)) > 1, "the next session")
    assert broker.command(node, "health")
    assert {each.client for each in broker.connections(node)} == {node.id}
    assert not any(each.clean for each in broker.connections(node))


def test_after_a_good_session_the_first_broker_comes_first(
    node: Node, broker: Witness, link: Link, rig: Rig
) -> None:
    """A restart of it does not leave the node with its stand-in."""
    first = node.settings["brokers"][0]
    second = rig.another_broker()
    node.configure(brokers=[first, {**first, "host": second.address, "port": second.port}])
    broker.readings(node)
    node.run_for(1)
    sessions = len(broker.connections(node))
    link.reset()
    broker.wait_for(
        lambda: len(broker.connections(node)) > sessions or second.connections(node), "the next session"
    )
    assert not second.connections(node)


def test_the_second_broker_helps_out_and_the_first_comes_back(node: Node, broker: Witness, rig: Rig) -> None:
    """While the first is away the second gets the readings; once that one goes, the first one again, and of
    both together nothing is missing."""
    first = node.settings["brokers"][0]
    second = rig.another_broker()
    node.configure(brokers=[first, {**first, "host": second.address, "port": second.port}])
    broker.wait_for_readings(node, 3)
    broker.stop()
    second.wait_for_readings(node, 3)
    broker.start()
    sessions = len(broker.connections(node))
    second.stop()
    broker.wait_for(lambda: len(broker.connections(node)) > sessions, "the node at the first broker")
    assert (broker.readings(node) + second.readings(node, settle=None)).without_gaps()
