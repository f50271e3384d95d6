"""What is behind ports: virtual boards of all kinds, asked by our code and by the shell's command."""

import contextlib
import json
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from host_tools import boards, image
from host_tools.devices import Port
from host_tools.devices.identify import look
from host_tools.devices.screen import lines
from host_tools.line import open_line
from host_tools.pki import partition
from host_tools.pki.authority import Authority
from host_tools.virtual.bench import Bench
from tests.host.shell import LIMPET, Running, limpet
from tests.host.stand import wait_until
from tests.host.virtual_rig import BOARD, Rig, compose

NODE = "n-07"
SETTINGS = {
    "v": 1,
    "board": "virtual",
    "prefix": "limpet",
    "keepalive": 10,
    "health_s": 60,
    "batch_ms": 200,
    "retry_ms": 60000,
    "wifi": [{"ssid": "nowhere"}],
    "brokers": [{"host": "127.0.0.1", "port": 1, "name": "localhost"}],
    "ntp": [{"host": "127.0.0.1", "port": 1}],
    "sensors": [],
}
ANYWHERE = ("127.0.0.1", 0)
Rigs = dict[str, Rig]


def into_rom(rig: Rig, *, usb: bool = False) -> None:
    """What a host does with DTR and RTS to get a chip into its ROM's bootloader; it stays there."""
    with contextlib.closing(open_line(rig.url)) as port:
        port.rts, port.dtr = False, usb
        port.rts = True
        if usb:
            port.dtr = False
        port.dtr, port.rts = not usb, False
        port.dtr = False


@pytest.fixture(scope="module")
def rigs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rigs]:
    folder = tmp_path_factory.mktemp("boards")
    identity = partition.encode(Authority.create(folder / "pki").issue_node(NODE))
    firmware = image.firmware_files()
    node = {**firmware, image.SETTINGS_NAME: json.dumps(SETTINGS).encode()}
    c3 = boards.load_board("esp32c3_generic")
    kinds = {
        "node": (BOARD, image.compose(BOARD, node, identity, stand_in=True)),
        "fresh": (BOARD, compose(firmware)),
        "prompt": (BOARD, compose()),
        "silent": (BOARD, compose({"main.py": b"import time\nwhile True:\n    time.sleep(1)\n"})),
        "blank": (BOARD, b"\xff" * BOARD.flash_size),
        "rom": (BOARD, compose()),
        "usb": (c3, compose(kind=c3)),
    }
    with Bench() as bench:
        made = {
            name: Rig(
                bench,
                folder / f"{name}.bin",
                flash,
                kind=kind,
                mac=bytes.fromhex("240ac4e000") + bytes((number,)),
                rfc2217=ANYWHERE,
            )
            for number, (name, (kind, flash)) in enumerate(kinds.items())
        }
        for name in ("node", "fresh"):
            made[name].says("node: limpet")
        into_rom(made["rom"])
        into_rom(made["usb"], usb=True)
        yield made


def named(rig: Rig) -> Port:
    return Port(rig.url, named=True)


def test_boards_of_all_kinds_side_by_side_and_none_is_reset(rigs: Rigs) -> None:
    calm = [name for name in rigs if name != "blank"]
    before = {name: rigs[name].board.boots for name in calm}
    found = dict(zip(rigs, look(named(rig) for rig in rigs.values()), strict=True))
    kinds = {name: each.what.kind for name, each in found.items()}
    assert kinds == {
        "node": "node",
        "fresh": "node",
        "prompt": "micropython",
        "silent": "silent",
        "blank": "broken",
        "rom": "rom",
        "usb": "rom",
    }
    assert (found["node"].what.version, found["node"].what.node) == ("0.1.0", NODE)
    assert found["fresh"].what.text == "limpet 0.1.0, without settings or without an identity"
    assert found["blank"].what.text.startswith(
        "boot loop: nothing in its flash that it can boot (invalid header"
    )
    assert {name: rigs[name].board.boots for name in calm} == before
    for name in ("node", "silent"):
        assert "KeyboardInterrupt" not in rigs[name].log
        assert ">>>" not in rigs[name].log


def test_asked_again_and_again_the_answer_is_the_same(rigs: Rigs) -> None:
    port = named(rigs["prompt"])
    texts = {look([port])[0].what.text for _ in range(3)}
    assert len(texts) == 1
    assert "at its prompt, Virtual ESP32 with ESP32" in texts.pop()


def test_a_prompt_that_is_raw(rigs: Rigs) -> None:
    with contextlib.closing(open_line(rigs["prompt"].url)) as port:
        port.write(b"\r\x03\x01")
        wait_until(lambda: rigs["prompt"].log.endswith("raw REPL; CTRL-B to exit\n>"), "the raw prompt")
    assert look([named(rigs["prompt"])])[0].what.kind == "micropython"


def test_identical_bridges_show_where_they_are(rigs: Rigs) -> None:
    twins = [
        replace(named(rigs[name]), vid=0x10C4, pid=0xEA60, location=location, bridge="CP210x")
        for name, location in (("node", "1-2.1"), ("prompt", "1-2.2"))
    ]
    one, other = (list(lines(each)) for each in look(twins))
    assert one == [
        f"{rigs['node'].url}  CP210x 10c4:ea60, USB 1-2.1",
        f"    limpet 0.1.0, node {NODE}",
    ]
    assert other[0] == f"{rigs['prompt'].url}  CP210x 10c4:ea60, USB 1-2.2"
    assert other[1].startswith("    MicroPython ")


def test_ports_that_no_board_comes_with_are_left_alone(rigs: Rigs) -> None:
    modem = Port(rigs["node"].url, vid=0x1199, pid=0x9091, description="a modem")
    said = len(rigs["node"].log)
    [found] = look([modem])
    assert found.what.kind == "not asked"
    assert len(rigs["node"].log) == said


def test_a_port_that_goes_while_it_is_asked(rigs: Rigs) -> None:
    rig = rigs["silent"]
    asked = len(rig.log)
    cut = threading.Timer(0.5, rig.faults, kwargs={"vanish": 0.1})
    cut.start()
    [found] = look([named(rig)])
    cut.join()
    assert found.what.kind == "closed"
    assert found.what.text == f"{rig.url} went away while it was asked; see to its cable."
    assert len(rig.log) == asked


def test_a_board_behind_espressifs_server(rigs: Rigs) -> None:
    """It resets a board when somebody connects. What limpet says must not be one more reset to it."""
    rig = rigs["fresh"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    words = [str(Path(LIMPET).with_name("esp_rfc2217_server")), "-p", str(number), rig.url]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            said = server.stdout
            wait_until(lambda: "Waiting for connection" in said.readline(), "the server")
            port = Port(f"rfc2217://127.0.0.1:{number}", named=True)
            assert look([port])[0].what.text == "limpet 0.1.0, without settings or without an identity"
            assert "waiting for download" not in rig.log
        finally:
            server.terminate()


# The command


def test_the_command(rigs: Rigs) -> None:
    node, prompt = rigs["node"], rigs["prompt"]
    done = limpet("devices", "--port", node.url, "-p", prompt.url)
    assert (done.code, done.err) == (0, "")
    first, second, third, fourth = done.out.splitlines()
    assert (first, second) == (node.url, f"    limpet 0.1.0, node {NODE}")
    assert (third, fourth[:16]) == (prompt.url, "    MicroPython ")


def test_json_and_ports_named_in_the_environment(rigs: Rigs) -> None:
    node, blank = rigs["node"], rigs["blank"]
    done = limpet("devices", "--json", LIMPET_PORTS=f"{node.url} {blank.url}")
    assert (done.code, done.err) == (0, "")
    found = {each["port"]: each for each in json.loads(done.out)["devices"]}
    assert found[node.url] == {
        "port": node.url,
        "location": None,
        "vid": None,
        "pid": None,
        "serial_number": None,
        "bridge": None,
        "description": "",
        "what": {
            "kind": "node",
            "text": f"limpet 0.1.0, node {NODE}",
            "version": "0.1.0",
            "node": NODE,
            "locked": False,
        },
        "chip": None,
    }
    assert found[blank.url]["what"]["kind"] == "broken"


def test_probe_tells_the_chips_and_starts_the_boards_again(rigs: Rigs) -> None:
    node, usb, blank = rigs["node"], rigs["usb"], rigs["blank"]
    said = len(node.log)
    words = ["--port", node.url, "--port", usb.url, "--port", blank.url]
    done = limpet("devices", "--probe", "--json", *words)
    assert (done.code, done.err) == (0, "")
    first, second, third = json.loads(done.out)["devices"]
    assert first["what"]["node"] == NODE
    assert first["chip"] == {
        "name": "ESP32",
        "mac": node.mac,
        "flash_size": 4 << 20,
        "encrypted": False,
        "secure_boot": False,
    }
    assert (second["chip"]["name"], second["chip"]["mac"]) == ("ESP32-C3", usb.mac)
    assert (third["what"]["kind"], third["chip"]["mac"]) == ("broken", blank.mac)
    node.says(f"I am '{NODE}'", since=said)
    usb.says("MicroPython")
    into_rom(usb, usb=True)


def test_probe_of_a_port_without_a_chip(rigs: Rigs) -> None:
    rig = rigs["silent"]
    rig.faults(deaf=True)
    try:
        done = limpet("devices", "--probe", "--port", rig.url)
    finally:
        rig.faults(deaf=False)
    assert (done.code, done.err) == (3, "")
    assert "no ESP32 answers in its bootloader" in done.out


def test_a_port_that_another_program_has(rigs: Rigs) -> None:
    rig = rigs["fresh"]
    with contextlib.closing(open_line(rig.url)):
        done = limpet("devices", "--port", rig.url)
    assert (done.code, done.err) == (3, "")
    assert done.out.splitlines() == [
        rig.url,
        f"    {rig.url} cannot be opened: nothing listens there, or another program has it; "
        "start the server, or close that program.",
    ]


def test_words_that_make_no_sense() -> None:
    done = limpet("devices", "--watch", "--probe")
    assert (done.code, done.out) == (2, "")
    assert done.err == "limpet: --watch resets nothing: leave --probe out, or --watch.\n"


def test_watch_shows_what_comes_and_goes(rigs: Rigs, tmp_path: Path) -> None:
    rig = rigs["fresh"]
    with Running("devices", "--watch", "--port", tmp_path / "never", "--port", rig.url) as running:
        assert running.line() == f"+ {rig.url}"
        assert running.line() == "      limpet 0.1.0, without settings or without an identity"
        rig.faults(vanish=3.5)
        assert running.line() == f"- {rig.url}"
        assert running.line() == f"+ {rig.url}"
        running.send(signal.SIGINT)
        assert (running.wait(), running.err) == (0, "")


def test_watch_as_json_on_a_device(tmp_path: Path) -> None:
    plug = tmp_path / "ttyUSB0"
    with Bench() as bench:
        rig = Rig(bench, tmp_path / "flash.bin")
        with Running("devices", "--watch", "--json", "--port", plug) as running:
            plug.symlink_to(rig.port)
            came = json.loads(running.line())
            assert (came["event"], came["port"], came["what"]["kind"]) == ("came", str(plug), "micropython")
            plug.unlink()
            assert json.loads(running.line()) == {"event": "gone", "port": str(plug)}
            plug.symlink_to(rig.port)
            assert json.loads(running.line())["event"] == "came"
            running.send(signal.SIGINT)
            assert (running.wait(), running.err) == (0, "")
            assert rig.board.boots == 1


def test_ctrl_c_still_stops_the_node(rigs: Rigs) -> None:
    """After all that was asked of it."""
    rig = rigs["node"]
    assert look([named(rig)])[0].what.node == NODE
    with contextlib.closing(open_line(rig.url)) as port:  # patiently: the last one has only just hung up
        port.write(b"\x03")
        wait_until(lambda: rig.log.endswith(">>> "), "the prompt")
        port.write(b"\x04")
        rig.says("soft reboot")
        wait_until(lambda: rig.log.rpartition("soft reboot")[2].count(f"I am '{NODE}'"), "the node")
    assert look([named(rig)])[0].what.node == NODE
