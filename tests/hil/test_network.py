"""Wi-Fi and names: what fails there is told, stops nothing, and passes once it is mended."""

import re
from typing import Any

import pytest

from host_tools.hil.broker import Witness
from host_tools.hil.link import Link
from host_tools.hil.node import Node
from host_tools.hil.readings import Readings

SOON_S = 40.0
"""Many times what a node needs to look up a name and connect."""
TOLERANCE = 2.0
"""Periods; a machine whose cores are all busy takes a sample late."""
NAME = "broker.limpet.test"
FAULTS = {
    "silent": "no answer",
    "no-such-name": "no such name",
    "server-failure": "name server says error 2",
    "nonsense": "answers nonsense",
    "wrong-id": "answers nonsense",
    "cut-off": "name server answers nonsense",
}
"""Of a name server, and what the node says of each."""


def by_name(node: Node) -> list[dict[str, Any]]:
    """The node's broker, at a name instead of an address."""
    return [{**each, "host": NAME} for each in node.settings["brokers"]]


def assert_kept_on(found: Readings, node: Node) -> None:
    """All is there, and in the last epoch taken when it was due."""
    assert found.without_gaps()
    last = found[[each.epoch for each in found].index(found.epochs[-1]) :]
    for sensor in node.settings["sensors"]:
        for channel in (each for each in node.channels if each.startswith(f"{sensor['name']}/")):
            assert last.of(channel).without_gaps(sensor["period_ms"] / 1000, TOLERANCE)


@pytest.mark.needs("wifi")
def test_a_wrong_wifi_password_is_told_and_mended_from_outside(
    node: Node, broker: Witness, link: Link
) -> None:
    [wifi] = node.settings["wifi"]
    since = node.log.mark()
    link.wifi_password("not the one it knows")
    node.says(f"wifi: '{wifi['ssid']}': wrong password", since=since)
    link.wifi_on()
    assert_kept_on(broker.readings(node), node)


def test_the_second_network_is_tried(node: Node, broker: Witness) -> None:
    [wifi] = node.settings["wifi"]
    node.configure(wifi=[{"ssid": "limpet's other network", "password": "of no use here"}, wifi])
    node.says("wifi: 'limpet's other network': not found", SOON_S)
    node.says(f"wifi: joined '{wifi['ssid']}'", SOON_S)
    assert_kept_on(broker.readings(node), node)


@pytest.mark.needs("dns")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_name_server_that_fails_stops_nothing(node: Node, broker: Witness, link: Link, fault: str) -> None:
    """Nobody is believed, sampling goes on in its cadence, and once it is mended the broker is found."""
    link.name(NAME)
    link.names_fail(fault)
    sessions = len(broker.connections(node))
    node.configure(brokers=by_name(node))
    node.says(re.compile(rf"uplink: {re.escape(NAME)}:{link.port}: .*{FAULTS[fault]}"))
    assert len(broker.connections(node)) == sessions
    link.names_ok()
    broker.wait_for(lambda: len(broker.connections(node)) > sessions, "a session", SOON_S)
    assert_kept_on(broker.readings(node), node)
