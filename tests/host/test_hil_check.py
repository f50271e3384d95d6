"""Rigs that are good, and rigs that are bad in every way that `limpet hil check` looks for."""

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from host_tools.broker import mosquitto
from host_tools.devices.port import VARIABLE as PORTS
from host_tools.devices.probe import Chip
from host_tools.hil import lease
from host_tools.hil.blocked import Blocked
from host_tools.hil.board.virtual import VirtualRung
from host_tools.hil.board.wiring import wire
from host_tools.hil.check import Finding, Patience, check, mistaken, prove
from host_tools.hil.rig import Rig
from host_tools.hil.rigs import RigFile, load_rig
from host_tools.virtual import control
from host_tools.virtual.radio import AccessPoint
from tests.host import virtual_rig
from tests.host.virtual_rig import boards_on_bench

pytestmark = pytest.mark.skipif(
    mosquitto.find_executable() is None, reason="Mosquitto is not installed: install the package `mosquitto`"
)

QUICK = Patience(silent=1.0)
"""For boards that are silent when they should be."""
SENSOR = '[sensors.bme280]\nperiod = "200ms"\n'
BABBLES = b"import time\nwhile True:\n    print('still here, and not to be asked')\n    time.sleep_ms(100)\n"
SWITCH = """#!{python} -IS
import socket, sys
with socket.socket(socket.AF_UNIX) as board:
    board.connect({path!r})
    board.sendall(sys.argv[1].encode() + b"\\n")
    board.makefile().readline()
"""
"""A program that switches the virtual board whose control socket that is."""


@pytest.fixture(autouse=True)
def _own_leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(lease.VARIABLE, str(tmp_path / "leases"))


def rig_file(folder: Path, text: str) -> RigFile:
    path = folder / "desk.toml"
    path.write_text(text + SENSOR)
    return load_rig(str(path))


def until(name: str, findings: Iterator[Finding]) -> Finding:
    """The finding of that name. What comes before it has passed."""
    for found in findings:
        if found.name == name:
            return found
        assert found.outcome == "passed", found
    raise AssertionError(f"nothing is found about '{name}'")


# A board behind a port, flashed and switched as one on a desk


def test_a_good_bench_passes_in_everything(tmp_path: Path) -> None:
    with boards_on_bench() as (board,):
        server = board.bench.run(control.serve(board.board, tmp_path))
        board.bench.on_close(lambda: _closed(server))
        switch = tmp_path / "switch"
        switch.write_text(SWITCH.format(python=sys.executable, path=str(tmp_path / control.SOCKET)))
        switch.chmod(0o700)
        file = rig_file(
            tmp_path,
            f"""
rung = "bench"
board = "virtual"
host = "127.0.0.1"
port.url = "{board.url}"
wifi.ssid = "bench"
[power]
kind = "command"
on = ["{switch}", "power=on"]
off = ["{switch}", "power=off"]
""",
        )
        board.world.i2c.update(wire(file.sensors, file.board).world.i2c)
        board.world.access_points.append(AccessPoint("bench"))
        found = list(check(file, QUICK))
    assert [(each.name, each.outcome) for each in found] == [
        (name, "passed")
        for name in (
            *("port", "board", "firmware", "network", "time server", "broker", "clock"),
            *("power goes", "power comes"),
        )
    ], found
    texts = {each.name: each.text for each in found}
    assert texts["board"] == f"ESP32, {virtual_rig.MAC[:5].hex(':')}:00, 4 MB of flash"
    assert texts["network"] == "joined 'bench', 10.0.0.42; this machine is 127.0.0.1 to it"


async def _closed(server: asyncio.Server) -> None:
    server.close()


def test_a_port_where_nothing_is(tmp_path: Path) -> None:
    nobody = mosquitto.free_port("127.0.0.1")
    text = f'rung = "bench"\nboard = "virtual"\nport.url = "rfc2217://127.0.0.1:{nobody}"\n'
    [found] = check(rig_file(tmp_path, text))
    assert (found.name, found.outcome) == ("rig", "failed")
    assert f"rfc2217://127.0.0.1:{nobody} cannot be opened: nothing listens there" in found.text


def test_another_board_is_not_flashed(tmp_path: Path) -> None:
    with boards_on_bench() as (board,):
        before = board.flash.read_bytes()
        file = rig_file(
            tmp_path, f'rung = "bench"\nboard = "esp32c3_generic"\nport.url = "{board.url}"\n[sensors]\n'
        )
        found = {each.name: each for each in check(file)}
        assert board.flash.read_bytes() == before
    assert found["board"].outcome == "failed"
    assert "It is another board: its chip is an ESP32, but board 'esp32c3_generic' has an ESP32-C3" in (
        found["board"].text
    )
    assert found["board"].remedy == "plug in the right one, or correct the rig file"
    assert found["firmware"] == Finding("firmware", "blocked", "it rests on 'board'")


def test_the_board_with_that_mac_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with boards_on_bench() as (board,):
        monkeypatch.setenv(PORTS, board.url)
        file = rig_file(tmp_path, 'rung = "bench"\nboard = "virtual"\nport.mac = "24:0a:c4:00:00:99"\n')
        [found] = check(file)
    assert (found.name, found.outcome) == ("rig", "failed")
    assert f"24:0a:c4:00:00:99 is not there ({board.url} is 24:0a:c4:aa:bb:00)" in found.text


def test_what_a_chip_must_be(tmp_path: Path) -> None:
    file = rig_file(tmp_path, 'rung = "bench"\nboard = "virtual"\nport.mac = "24:0a:c4:00:00:99"\n')
    good = Chip("ESP32", "24:0a:c4:00:00:99", 4 << 20, encrypted=False, secure_boot=False)
    assert mistaken(good, file) is None
    for chip, text in (
        (Chip("ESP32", "24:0a:c4:00:00:98", 4 << 20, False, False), "its MAC address is 24:0a:c4:00:00:98"),
        (Chip("ESP32", good.mac, 2 << 20, False, False), "flash"),
        (Chip("ESP32", good.mac, 4 << 20, True, False), "flash encryption is on"),
        (Chip("ESP32", good.mac, 4 << 20, False, True), "secure boot is on"),
    ):
        assert text in (mistaken(chip, file) or "")


def test_a_rig_that_somebody_has(tmp_path: Path) -> None:
    file = rig_file(tmp_path, 'rung = "bench"\nboard = "virtual"\nport.url = "rfc2217://127.0.0.1:9"\n')
    claim = lease.claim_of(file)
    assert claim
    with lease.held(claim, "the night's run", wait_s=0, ttl_s=60, on_wait=print):
        [found] = check(file)
    assert (found.name, found.outcome) == ("rig", "blocked")
    assert "the night's run" in found.text


# What is around a virtual board, made bad


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with Rig(rig_file(tmp_path_factory.mktemp("rig"), 'rung = "virtual"\nboard = "virtual"\n')) as rig:
        yield rig


@pytest.fixture
def rig(opened: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    with opened.test():
        yield unasked(opened, monkeypatch)


def unasked(rig: Rig, patch: pytest.MonkeyPatch) -> Rig:
    """A rig whose chip is not asked who it is, which takes a second."""
    patch.setattr(rig, "capabilities", rig.capabilities - {"download"})
    return rig


def virtual(rig: Rig) -> VirtualRung:
    assert isinstance(rig.board, VirtualRung)
    return rig.board


def test_a_board_that_is_silent(opened: Rig) -> None:
    board = virtual(opened)
    board.virtual.faults.deaf = True
    try:
        found = until("board", prove(opened))
    finally:
        board.virtual.faults.clear()
    assert found.outcome == "failed"
    assert "see to the board's power and cable" in found.remedy


def with_files(rig: Rig, patch: pytest.MonkeyPatch, **changed: bytes) -> None:
    """Have the rig give its board other files than it would."""
    files = {**rig.image.files, **{name.replace("_", "."): data for name, data in changed.items()}}
    patch.setitem(vars(rig), "image", replace(rig.image, files=files))


def with_settings(rig: Rig, patch: pytest.MonkeyPatch, **changed: object) -> None:
    with_files(rig, patch, limpet_json=json.dumps({**json.loads(rig.image.settings), **changed}).encode())


def test_firmware_that_does_not_start(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    with_files(rig, monkeypatch, main_py=b"print('Brownout, perhaps')\n")
    found = until("firmware", prove(rig, Patience(starts=2.0)))
    assert found.outcome == "failed"
    assert found.text.startswith("The firmware does not start; the board says: ")
    assert "limpet monitor" in found.remedy


def test_a_network_that_is_not_there(rig: Rig) -> None:
    rig.link.wifi_off()
    findings = prove(rig, Patience(joins=1.0))
    found = until("network", findings)
    assert found.outcome == "failed"
    assert found.text == "The node does not join its network: it says nothing of its wifi"
    assert "[wifi]" in found.remedy
    assert next(findings) == Finding("time server", "blocked", "it rests on 'network'")


def test_a_time_server_whose_answers_get_lost(rig: Rig) -> None:
    rig.clock.stop()
    found = until("time server", prove(rig, Patience(syncs=1.0)))
    assert found.outcome == "failed"
    assert found.text.startswith("The node asks for the time, and takes no answer: ")
    assert found.remedy == "let UDP pass from this machine to the node's network"


def test_a_time_server_that_is_not_reached(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = [{"host": "127.0.0.1", "port": mosquitto.free_port("127.0.0.1")}]
    with_settings(rig, monkeypatch, ntp=elsewhere)
    found = until("time server", prove(rig, Patience(syncs=1.0)))
    assert found.outcome == "failed"
    assert found.text.startswith(f"Nobody asks the time server 127.0.0.1:{rig.clock.port} (UDP): ")
    assert "let UDP pass from the node's network to this machine" in found.remedy


@pytest.mark.parametrize(("ahead", "told"), [(86400.0, "ahead of"), (-30.0, "behind")])
def test_a_clock_that_is_far_off(rig: Rig, ahead: float, told: str) -> None:
    """As when a router answers the node's questions for the time itself."""
    rig.clock.jump(ahead)
    found = until("clock", prove(rig, Patience(agrees=1.0)))
    assert found.outcome == "failed"
    seconds = re.fullmatch(rf"The node's clock is (\d+) s {told} this machine's", found.text)
    assert seconds and abs(int(seconds[1]) - abs(ahead)) <= 5
    assert "nothing else in its network answers for the time server" in found.remedy


def test_a_broker_that_is_not_reached(rig: Rig) -> None:
    """As behind a firewall that drops what comes."""
    rig.link.cut()
    findings = prove(rig, Patience(delivers=2.0))
    found = until("broker", findings)
    assert found.outcome == "failed"
    assert found.text.startswith(f"Nobody comes to the broker at 127.0.0.1:{rig.link.port} (TCP): ")
    assert "let TCP pass from the node's network to this machine" in found.remedy
    assert next(findings) == Finding("clock", "blocked", "it rests on 'broker'")


def test_a_broker_that_is_not_trusted(rig: Rig) -> None:
    rig.broker.present("unknown-ca")
    found = until("broker", prove(rig, Patience(delivers=2.0)))
    assert found.outcome == "failed"
    assert found.text.startswith("The node comes to the broker, and delivers nothing: ")
    assert "certificate" in found.remedy


def until_power(rig: Rig, patience: Patience | None = None) -> Iterator[Finding]:
    """A proof in which only the power is left."""
    findings = prove(rig, patience)
    assert until("clock", findings).outcome == "passed"
    return findings


class Stuck:
    """A supply that says that it switches."""

    def on(self) -> None: ...

    def off(self) -> None: ...


def test_power_that_does_not_cut(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = until_power(rig)
    monkeypatch.setattr(rig.board, "power", Stuck())
    found = next(findings)
    assert (found.name, found.outcome) == ("power goes", "failed")
    assert found.text == "The board goes on after its power was cut"
    assert "no other cable feeds it" in found.remedy
    assert next(findings) == Finding("power comes", "blocked", "it rests on 'power goes'")


def test_a_board_that_babbles_on_has_power(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it runs: it need not answer."""
    findings = until_power(rig)
    board = virtual(rig)

    class Babbles(Stuck):
        def off(self) -> None:
            monkeypatch.undo()  # what switches it was another one than is named
            board.install(replace(rig.image, files={**rig.image.files, "main.py": BABBLES}))

    monkeypatch.setattr(rig.board, "power", Babbles())
    assert next(findings).text == "The board goes on after its power was cut"


def test_power_that_cannot_be_switched(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Stuck):
        def off(self) -> None:
            raise Blocked("uhubctl failed with exit code 1: no hub.")

    findings = until_power(rig)
    monkeypatch.setattr(rig.board, "power", Broken())
    assert next(findings) == Finding("power goes", "blocked", "uhubctl failed with exit code 1: no hub.")


def test_a_port_that_does_not_come_back(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    board = virtual(rig)
    findings = until_power(rig, Patience(silent=1.0, returns=1.0))
    assert next(findings).outcome == "passed"
    board.bench.call(lambda: board.virtual.vanish(600))
    found = next(findings)
    board.bench.call(lambda: board.virtual.vanish(0))
    assert (found.name, found.outcome) == ("power comes", "failed")
    assert found.text.startswith("The port does not come back with the power: ")
    assert "[power]" in found.remedy
