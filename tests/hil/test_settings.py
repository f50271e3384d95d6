"""Settings: what is changed in the file counts from the next start on, and costs nothing that was kept."""

import json
from typing import Any

from host_tools.hil.broker import Witness
from host_tools.hil.link import Link
from host_tools.hil.node import Node
from host_tools.hil.rig import Rig

PATH = "limpet.json"
TOLERANCE = 2.0
"""Periods; a machine whose cores are all busy takes a sample late."""
OTHER_VERSION = "/limpet.json is not of this firmware's version: deploy firmware and settings together"


def write(node: Node, **changes: Any) -> None:
    """Change settings in the node's file system, and start it anew with all that it has kept."""
    node.files.write(PATH, json.dumps({**node.settings, **changes}).encode())


def channels(node: Node, sensor: dict[str, Any]) -> list[str]:
    return [each for each in node.channels if each.startswith(f"{sensor['name']}/")]


def test_readings_keep_the_names_under_which_they_were_taken(node: Node, broker: Witness, link: Link) -> None:
    """They wait in the flash while their sensor gets another name, and the ones after it go on with their
    numbers."""
    first, *others = node.settings["sensors"]
    old = channels(node, first)
    broker.readings(node)
    link.cut()
    came = len(broker.readings(node, settle=None))
    node.run_for(2)
    write(node, sensors=[{**first, "name": "renamed"}, *others])
    link.restore()
    found = broker.readings(node)
    assert found.without_gaps() and found.in_order()
    waited = [each.seq for each in found[came:] if each.channel in old]
    renamed = [each.seq for each in found if each.channel.startswith("renamed/")]
    assert waited and renamed and max(waited) < min(renamed)


def test_other_sensors_count_from_the_next_start_on(node: Node, broker: Witness) -> None:
    """Only one of them is left, at half its pace: the node says so, and does so."""
    first = node.settings["sensors"][0]
    period = first["period_ms"] * 2
    write(node, sensors=[{**first, "period_ms": period}])
    expected = [(each, period) for each in channels(node, first)]

    def about() -> list[tuple[str, int]]:
        told = broker.about(node) or {"channels": []}
        return [(each["n"], each["period_ms"]) for each in told["channels"]]

    broker.wait_for(lambda: about() == expected, "what the node tells of its channels")
    count = len(broker.readings(node))
    found = broker.wait_for_readings(node, count + 4 * len(expected))
    assert found.without_gaps() and len(found.epochs) == 1
    assert found[count:].channels == sorted(name for name, _ in expected)
    for name, _ in expected:
        assert found[count:].of(name).without_gaps(period / 1000, TOLERANCE)


def test_settings_of_a_newer_firmware_are_refused_and_mended(node: Node, broker: Witness) -> None:
    """The node says why it does not start; with the right ones it goes on where it was."""
    write(node, v=node.settings["v"] + 1)
    node.says(f"cannot start: {OTHER_VERSION}")
    sessions = len(broker.connections(node))
    write(node)
    broker.wait_for(lambda: len(broker.connections(node)) > sessions, "a session")
    found = broker.readings(node)
    assert found.without_gaps() and len(found.epochs) == 1


def test_another_prefix_is_that_of_all_topics(node: Node, broker: Witness, rig: Rig) -> None:
    """Readings, what is retained, commands and answers; those that were kept go there too."""
    plant = rig.another_broker("plant/north")
    first = node.settings["brokers"][0]
    write(node, prefix=plant.prefix, brokers=[{**first, "host": plant.address, "port": plant.port}])
    assert plant.readings(node).in_order()
    assert plant.command(node, "health")["connects"] == 1
    state = plant.retained(node, "state")
    assert state and state["up"] and plant.about(node)
    assert (broker.readings(node, settle=None) + plant.readings(node, settle=None)).without_gaps()
