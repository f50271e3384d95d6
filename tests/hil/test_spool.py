"""The spool: what it keeps when nobody takes it, and what it tells of what it could not keep."""

from typing import Any

import pytest

from host_tools.hil.broker import Witness
from host_tools.hil.link import Link
from host_tools.hil.node import Node
from host_tools.hil.rig import Rig
from host_tools.partitions import SECTOR
from host_tools.telemetry.event import Gap, Remark

SECTORS = 3
"""As few as there may be, so that the spool is soon full."""
FEW = 100
"""Readings: more than the node repeats after a reset, fewer than a sector holds."""


def hasty(node: Node) -> list[dict[str, Any]]:
    """Its sensors, which measure as often as they can."""
    return [
        each if each["kind"] == "ds18b20" else {**each, "period_ms": 25} for each in node.settings["sensors"]
    ]


def readings_a_second(broker: Witness, node: Node) -> float:
    about = broker.wait_for(lambda: broker.about(node), "what the node tells of itself")
    return sum(1000 / float(channel["period_ms"]) for channel in about["channels"])


def go_away(link: Link) -> None:
    """Nothing is on its way any more, and nobody comes in before `restore`."""
    link.cut()
    link.reset()


@pytest.mark.needs("sensor:bme280")
def test_a_full_spool_gives_up_the_oldest_readings_and_tells_which(
    node: Node, broker: Witness, link: Link, rig: Rig
) -> None:
    node.provision(settings={**node.settings, "sensors": hasty(node)}, spool_sectors=SECTORS)
    broker.readings(node)
    room = int(broker.command(node, "health")["spool_size"])
    go_away(link)
    node.run_for(1.5 * room / readings_a_second(broker, node))
    before = broker.readings(node, settle=None)[-1]
    link.restore()
    broker.readings(node)
    found = broker.readings(node).of_epoch(before.epoch)  # by now everything from before the first call
    holes = found.holes
    assert holes[0].first == before.seq + 1 and all(hole.told == hole.count for hole in holes), holes
    gaps = {each for each in broker.events(node) if isinstance(each, Gap)}
    assert {each.why for each in gaps} == {"full"}
    assert broker.command(node, "health")["lost"] == sum(each.count for each in gaps)
    back = [each.at for each in rig.events() if each.text.endswith(f"{node.id}/state")][-1]
    kept = [each for each in found.between(0, back) if each.seq > holes[0].last]
    assert found.in_order() and len(kept) > 0.6 * room


def test_a_damaged_record_is_told_and_costs_no_other(node: Node, broker: Witness, link: Link) -> None:
    """What is left of it is not taken for a reading."""
    go_away(link)
    node.run_for(2)
    with node.repl():
        held = node.flash.read("spool", 0, SECTOR)
        slot = [each for each in range(0, SECTOR, 16) if held[each : each + 16] != bytes([0xFF] * 16)][-8]
        value = slot + 8  # of a reading; one bit of it turns
        node.flash.write("spool", bytes([held[value] ^ 0x10]), value)
    link.restore()
    found = broker.readings(node)
    [hole] = found.holes
    assert (hole.count, hole.told) == (1, 1)
    assert [each.why for each in broker.events(node) if isinstance(each, Gap)] == ["damaged"]
    assert broker.command(node, "health")["damaged"] == 1
    assert not found.altered


def test_readings_that_were_acknowledged_do_not_come_again(node: Node, broker: Witness) -> None:
    """But for the last few: the flash is spared."""
    node.configure(sensors=hasty(node))
    broker.wait_for_readings(node, 2 * FEW + 20)
    node.reset()
    assert broker.readings(node).duplicates < FEW


def test_a_backlog_of_several_boots_comes_in_order(node: Node, broker: Witness, link: Link) -> None:
    go_away(link)
    for _ in range(3):
        node.run_for(1)
        node.reset()
        node.says("clock: synced")
    link.restore()
    found = broker.readings(node)
    assert found.without_gaps() and found.in_order()
    assert len(found.epochs) == 1
    for channel in node.channels:
        assert found.of(channel).times == sorted(found.of(channel).times)


def test_without_a_partition_for_it_readings_are_kept_in_ram(node: Node, broker: Witness, link: Link) -> None:
    node.provision(spool_sectors=0)
    node.says("uplink: connected")
    [told] = broker.wait_for(
        lambda: [each for each in broker.events(node) if isinstance(each, Remark)], "an event"
    )
    assert (told.source, "kept in RAM" in told.text) == ("spool", True)
    go_away(link)
    node.run_for(2)
    link.restore()
    found = broker.readings(node)
    assert found.of_epoch(found.epochs[-1]).without_gaps()


class Other:
    id = "other"


def test_another_nodes_readings_are_never_sent_as_its_own(node: Node, broker: Witness, link: Link) -> None:
    go_away(link)
    node.run_for(2)
    node.flash.write("identity", broker.fresh_identity(Other.id))
    link.restore()
    found = broker.readings(Other())
    assert found.without_gaps()
    assert not set(found.epochs) & set(broker.readings(node, settle=None).epochs)
    assert [each.text for each in broker.events(Other()) if isinstance(each, Remark)] == [
        "the spool was another node's; its readings are given up"
    ]
