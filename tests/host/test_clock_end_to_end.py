"""How readings of a whole node are dated, whatever its clock has been through."""

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from mpremote.transport_serial import SerialTransport

from host_tools.telemetry.senml import Reading
from tests.host.stand import BME280_SPEC, Stand, wait_until

TEMPERATURE = "bme280/temperature"


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with Stand(tmp_path) as stand:
        yield stand


def of_boot(readings: list[Reading], began: float, ended: float, quality: str) -> list[Reading]:
    """The readings of a boot, by their quality and by bounds that must hold the true time."""
    found = [r for r in readings if r.quality == quality]
    for reading in found:
        earliest = reading.unix_ms / 1000
        latest = earliest if reading.later_s == 0 else earliest + (reading.later_s or float("inf"))
        assert earliest <= ended + 1, (reading, ended)
        assert latest >= began - 1, (reading, began)
    return found


def test_a_boot_that_never_had_the_time_is_dated_between_its_neighbours(stand: Stand) -> None:
    node = stand.node(stand.settings(BME280_SPEC)).start()
    stand.wait_for_readings(node, 9)
    wait_until(lambda: stand.readings(node)[-1].quality == "synced", "a synced reading")
    node.power_off()
    true_time = stand.time_server.now
    stand.time_server.now = lambda: 0.0  # it lies, and nobody believes it
    stand.stop_broker()
    began = time.time()
    node.power_on()
    time.sleep(4)
    node.power_off()
    ended = time.time()
    stand.time_server.now = true_time
    node.power_on()
    stand.restart_broker(node)
    wait_until(lambda: (stand.health(node) or {}).get("boot") == 3, "the third boot")
    wait_until(lambda: stand.readings(node)[-1].quality == "synced", "a synced reading of the third boot")
    lost = of_boot(stand.readings(node), began, ended, "unknown")
    assert len(lost) >= 9
    assert all(r.later_s is not None and r.later_s < 120 for r in lost), "both neighbours bound it"
    taken = [r.unix_ms for r in lost if r.channel == TEMPERATURE]
    steps = [later - earlier for earlier, later in pairwise(taken)]
    assert all(300 < step < 1500 for step in steps), "its readings keep their distances"
    assert stand.ledger(node).lost == 0


def test_a_server_that_lies_by_a_year_is_outvoted(stand: Stand) -> None:
    liar = stand.bench.run(type(stand.time_server).open())
    stand.bench.on_close(liar.close)
    liar.now = lambda: time.time() + 365 * 86400
    servers = [
        {"host": "127.0.0.1", "port": server.port} for server in (liar, stand.time_server, stand.time_server)
    ]
    began = time.time()
    node = stand.node(stand.settings(BME280_SPEC, ntp=servers)).start()
    readings = stand.wait_for_readings(node, 12)
    assert "outvoted" in node.log
    assert all(began - 1 <= r.unix_ms / 1000 <= time.time() + 1 for r in readings)


def test_a_reset_keeps_the_time_and_says_that_it_did(stand: Stand) -> None:
    node = stand.node(stand.settings(BME280_SPEC)).start()
    stand.wait_for_readings(node, 6)
    stand.time_server.now = lambda: 0.0
    port = SerialTransport(node.board.port.path, timeout=20)
    port.enter_raw_repl(soft_reset=False)
    port.exec_raw_no_follow("import machine\nmachine.reset()")
    port.close()
    wait_until(lambda: stand.readings(node)[-1].quality == "holdover", "a reading by the RTC's time")
    latest = stand.readings(node)[-1]
    assert abs(latest.unix_ms / 1000 - time.time()) < 10
    assert stand.ledger(node).lost == 0
