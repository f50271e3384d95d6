"""Outages between node and broker: nothing is lost, and everything comes in order, with its true time."""

import pytest

from host_tools.hil.broker import Witness
from host_tools.hil.link import Link
from host_tools.hil.node import Node
from host_tools.hil.readings import Readings

OUTAGE_S = 3.0
"""Several readings of a quick channel."""
KEEPALIVE_S = 5
"""As short as a node has it, so that its deadlines are soon there."""
SLACK_S = 1.0
"""How late a reading may be on a machine that has other things to do as well; it is dated all the same."""


def wait_for_session(broker: Witness, node: Node, number: int) -> None:
    broker.wait_for(lambda: len(broker.connections(node)) >= number, f"the node's session {number}")


def complete(broker: Witness, node: Node) -> Readings:
    """All readings, once those of the outage have come: without a gap, in order, and at their times."""
    found = broker.readings(node)
    assert found.without_gaps()
    assert found.in_order()
    for sensor in node.settings["sensors"]:
        for channel in node.channels:
            if channel.startswith(f"{sensor['name']}/"):
                period = sensor["period_ms"] / 1000
                assert found.of(channel).without_gaps(period, tolerance=SLACK_S / period)
    return found


def test_backlog_survives_an_outage(node: Node, broker: Witness, link: Link) -> None:
    link.cut()
    node.run_for(OUTAGE_S)
    link.restore()
    complete(broker, node)


def test_backlog_survives_a_broker_that_stops(node: Node, broker: Witness) -> None:
    broker.stop()
    node.run_for(OUTAGE_S)
    broker.start()
    complete(broker, node)


def test_backlog_survives_a_broker_that_dies(node: Node, broker: Witness) -> None:
    broker.kill()
    node.run_for(OUTAGE_S)
    broker.start()
    complete(broker, node)


def test_backlog_survives_a_broker_that_forgets_everything(node: Node, broker: Witness) -> None:
    """It has no session any more: what was not confirmed is sent again."""
    broker.restart(forget=True)
    complete(broker, node)
    assert broker.retained(node, "state") == broker.state(node)


def test_backlog_survives_a_broker_that_stands_still(node: Node, broker: Witness) -> None:
    broker.pause()
    node.run_for(OUTAGE_S)
    broker.resume()
    complete(broker, node)


def test_backlog_survives_refused_connections(node: Node, broker: Witness, link: Link) -> None:
    link.refuse()
    link.reset()
    node.run_for(OUTAGE_S)
    link.restore()
    complete(broker, node)


@pytest.mark.parametrize("times", [5])
def test_backlog_survives_connections_that_break(node: Node, broker: Witness, link: Link, times: int) -> None:
    first = len(broker.connections(node))
    for sessions in range(first, first + times):
        wait_for_session(broker, node, sessions)
        link.reset()
    complete(broker, node)


def test_a_link_that_only_looks_open_is_noticed(node: Node, broker: Witness, link: Link) -> None:
    """Nothing comes back, and nothing says so: the node has a deadline of its own (1.4 keepalives)."""
    node.configure(keepalive=KEEPALIVE_S)
    broker.readings(node)
    sessions = len(broker.connections(node))
    link.half_open()
    broker.wait_for(
        lambda: len(broker.connections(node)) > sessions, "a session after the half-open one", 6 * KEEPALIVE_S
    )
    found = broker.readings(node)
    assert found.without_gaps() and found.in_order()


def test_a_slow_and_lossy_link_loses_nothing(node: Node, broker: Witness, link: Link) -> None:
    link.latency(0.1)
    link.loss(0.1)
    broker.wait_for_readings(node, 60)
    link.clear()
    complete(broker, node)


def test_a_throttled_link_loses_nothing(node: Node, broker: Witness, link: Link) -> None:
    """A backlog over 4 kB a second, less than a poor GPRS link has."""
    link.cut()
    node.run_for(OUTAGE_S)
    link.throttle(4000)
    link.restore()
    complete(broker, node)


@pytest.mark.needs("wifi")
def test_backlog_survives_an_access_point_that_goes(node: Node, broker: Witness, link: Link) -> None:
    link.wifi_off()
    node.run_for(OUTAGE_S)
    link.wifi_on()
    complete(broker, node)
