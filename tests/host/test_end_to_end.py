"""The whole path: sensors at register level, firmware in MicroPython, mutual TLS, a broker, a receiver."""

import json
import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from host_tools import image, paths
from host_tools.broker import Kind, start_broker
from host_tools.broker.mosquitto import find_executable
from host_tools.pki.authority import Authority
from tests.host.stand import BME280_SPEC, LOOP_SPEC, Stand, wait_until

needs_mosquitto = pytest.mark.skipif(not find_executable(), reason="Mosquitto is not installed")
SPOOL = 0x204000  # where the partition is (boards/virtual.toml)
KINDS: list[object] = [pytest.param("mosquitto", marks=needs_mosquitto), "embedded"]


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with Stand(tmp_path) as stand:
        yield stand


@pytest.mark.parametrize("kind", KINDS)
def test_every_reading_arrives_once_with_value_unit_and_time(tmp_path: Path, kind: Kind) -> None:
    with Stand(tmp_path, kind) as stand:
        node = stand.node()
        began = time.time()
        node.start()
        stand.wait_for_readings(node, 60)
        stand.wait_for_readings(node, 4, "probe/temperature")
        ended = time.time()
        ledger = stand.ledger(node)
        assert (ledger.lost, ledger.duplicates) == (0, 0)
        expected = {
            "bme280/temperature": ("Cel", Decimal("21.50"), Decimal("0.02")),
            "bme280/pressure": ("Pa", Decimal("100653.00"), Decimal(5)),
            "bme280/humidity": ("%RH", Decimal("45.00"), Decimal("0.05")),
            "probe/temperature": ("Cel", Decimal("19.0625"), Decimal(0)),
            "wind/speed": ("m/s", Decimal("12.00"), Decimal("0.03")),
        }
        readings = stand.readings(node)
        assert {r.channel for r in readings} == set(expected)
        for reading in readings:
            unit, value, tolerance = expected[reading.channel]
            assert reading.value is not None, reading
            assert (reading.unit, abs(reading.value - value) <= tolerance) == (unit, True), reading
            assert began - 1 <= reading.unix_ms / 1000 <= ended + 1
        for channel in expected:
            times = [r.unix_ms for r in readings if r.channel == channel]
            assert times == sorted(times)


def test_about_describes_what_is_published(stand: Stand) -> None:
    node = stand.node().start()
    wait_until(lambda: stand.payloads(node, "about"), "about")
    about = json.loads(stand.payloads(node, "about")[0])
    assert (about["node"], about["board"], about["firmware"]) == ("n01", "virtual", "0.1.0")
    by_name = {c["n"]: c for c in about["channels"]}
    assert by_name["wind/speed"] == {
        "n": "wind/speed",
        "u": "m/s",
        "period_ms": 500,
        "low": 0.0,
        "high": 30.0,
    }
    assert by_name["bme280/temperature"]["u"] == "Cel"
    assert len(by_name) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_killing_the_node_yields_the_will(tmp_path: Path, kind: Kind) -> None:
    with Stand(tmp_path, kind) as stand:
        node = stand.node().start()
        wait_until(lambda: (stand.state(node) or {}).get("up"), "state up")
        node.power_off()
        wait_until(lambda: stand.state(node) == {"up": False}, "the will")


@pytest.mark.parametrize(
    ("channel", "part", "fault", "reason"),
    [
        ("bme280/temperature", "bme280", "no-ack", "no acknowledge"),
        ("bme280/temperature", "bme280", "stuck", "bus timeout"),
        ("probe/temperature", "probe", "crc", "CRC error"),
        ("probe/temperature", "probe", "vanished", "probe vanished"),
        ("wind/speed", "loop", "wire-break", "wire break"),
        ("wind/speed", "loop", "over-current", "over-current"),
    ],
)
def test_a_failing_sensor_is_told_and_recovers(
    stand: Stand, channel: str, part: str, fault: str, reason: str
) -> None:
    node = stand.node().start()
    stand.wait_for_readings(node, 1, channel)
    getattr(node, part).fault = fault

    def bad() -> bool:
        latest = stand.readings(node, channel)[-1]
        return latest.value is None and latest.reason == reason

    wait_until(bad, f"{channel} bad: {reason}")
    others = {r.channel for r in stand.readings(node)} - {channel}
    seen = len(stand.readings(node))
    getattr(node, part).fault = None
    wait_until(lambda: stand.readings(node, channel)[-1].value is not None, "recovery")
    after = stand.readings(node)[seen:]
    assert {r.channel for r in after if r.value is not None} & others, "the other sensors went on"
    ledger = stand.ledger(node)
    assert (ledger.lost, ledger.duplicates) == (0, 0)


def test_wifi_that_drops_loses_nothing(stand: Stand) -> None:
    node = stand.node().start()
    stand.wait_for_readings(node, 10)
    network = node.world.access_points.pop()
    seen = len(stand.readings(node))
    time.sleep(2.5)
    node.world.access_points.append(network)
    stand.wait_for_readings(node, seen + 30)
    assert stand.ledger(node).lost == 0


def test_wrong_wifi_password_is_named_and_mended_from_outside(stand: Stand) -> None:
    settings = stand.settings(wifi=[{"ssid": "absent"}, {"ssid": "guarded", "password": "not this one"}])
    node = stand.node(settings)
    network = node.world.access_points[0]
    network.ssid, network.password = "guarded", "the right one"
    node.start()
    node.says("'absent': not found")
    node.says("'guarded': wrong password")
    assert "not this one" not in node.log
    network.password = "not this one"
    stand.wait_for_readings(node, 5)
    assert stand.ledger(node).lost == 0


def test_broker_that_stops_and_returns(stand: Stand) -> None:
    node = stand.node(stand.settings(BME280_SPEC)).start()
    stand.wait_for_readings(node, 6)
    stand.stop_broker()
    node.says("uplink: 127.0.0.1")
    seen = len(stand.readings(node))
    stand.restart_broker(node)
    stand.wait_for_readings(node, seen + 12)
    assert stand.ledger(node).lost == 0


def test_no_broker_at_first(stand: Stand) -> None:
    stand.stop_broker()
    node = stand.node(stand.settings(BME280_SPEC)).start()
    node.says("uplink: 127.0.0.1")
    stand.restart_broker(node)
    stand.wait_for_readings(node, 12)
    assert stand.ledger(node).lost == 0


def test_the_second_broker_is_used_when_the_first_is_down(stand: Stand) -> None:
    dead = {"host": "127.0.0.1", "port": 9, "name": "localhost"}
    good = {"host": "127.0.0.1", "port": stand.broker.port, "name": "localhost"}
    node = stand.node(stand.settings(brokers=[dead, good])).start()
    stand.wait_for_readings(node, 6)


def _refused(stand: Stand, node_log: str) -> None:
    assert "Traceback" not in node_log
    assert "connected to" not in node_log
    assert not [m for m in stand.messages if "/n01/" in m.topic]


def test_a_broker_with_another_name_is_refused(stand: Stand) -> None:
    wrong = {"host": "127.0.0.1", "port": stand.broker.port, "name": "other.example"}
    node = stand.node(stand.settings(brokers=[wrong])).start()
    node.says(f"uplink: 127.0.0.1:{stand.broker.port}: ")
    _refused(stand, node.log)


def test_a_broker_of_another_authority_is_refused(stand: Stand, tmp_path: Path) -> None:
    stranger = Authority.create(tmp_path / "stranger")
    mine = stand.authority.issue_node("n01")
    theirs = stranger.issue_node("n01")
    # The node's own identity is good, but it trusts somebody else.
    identity = type(mine)(mine.node_id, mine.key, mine.chain, theirs.cas)
    node = stand.node(identity=identity).start()
    node.says(f"uplink: 127.0.0.1:{stand.broker.port}: ")
    _refused(stand, node.log)


def test_a_node_of_another_authority_is_refused(stand: Stand, tmp_path: Path) -> None:
    theirs = Authority.create(tmp_path / "stranger").issue_node("n01")
    mine = stand.authority.issue_node("n01")
    identity = type(mine)(theirs.node_id, theirs.key, theirs.chain, mine.cas)
    node = stand.node(identity=identity).start()
    node.says(f"uplink: 127.0.0.1:{stand.broker.port}: ")
    _refused(stand, node.log)


def test_a_clock_that_was_never_set_connects_and_dates_what_came_before(stand: Stand) -> None:
    """The time server lies (1970) at first. TLS trusts the clock's floor; readings wait for the true time."""
    true_time = stand.time_server.now
    stand.time_server.now = lambda: 86400.0
    # A virtual board checks certificates by the host's clock, if its own is not more than a day wrong: so the
    # floor has to be of today (docs/virtual-board.md).
    files = dict(image.firmware_files())
    del files["limpet/__init__.mpy"]
    source = (paths.FIRMWARE / "limpet" / "__init__.py").read_text()
    of_today = re.sub(r"(?<=^RELEASED = )\d+", str(int(time.time()) - 3600), source, flags=re.MULTILINE)
    assert of_today != source
    files["limpet/__init__.py"] = of_today.encode()
    files[image.SETTINGS_NAME] = json.dumps(stand.settings(BME280_SPEC)).encode()
    node = stand.node(files=files)
    began = time.time()
    node.start()
    node.says("no time yet; connects without")
    wait_until(lambda: stand.health(node), "health")
    health = stand.health(node)
    assert health is not None
    assert (health["clock"], health["spool"] > 0) == ("unknown", True)
    assert not stand.readings(node)
    set_at = time.time()
    stand.time_server.now = true_time
    first = stand.wait_for_readings(node, 1)[0]
    assert (first.seq, first.quality) == (0, "recovered")
    assert began - 1 <= first.unix_ms / 1000 <= set_at
    wait_until(lambda: stand.readings(node)[-1].quality == "synced", "readings taken with the right time")
    assert stand.ledger(node).lost == 0


def test_a_spool_that_overflows_tells_exactly_what_it_drops(stand: Stand) -> None:
    stand.stop_broker()
    fast = [{**LOOP_SPEC, "name": f"wind-{i}", "period_ms": 100} for i in range(16)]
    node = stand.node(stand.settings(*fast), spool_sectors=3).start()
    node.says("uplink: 127.0.0.1")
    stand.restart_broker(node, pause=5)  # 160 readings a second into room for 450
    wait_until(lambda: (stand.health(node) or {}).get("lost", 0) > 0, "the loss in health")
    wait_until(lambda: (stand.health(node) or {})["spool"] < 100, "the backlog delivered")
    health = stand.health(node)
    assert health is not None
    ledger = stand.ledger(node)
    assert ledger.lost == ledger.announced == health["lost"]
    assert ledger.duplicates == 0


def test_readings_survive_a_power_cut_and_keep_their_epoch_and_true_time(stand: Stand) -> None:
    stand.stop_broker()
    node = stand.node(stand.settings(BME280_SPEC))
    began = time.time()
    node.start()
    node.says("uplink: 127.0.0.1")
    time.sleep(3)
    node.power_off()
    cut = time.time()
    node.power_on()
    stand.restart_broker(node)
    readings = stand.wait_for_readings(node, 30)
    assert len({r.epoch for r in readings}) == 1
    ledger = stand.ledger(node)
    assert (ledger.lost, ledger.duplicates) == (0, 0)
    before = [r for r in readings if r.unix_ms / 1000 <= cut]
    assert len(before) >= 12
    assert all(began - 1 <= r.unix_ms / 1000 for r in before)
    assert [r.seq for r in readings] == list(range(len(readings)))
    temperatures = [r.unix_ms for r in readings if r.channel == "bme280/temperature"]
    assert temperatures == sorted(temperatures)
    wait_until(lambda: stand.health(node), "health")
    health = stand.health(node)
    assert health is not None
    assert health["boot"] == 2


def test_with_policy_batch_a_power_cut_loses_a_batch_at_most_and_repeats_no_number(stand: Stand) -> None:
    batch = {"readings": 32, "ms": 3000}
    node = stand.node(stand.settings(BME280_SPEC, spool=batch)).start()
    stand.wait_for_readings(node, 30)
    node.power_off()
    node.power_on()
    wait_until(lambda: (stand.health(node) or {}).get("boot") == 2, "the second boot")
    seen = len(stand.readings(node))
    stand.wait_for_readings(node, seen + 12)
    told: dict[tuple[str, int], set[object]] = {}
    for each in stand.readings(node):
        told.setdefault((each.epoch, each.seq), set()).add((each.channel, each.value, each.unix_ms))
    assert all(len(contents) == 1 for contents in told.values())
    assert stand.ledger(node).lost == 0


@pytest.mark.parametrize(
    ("sectors", "says"), [(0, "the partition table has no 'spool'"), (2, "spool")], ids=["missing", "tiny"]
)
def test_without_a_spool_partition_the_node_says_so_and_samples_on(
    stand: Stand, sectors: int, says: str
) -> None:
    node = stand.node(stand.settings(BME280_SPEC), spool_sectors=sectors).start()
    stand.wait_for_readings(node, 12)
    node.says("readings are kept in RAM, and a reset loses them")
    wait_until(lambda: stand.payloads(node, "event"), "the event")
    event = json.loads(stand.payloads(node, "event")[0])
    assert (event["event"], says in event["text"]) == ("spool", True)
    assert stand.ledger(node).lost == 0


def test_a_spool_full_of_foreign_data_or_of_another_node_is_taken_over(stand: Stand) -> None:
    first = stand.node(stand.settings(BME280_SPEC), node_id="n01", spool_sectors=4).start()
    stand.wait_for_readings(first, 6)
    first.power_off()
    flash = first.flash.read_bytes()
    for node_id, contents in (("n02", flash[SPOOL : SPOOL + 4 * 4096]), ("n03", os.urandom(4 * 4096))):
        node = stand.node(stand.settings(BME280_SPEC), node_id=node_id, spool_sectors=4)
        with node.flash.open("r+b") as file:
            file.seek(SPOOL)
            file.write(contents)
        node.start()
        readings = stand.wait_for_readings(node, 12)
        assert readings[0].seq == 0
        assert {r.epoch for r in readings} != {r.epoch for r in stand.readings(first)}
        if node_id == "n02":
            wait_until(lambda node=node: stand.payloads(node, "event"), "the event")  # type: ignore[misc]
            assert "another node" in json.loads(stand.payloads(node, "event")[0])["text"]


def test_blank_identity_and_missing_settings_are_said_and_the_board_stays_reachable(stand: Stand) -> None:
    blank = stand.node(identity=b"").start()
    blank.says("cannot start: identity partition is blank")
    no_settings = stand.node(files=_firmware(), node_id="n02").start()
    no_settings.says("cannot start: there is no /limpet.json: deploy the node's settings")


def _firmware() -> dict[str, bytes]:
    from host_tools import image

    return image.firmware_files()


def test_a_node_cannot_speak_for_another(stand: Stand) -> None:
    node = stand.node(node_id="n01").start()
    stand.wait_for_readings(node, 3)
    # The identity of n02, but n01's board: everything it publishes is n02's.
    other = stand.node(node_id="n02").start()
    stand.wait_for_readings(other, 3)
    assert {r.node for r in stand.readings(node)} == {"n01"}
    assert {r.node for r in stand.readings(other)} == {"n02"}


def test_an_expired_certificate_of_the_node_is_refused(stand: Stand) -> None:
    identity = stand.authority.issue_node("n01", now=datetime.now(UTC) - timedelta(days=3000))
    node = stand.node(identity=identity).start()
    node.says(f"uplink: 127.0.0.1:{stand.broker.port}: ")
    _refused(stand, node.log)


def test_a_broker_of_another_authority_is_refused_until_the_right_one_is_back(
    stand: Stand, tmp_path: Path
) -> None:
    stranger = Authority.create(tmp_path / "stranger")
    stranger.issue_broker(["localhost", "127.0.0.1"]).save(tmp_path / "stranger", "broker")
    stand.stop_broker()
    with start_broker(tmp_path / "stranger", port=stand.broker.port):
        node = stand.node(stand.settings(BME280_SPEC)).start()
        node.says(f"uplink: 127.0.0.1:{stand.broker.port}: ")
        _refused(stand, node.log)
    stand.restart_broker(node)
    stand.wait_for_readings(node, 6)
    assert stand.ledger(node).lost == 0


def test_health_names_a_broken_sensor_and_what_ended_the_last_session(stand: Stand) -> None:
    node = stand.node().start()
    wait_until(lambda: stand.health(node), "health")
    node.bme280.fault = "no-ack"
    wait_until(lambda: (stand.health(node) or {})["sensors"]["bme280"] == "no acknowledge", "the sensor")
    health = stand.health(node)
    assert health is not None
    assert (health["clock"], health["reset"], health["lost"], health["rssi"]) == (
        "synced",
        "power-on",
        0,
        -58,
    )
    assert health["sensors"]["wind"] == "good"
