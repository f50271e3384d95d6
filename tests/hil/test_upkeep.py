"""What keeps a node in service for years: its resources, its upkeep over the network and by the port."""

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from host_tools.esp.chip import connect
from host_tools.hil.broker import Witness
from host_tools.hil.link import Link
from host_tools.hil.node import Node
from host_tools.hil.rig import Rig

SOON_S = 20.0
"""Many times what a node needs that waits milliseconds before it tries again."""
WARM_UP = 5
"""Connections after which everything that is loaded once is loaded."""
HEALTH = "uptime clock drift reset boot heap_free spool spool_size lost damaged late_ms missed connects joins"
HEALTH += " malformed rssi error sensors"
"""What docs/wire.md lists."""


class Other:
    """A node that there is not."""

    id = "other"


def ups(broker: Witness, node: Node) -> int:
    """How many sessions the node has begun."""
    return sum(bool(each["up"]) for each in broker.states(node))


def reconnect(broker: Witness, node: Node, link: Link) -> None:
    """Break the session, and wait until another one has brought something."""
    sessions, count = ups(broker, node), len(broker.readings(node, settle=None))
    link.reset()
    broker.wait_for(lambda: ups(broker, node) > sessions, "another session", SOON_S)
    broker.wait_for(lambda: len(broker.readings(node, settle=None)) > count, "another reading")


def next_socket(node: Node) -> int:
    """The number that a socket gets which is opened now: the more are open, the higher it is."""
    with node.repl() as board:
        return int(board.eval("__import__('socket').socket().fileno()"))


def changed(rig: Rig, folder: Path, file: str, change: Callable[[str], str]) -> Path:
    """A copy of the firmware with another text in one file."""
    shutil.copytree(rig.firmware, folder, dirs_exist_ok=True)
    path = folder / file
    path.write_text(change(path.read_text()))
    return folder


# Resources


@pytest.mark.parametrize("times", [40, pytest.param(200, marks=pytest.mark.soak)])
def test_connections_that_break_cost_no_memory(node: Node, broker: Witness, link: Link, times: int) -> None:
    node.configure(retry_ms=5, batch_ms=20)
    broker.readings(node)
    for _ in range(WARM_UP):
        reconnect(broker, node, link)
    before = broker.command(node, "health")
    for _ in range(times):
        reconnect(broker, node, link)
    after = broker.command(node, "health")
    assert after["connects"] >= before["connects"] + times
    assert before["heap_free"] - after["heap_free"] < 400
    assert sum(not each.end for each in link.connections) == 1


def test_brokers_that_are_refused_cost_no_sockets(node: Node, broker: Witness, link: Link) -> None:
    """A handshake that fails on the node's side leaves nothing open."""
    socket = next_socket(node)
    node.configure(retry_ms=5)
    broker.present("unknown-ca")
    count = len(link.connections)
    broker.wait_for(lambda: len(link.connections) > count + 6, "refused brokers")
    assert next_socket(node) <= socket + 1


# Commands


def test_health_says_what_the_wire_has(node: Node, broker: Witness) -> None:
    told = broker.command(node, "health")
    assert sorted(told) == sorted(HEALTH.split())
    assert told["sensors"] == {each["name"]: "good" for each in node.settings["sensors"]}
    assert told["boot"] == (broker.state(node) or {})["boot"]
    assert (told["lost"], told["damaged"], told["malformed"], told["error"]) == (0, 0, 0, None)
    assert told["heap_free"] > 0 and told["spool_size"] > told["spool"]


@pytest.mark.parametrize("command", ["reboot", "", "Health", "health now", b"\xff\x00"])
def test_an_unknown_command_is_refused(node: Node, broker: Witness, command: str | bytes) -> None:
    assert broker.command(node, command) == {"error": "unknown command"}
    assert broker.readings(node).without_gaps()
    assert ups(broker, node) == 1


def test_a_command_for_another_node_is_not_obeyed(node: Node, broker: Witness) -> None:
    question = broker.tell(Other(), "health")
    assert broker.command(node, "health")
    assert not broker.answers(Other(), question) and not broker.answers(node, question)


def test_a_command_that_was_answered_is_not_done_again(node: Node, broker: Witness, link: Link) -> None:
    question = broker.tell(node, "health")
    broker.wait_for(lambda: broker.answers(node, question), "the answer", 30)
    for _ in range(2):
        reconnect(broker, node, link)
    assert broker.command(node, "health")
    assert len(broker.answers(node, question)) == 1


def test_a_command_waits_for_a_node_that_is_away(node: Node, broker: Witness, link: Link) -> None:
    link.cut()
    link.reset()
    broker.wait_for(lambda: broker.wills(node), "the last will")
    question = broker.tell(node, "health")
    link.restore()
    broker.wait_for(lambda: broker.answers(node, question), "the answer", 30)


def test_a_broker_that_forgets_the_node_can_still_command_it(node: Node, broker: Witness) -> None:
    broker.restart(forget=True)
    broker.readings(node)
    assert broker.command(node, "health", 30)


# The firmware


def test_a_deploy_keeps_backlog_identity_and_settings(
    node: Node, broker: Witness, link: Link, rig: Rig, tmp_path: Path
) -> None:
    before = broker.wait_for(lambda: broker.about(node), "what the node tells of itself")
    link.cut()
    link.reset()
    node.run_for(1)
    node.deploy(
        changed(
            rig,
            tmp_path / "firmware",
            "limpet/__init__.py",
            lambda text: re.sub(r'(?m)^__version__ = ".+"', '__version__ = "99.9"', text),
        )
    )
    node.run_for(1)
    link.restore()
    found = broker.readings(node)
    assert found.without_gaps() and len(found.epochs) == 1
    assert broker.about(node) == {**before, "firmware": "99.9"}


def test_a_firmware_that_does_not_start_says_so_and_can_be_replaced(
    node: Node, broker: Witness, rig: Rig, tmp_path: Path
) -> None:
    node.deploy(
        changed(rig, tmp_path, "limpet/node.py", lambda text: f'raise RuntimeError("of no use")\n{text}')
    )
    node.reset()
    node.says("RuntimeError: of no use")
    node.deploy(rig.firmware)
    found = broker.readings(node)
    assert found.without_gaps() and len(found.epochs) == 1


# The end


@pytest.mark.needs("download")
def test_an_erased_board_has_nothing_left(node: Node, broker: Witness) -> None:
    """As `limpet decommission` erases it; and it may be a node again."""
    with node.port_free() as port, connect(port, baud=921600) as chip:
        chip.erase_all()
        assert chip.md5(0, chip.flash_size) == hashlib.md5(b"\xff" * chip.flash_size).hexdigest()
        chip.reset()
    assert node.answers(seconds=1) is None
    node.restore()
    assert broker.readings(node)
