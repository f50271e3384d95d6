"""A start: what the board says, and what it comes back to."""

import re
from typing import Literal

import pytest

from host_tools.hil.broker import Witness
from host_tools.hil.node import Node
from host_tools.hil.power import PowerControl
from host_tools.hil.rig import Rig


def boot_of(broker: Witness, node: Node) -> int:
    """The number of the node's boot, as its last session began with it."""
    return [int(each["boot"]) for each in broker.states(node) if each["up"]][-1]


def cause_of(broker: Witness, node: Node, boot: int) -> str:
    """What was the cause of a boot, once the node has told that."""

    def told() -> str | None:
        health = broker.health(node)
        return str(health["reset"]) if health and health["boot"] == boot else None

    return broker.wait_for(told, f"the health report of boot {boot}")


def assert_complete(broker: Witness, node: Node) -> None:
    """All readings are there, but for records that were half written: of those the node has told."""
    readings = broker.readings(node)
    assert len(readings.epochs) == 1
    assert all(hole.told == hole.count for hole in readings.holes), readings.holes


def assert_waits_for_help(node: Node, complaint: str) -> None:
    """It says what is wrong, and still answers; nothing has crashed, and nothing was reset."""
    node.says(f"cannot start: {complaint}")
    assert node.answers() == "-"
    said = node.log.after(node.log.since)
    assert "Traceback" not in said and said.count("node: limpet") == 1


def test_the_banner_says_what_runs_and_who_it_is(node: Node, rig: Rig) -> None:
    node.says(re.compile(rf"limpet {re.escape(rig.where.firmware)}\b"))
    node.says(f"I am '{node.id}'")


def test_it_answers_who_it_is_without_stopping(node: Node, broker: Witness) -> None:
    assert node.answers() == node.id
    assert broker.readings(node).without_gaps()


@pytest.mark.parametrize(
    ("way", "cause"),
    [
        ("machine.reset()", "reset"),
        ("machine.soft_reset()", "soft reset"),
        ("machine.deepsleep(500)", "deep sleep"),
        ("w = machine.WDT(timeout=500)", "watchdog"),  # that nobody feeds
    ],
    ids=["reset", "soft-reset", "deep-sleep", "watchdog"],
)
def test_it_comes_back_and_says_why_it_was_away(node: Node, broker: Witness, way: str, cause: str) -> None:
    boot = boot_of(broker, node) + 1
    node.enter(f"import machine\n{way}")
    assert cause_of(broker, node, boot) == cause
    readings = broker.readings(node)
    assert readings.without_gaps() and len(readings.epochs) == 1


def test_the_reset_button_costs_no_reading(node: Node, broker: Witness) -> None:
    boot = boot_of(broker, node)
    for _ in range(2):
        node.reset()
        node.says("uplink: connected")
    readings = broker.readings(node)
    assert readings.without_gaps() and len(readings.epochs) == 1
    assert boot_of(broker, node) == boot + 2


@pytest.mark.needs("power")
def test_power_that_fails_while_it_starts(node: Node, broker: Witness, power: PowerControl) -> None:
    boot = boot_of(broker, node)
    power.off()
    for said in ("node: limpet", "I am '", "wifi: joined", "clock: synced", "uplink: connected"):
        power.cut_when(said)
        power.on()
        power.wait_until_off()
    power.on()
    assert_complete(broker, node)
    # Each counts that got as far as Wi-Fi: by then there were samples, and the flash knows of the boot.
    boot += 4
    assert boot <= boot_of(broker, node) <= boot + 2
    assert cause_of(broker, node, boot_of(broker, node)) == "power-on"


@pytest.mark.needs("power:flash")
@pytest.mark.parametrize("how", ["before", "torn", "after"])
def test_power_that_fails_while_a_start_writes_to_flash(
    node: Node, broker: Witness, power: PowerControl, how: Literal["before", "torn", "after"]
) -> None:
    for operation in (1, 2, 3, 4):
        power.cut_at_flash(operation, how)
        power.wait_until_off()
    power.on()
    assert_complete(broker, node)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (b'{"v":0}', "/limpet.json is not of this firmware's version: deploy firmware and settings together"),
        (b'{"v":1}', "/limpet.json lacks 'board': deploy the node's settings again"),
    ],
    ids=["of-another-version", "incomplete"],
)
def test_settings_that_cannot_be_used(node: Node, settings: bytes, complaint: str) -> None:
    node.provision(settings=settings)
    assert_waits_for_help(node, complaint)


@pytest.mark.needs("download")
def test_damaged_settings_do_not_open_the_serial_port(node: Node) -> None:
    """They may have been those of a locked node, whose key is behind it."""
    node.provision(settings=b"{")
    node.says("cannot start: /limpet.json is damaged: deploy the node's settings again")
    node.log.write(b"\r\x03\x03")
    assert_waits_for_help(node, "/limpet.json is damaged")
    assert ">>>" not in node.log.after(node.log.since)


def test_a_board_without_settings(node: Node) -> None:
    node.provision(files={"limpet.json": None})
    assert_waits_for_help(node, "there is no /limpet.json: deploy the node's settings")


def test_a_board_without_identity(node: Node, broker: Witness) -> None:
    node.provision(identity=b"")
    assert_waits_for_help(node, "identity partition is blank")
    node.restore()
    assert broker.readings(node).in_order()
