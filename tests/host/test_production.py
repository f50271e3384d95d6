"""The production profile on a whole node: a serial port that nobody gets in by, and the declared way in."""

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import serial
import serial.rfc2217
from mpremote.transport import TransportError
from mpremote.transport_serial import SerialTransport

from host_tools import boards, image
from host_tools.devices.identify import identify
from host_tools.devices.port import Port
from host_tools.devices.questions import What
from host_tools.line import open_line
from host_tools.pki import partition
from host_tools.settings import dump
from host_tools.virtual.bench import Bench
from tests.host.stand import BME280_SPEC, Node, Stand, wait_until
from tests.host.virtual_rig import Rig

IDENTITY = 0x200000  # where the partition is (boards/virtual.toml)
PERIOD = 100  # ms
FAST = {**BME280_SPEC, "period_ms": PERIOD}
BUTTON = 5
PASSWORD = "the password of this network"
LOCKED = {"profile": "production", "way_in": {"pin": BUTTON, "hold_ms": 1000}}
A_PROMPT = (">>>", "raw REPL", "paste mode", "Ctrl-", "Traceback", "KeyboardInterrupt", "soft reboot")
CONTROL = b"\x03\x03\x03\x01\x02\x04\x05\r\n\x1b\x00"


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with Stand(tmp_path_factory.mktemp("production")) as stand:
        yield stand


@pytest.fixture(scope="module")
def node(stand: Stand) -> Node:
    """A node in production that is in; its button is not pressed."""
    node = stand.node(stand.settings(FAST, **LOCKED))
    node.world.inputs[BUTTON] = lambda: 1
    node.start(rfc2217=("127.0.0.1", 0))
    stand.wait_for_readings(node, 3)
    return node


def junk(dice: random.Random) -> bytes:
    """What a cat on a keyboard types that knows all control characters of MicroPython."""
    form = dice.randrange(5)
    if form == 0:
        return b"\x03" * dice.randrange(1, 40)
    if form == 1:
        return b"\r\x03\x03\r\x01print(1)\x04"
    if form == 2:
        return bytes(dice.choice(CONTROL) for _ in range(dice.randrange(1, 20)))
    return dice.randbytes(dice.randrange(1, 40))


class Cat(threading.Thread):
    """Types on a port until it has typed so many inputs, and is told to stop."""

    def __init__(self, port: serial.Serial | serial.rfc2217.Serial, seed: int, least: int) -> None:
        super().__init__(daemon=True)
        self.typed = 0
        self.least = least
        self._port = port
        self._dice = random.Random(seed)
        self._enough = threading.Event()

    def run(self) -> None:
        while self.typed < self.least or not self._enough.is_set():
            self._port.write(junk(self._dice))
            self.typed += 1
            self._port.read(self._port.in_waiting)
            time.sleep(0.004)

    def stop(self) -> None:
        self._enough.set()
        self.join(60)
        assert not self.is_alive()


@pytest.mark.security(11, "IEC 62443-4-2 EDR 2.13", "ETSI EN 303 645 5.6-4")
def test_nothing_that_is_typed_stops_it_or_gets_a_prompt(stand: Stand, node: Node) -> None:
    """Over 1,000 random inputs with Ctrl-C, -A, -B, -D and -E, on both ports and in the middle of boots: the
    node samples and publishes as if nobody typed, and never shows a prompt."""
    boots = node.board.boots
    with serial.Serial(node.board.port.path, timeout=0) as device, open_line(node.board.url) as url:
        cats = [Cat(device, 1, 700), Cat(url, 2, 400)]
        for cat in cats:
            cat.start()
        for _ in range(3):  # while it boots, above all
            stand.wait_for_readings(node, len(stand.readings(node)) + 10)
            node.power_off()
            node.power_on()
        stand.wait_for_readings(node, len(stand.readings(node)) + 30)
        for cat in cats:
            cat.stop()
    assert sum(cat.typed for cat in cats) >= 1000
    stand.wait_for_readings(node, len(stand.readings(node)) + 30)
    assert node.board.boots == boots + 3
    assert not [word for word in A_PROMPT if word in node.log], node.log
    assert stand.ledger(node).lost == 0
    health = stand.health(node)
    assert health is not None and (health["lost"], health["damaged"]) == (0, 0)


@pytest.mark.security(11, "IEC 62443-4-2 EDR 2.13", "ETSI EN 303 645 5.6-4")
def test_mpremote_does_not_get_in(stand: Stand, node: Node) -> None:
    """mpremote's way into the raw REPL, with and without a reset of the board, ends in an error."""
    boots = node.board.boots
    for name in (node.board.port.path, node.board.url):
        transport = SerialTransport(name, timeout=2)
        with pytest.raises(TransportError):
            transport.enter_raw_repl(soft_reset=False, timeout_overall=2)
        transport.serial.write(b"\r\x03\x03\x01import os\x04")
        transport.close()
    stand.wait_for_readings(node, len(stand.readings(node)) + 10)
    assert not [word for word in A_PROMPT if word in node.log], node.log
    assert node.board.boots <= boots + 1  # a URL has a reset line


def test_it_says_that_it_is_locked(stand: Stand, node: Node) -> None:
    answers: list[What] = []

    def answered() -> bool:
        answers.append(identify(Port(node.board.port.path)))
        return answers[-1].kind == "node"

    wait_until(answered, "an answer, from a board that may be busy")
    what = answers[-1]
    assert (what.kind, what.node, what.locked) == ("node", "n01", True)
    assert what.text == "limpet 0.1.0, node n01; locked, profile production"


def test_a_reset_in_the_raw_repl_locks_a_node_that_has_just_got_its_settings(stand: Stand) -> None:
    node = stand.node(stand.settings(FAST), node_id="n02").start()
    stand.wait_for_readings(node, 3)
    transport = SerialTransport(node.board.port.path, timeout=10)
    transport.enter_raw_repl(soft_reset=False)
    transport.exec(
        "import json\nwith open('/limpet.json') as f: s = json.load(f)\ns['profile'] = 'production'\n"
        "with open('/limpet.json', 'w') as f: json.dump(s, f)\n"
    )
    transport.serial.write(b"\x04")  # runs boot.py alone
    since = len(node.log)
    node.says("I am 'n02'", since)
    transport.serial.write(b"\r\x03\x03\r\x01")
    stand.wait_for_readings(node, len(stand.readings(node)) + 10)
    assert ">>>" not in node.log[since:] and "raw REPL" not in node.log[since:]
    transport.close()
    node.power_off()


ENDS = {
    "SystemExit": "raise SystemExit",
    "an exception": "def run(locked):\n raise OSError(5)",
    "the end": "def run(locked): pass",
    "no such module": None,
    "soft reset": "import machine\nmachine.soft_reset()",
}


@pytest.mark.security(11, "IEC 62443-4-2 EDR 2.13", "ETSI EN 303 645 5.6-4")
def test_whatever_ends_the_program_ends_in_a_reset(tmp_path: Path) -> None:
    """A program that ends by itself, an exception or SystemExit ends in a reset, and never at a prompt."""
    settings = b'{"v":1,"profile":"production"}'
    with Bench() as bench:
        rigs = []
        for number, source in enumerate(ENDS.values()):
            files = {**image.firmware_files(), image.SETTINGS_NAME: settings}
            del files["limpet/node.mpy"]
            if source is not None:
                files["limpet/node.py"] = source.encode()
            flash = image.compose(boards.load_board("virtual"), files)
            rigs.append(Rig(bench, tmp_path / f"{number}.bin", flash))
        for rig in rigs:
            rig.says("entry 0x3fff0030")
            with serial.Serial(rig.port, timeout=0) as port:
                port.write(b"\r\x03\x03\r\x01")
        for end, rig in zip(ENDS, rigs, strict=True):
            rig.says("rst:0xc (SW_CPU_RESET)")
            assert not [word for word in (">>>", "raw REPL", "soft reboot") if word in rig.log], (
                end,
                rig.log,
            )


@pytest.mark.security(11, "IEC 62443-4-2 EDR 2.13", "ETSI EN 303 645 5.4-1")
def test_the_button_opens_a_node_that_has_nothing_left_to_hide(tmp_path: Path, stand: Stand) -> None:
    """The declared button, held at the start, erases key and Wi-Fi password; only then there is a prompt."""
    settings: dict[str, Any] = stand.settings(FAST, **LOCKED)
    settings["wifi"] = [{"ssid": "stand", "password": PASSWORD}]
    files = {**image.firmware_files(), image.SETTINGS_NAME: dump(settings)}
    who = stand.authority.issue_node("n03")
    flash = image.compose(boards.load_board("virtual"), files, partition.encode(who))
    level = 0
    with Bench() as bench:
        rig = Rig(bench, tmp_path / "flash.bin", flash)
        rig.world.inputs[BUTTON] = lambda: level
        rig.power_off()
        assert who.key in rig.flash.read_bytes() and PASSWORD.encode() in rig.flash.read_bytes()
        since = len(rig.log)
        rig.power_on()
        rig.says("let go of the button", since)
        assert who.key in rig.flash.read_bytes()
        level = 1
        rig.says("the serial port is open", since)
        rig.says("there is no /limpet.json", since)
        assert rig.eval("__import__('os').listdir('/')") == ["boot.py", "limpet", "main.py"]
        left = rig.flash.read_bytes()
        assert who.key not in left and who.chain[0] not in left and PASSWORD.encode() not in left
        assert left[IDENTITY : IDENTITY + partition.PARTITION_SIZE].count(0xFF) == partition.PARTITION_SIZE
