"""Settings as the node reads them: `/limpet.json`, of integers, texts and lists only (docs/formats.md)."""

import json
from collections.abc import Mapping
from typing import Any

from host_tools.boards import Board
from host_tools.settings.fields import scaled
from host_tools.settings.model import Bme280, Broker, CurrentLoop, NodeFile, Sensor, Spool, Wifi
from host_tools.settings.wiring import i2c_bus

VERSION = 1


def to_node_json(node_file: NodeFile, board: Board) -> dict[str, Any]:
    """The settings of a node on `board`, ready for `dump`. It holds the Wi-Fi passwords in clear."""
    return {
        "v": VERSION,
        "board": board.name,
        **_profile(node_file),
        "prefix": node_file.prefix,
        "keepalive": node_file.keepalive // 1000,
        "health_s": node_file.health // 1000,
        "retry_ms": node_file.retry,
        **_spool(node_file.spool),
        "wifi": [_wifi(each) for each in node_file.wifi],
        "brokers": [_broker(each) for each in node_file.broker],
        "ntp": [{"host": server.host, "port": server.port} for server in node_file.ntp],
        "sensors": [_sensor(name, each, board) for name, each in node_file.sensors.items()],
    }


def dump(settings: Mapping[str, Any]) -> bytes:
    """The settings as compact JSON; the same settings give the same bytes.

    UTF-8 without escapes: MicroPython's parser does not join escaped surrogate pairs.
    """
    return json.dumps(settings, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _profile(node_file: NodeFile) -> dict[str, Any]:
    """Nothing for development, which is the node's own."""
    if node_file.profile == "development":
        return {}
    button = node_file.way_in
    way_in = {"way_in": {"pin": button.pin, "hold_ms": button.hold}} if button else {}
    return {"profile": node_file.profile, **way_in}


def _spool(spool: Spool) -> dict[str, dict[str, int]]:
    """Nothing for the policy `each`, which is the node's own."""
    if spool.policy == "each":
        return {}
    if spool.readings is None or spool.time is None:
        raise ValueError("a batch without its bounds; load() refuses it")
    return {"spool": {"readings": spool.readings, "ms": spool.time}}


def _wifi(network: Wifi) -> dict[str, str]:
    known = {"ssid": network.ssid}
    if network.password is not None:
        known["password"] = network.password.get_secret_value()
    return known


def _broker(broker: Broker) -> dict[str, str | int]:
    return {"host": broker.host, "port": broker.port, "name": broker.name or broker.host}


def _sensor(name: str, sensor: Sensor, board: Board) -> dict[str, str | int]:
    common: dict[str, str | int] = {"name": name, "kind": sensor.kind, "period_ms": sensor.period}
    if isinstance(sensor, Bme280):
        return {**common, **_bus(sensor, board), "address": sensor.address}
    if isinstance(sensor, CurrentLoop):
        return {**common, "pin": sensor.pin, "shunt_mohm": sensor.shunt, **_loop(sensor)}
    probe = {**common, "pin": sensor.pin}
    return probe if sensor.rom is None else {**probe, "rom": sensor.rom}


def _bus(sensor: Bme280, board: Board) -> dict[str, int]:
    bus = i2c_bus(sensor, board)
    if bus is None:
        raise ValueError(f"no I2C bus on board {board.name}; load() refuses it")
    return {"scl": bus[0], "sda": bus[1]}


def _loop(loop: CurrentLoop) -> dict[str, str | int]:
    low, high = (scaled(end, loop.decimals) for end in loop.range)
    if low is None or high is None:
        raise ValueError(f"range {loop.range} at {loop.decimals} decimals; load() refuses it")
    return {
        "quantity": loop.quantity,
        "unit": loop.unit,
        "decimals": loop.decimals,
        "low": low,
        "high": high,
    }
