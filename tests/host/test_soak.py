"""What takes minutes (`make soak`): a node in random trouble, and what it must show at the end."""

import os
import random
import time
from pathlib import Path

import pytest

from host_tools.virtual.parts.bme280 import BME280
from host_tools.virtual.parts.current_loop import CurrentLoop
from host_tools.virtual.parts.ds18b20 import DS18B20
from tests.host.stand import Node, Stand, wait_until

MINUTES = float(os.environ.get("SOAK_MINUTES", "10"))
SEED = int(os.environ.get("SOAK_SEED", str(int(time.time()))))

pytestmark = [pytest.mark.soak, pytest.mark.timeout(0)]


def _trouble(stand: Stand, node: Node, dice: random.Random) -> str:
    """Make one trouble, and end it after a few seconds."""
    kind = dice.choice(["radio", "broker", "sensor", "clock"])
    if kind == "radio":
        with node.off_air():
            time.sleep(dice.uniform(0.1, 8))
    elif kind == "broker":
        stand.stop_broker()
        stand.restart_broker(node, pause=dice.uniform(0, 3))
    elif kind == "sensor":
        parts: list[BME280 | DS18B20 | CurrentLoop] = [node.bme280, node.probe, node.loop]
        part = dice.choice(parts)
        part.fault = {BME280: "no-ack", DS18B20: "crc", CurrentLoop: "wire-break"}[type(part)]
        time.sleep(dice.uniform(0.1, 3))
        part.fault = None
    else:
        now = stand.time_server.now
        stand.time_server.now = lambda: now() + 10 * 365 * 86400
        time.sleep(dice.uniform(0.1, 3))
        stand.time_server.now = now
    return kind


def test_random_trouble_loses_nothing(tmp_path: Path) -> None:
    dice = random.Random(SEED)
    with Stand(tmp_path) as stand:
        node = stand.node().start()
        stand.wait_for_readings(node, 20)
        wait_until(lambda: stand.health(node), "health")
        health = stand.health(node)
        assert health is not None
        end = time.monotonic() + MINUTES * 60
        troubles: dict[str, int] = {}
        lowest = health["heap_free"]
        while time.monotonic() < end:
            kind = _trouble(stand, node, dice)
            troubles[kind] = troubles.get(kind, 0) + 1
            seen = len(stand.readings(node))
            stand.wait_for_readings(node, seen + 20)
            health = stand.health(node)
            assert health is not None
            lowest = min(lowest, health["heap_free"])
        wait_until(lambda: (stand.health(node) or {})["spool"] < 20, "the backlog delivered")
        ledger = stand.ledger(node)
        print(f"seed {SEED}: {troubles}, {ledger.readings} readings, lowest free heap {lowest}")
        assert (ledger.lost, health["lost"], node.board.boots) == (0, 0, 1)
        assert "Traceback" not in node.log
        # Readings come once, unless a PUBACK was lost with its connection: then the receiver drops them.
        lost_sessions = troubles.get("broker", 0) + troubles.get("radio", 0)
        print(f"{ledger.duplicates} duplicates in {lost_sessions} lost sessions")
        assert ledger.duplicates <= 300 * lost_sessions  # half a minute's readings
