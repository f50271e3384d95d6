"""Rig files: what a good one becomes, which go together, and what a rig can do."""

import re
from pathlib import Path

import pytest

from host_tools import paths
from host_tools.errors import LimpetError, UsageError
from host_tools.hil.rigs import (
    WifiSpec,
    capabilities,
    check_needs,
    known_rigs,
    load_all,
    load_rig,
    missing,
)
from host_tools.hil.rigs.port import Place, PortChoice
from host_tools.hil.rigs.power import (
    CommandPower,
    LabgridPower,
    NoPower,
    RelayPower,
    TasmotaPower,
    UhubctlPower,
    VirtualPower,
)
from host_tools.hil.rigs.show import as_json, listed
from host_tools.hil.rigs.stimulus import BoardStimulus, CommandStimulus, ReferenceStimulus, VirtualStimulus
from host_tools.hil.rigs.wifi import password
from tests.host.rig_files import BENCH, DESK, QEMU, SENSOR, rig


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_a_bench_rig_has_what_its_file_says(tmp_path):
    desk = rig(DESK)
    assert (desk.name, desk.rung, desk.board.name) == ("desk", "bench", "esp32_devkitc")
    assert (desk.host, desk.place, desk.emulator) == ("192.168.7.2", None, None)
    assert desk.port == PortChoice(mac="24:0a:c4:00:00:01")
    assert desk.wifi is not None
    assert desk.wifi.ssid == "bench"
    assert desk.wifi.password_file == tmp_path / "bench.wifi"
    assert desk.power == UhubctlPower(location="1-1", port=4)
    assert desk.power.program == "uhubctl"
    assert desk.sensors["bme280"].period == 1000
    assert desk.channels == ("bme280/temperature", "bme280/pressure", "bme280/humidity")
    assert desk.stimulus == {
        "bme280/temperature": BoardStimulus(
            port=PortChoice(usb="1-1.3"), code="heat({value})", reset_code="heat(None)"
        ),
        "bme280/humidity": ReferenceStimulus.model_construct(read=("hygrometer",), tolerance=2.5),
        "bme280/pressure": CommandStimulus.model_construct(
            set=(str(tmp_path / "pump"), "--to={value}"), reset=("pump", "--off")
        ),
    }


def test_the_rigs_of_the_documentation_load():
    texts = re.findall(r"^```toml\n(.*?)^```", (paths.ROOT / "docs" / "rigs.md").read_text(), re.M | re.S)
    desk, lab, emulated = (rig(text, f"rig{number}") for number, text in enumerate(texts))
    assert [desk.rung, lab.rung, emulated.rung] == ["bench", "bench", "emulator"]
    shown = "    download, network, power, reference:humidity, reference:temperature, reset, rf-chamber, "
    assert listed([desk])[1].startswith(shown)


@pytest.mark.parametrize(
    ("table", "power"),
    [
        ("", NoPower()),
        ('kind = "none"', NoPower()),
        (
            'kind = "command"\non = ["a", "b c"]\noff = ["d"]',
            CommandPower.model_construct(on=("a", "b c"), off=("d",)),
        ),
        ('kind = "relay"\nport = "/dev/ttyUSB3"\nchannel = 2', RelayPower(port="/dev/ttyUSB3", channel=2)),
        (
            'kind = "tasmota"\nhost = "plugs.example"\ntopic = "plug1"\nca = "ca.pem"\n'
            'certificate = "our.pem"\nkey = "our.key"',
            TasmotaPower.model_validate(
                {
                    "host": "plugs.example",
                    "topic": "plug1",
                    "ca": "ca.pem",
                    "certificate": "our.pem",
                    "key": "our.key",
                }
            ),
        ),
    ],
)
def test_power_comes_in_kinds(table, power):
    assert rig(BENCH + ("[power]\n" + table if table else "")).power == power


def test_a_virtual_rig_needs_no_more_than_its_wiring():
    virtual = load_rig("virtual")
    assert virtual.path == paths.RIGS / "virtual.toml"
    assert (virtual.rung, virtual.board.name, virtual.port) == ("virtual", "virtual", None)
    assert virtual.power == VirtualPower()
    assert set(virtual.stimulus) == set(virtual.channels)
    assert virtual.channels[-2:] == ("probe/temperature", "wind/speed")
    assert set(virtual.stimulus.values()) == {VirtualStimulus()}


def test_a_rig_of_a_lab_has_a_place():
    lab = rig(
        'rung = "bench"\nboard = "esp32_generic"\n'
        'place = { name = "esp32-1", coordinator = "lab.example:20408" }\npower = { kind = "labgrid" }\n'
    )
    assert lab.place == Place(name="esp32-1", coordinator="lab.example:20408")
    assert lab.port is None
    assert lab.power == LabgridPower()
    assert {"power", "reset", "download"} <= capabilities(lab)


def test_an_emulator_rig_names_its_program(tmp_path):
    emulated = rig(QEMU.replace('"qemu" }', '"qemu", program = "~/bin/qemu" }'))
    assert emulated.emulator is not None
    assert emulated.emulator.program == str(tmp_path / "bin" / "qemu")
    assert emulated.power == NoPower()
    assert capabilities(emulated) == {"reset"}
    wifi = '[wifi]\nssid = "emulated"\n'
    assert "network" in capabilities(rig(QEMU.replace("qemu", "esp-emu") + wifi + SENSOR))


def test_a_rig_goes_by_its_name_in_its_folder_or_by_its_path():
    rigs = Path("rigs")
    rigs.mkdir()
    (rigs / "desk.toml").write_text(BENCH)
    (rigs / ".#desk.toml").symlink_to("alice@bench1.4711")  # Emacs', while the file is open
    assert known_rigs(rigs) == ["desk", "virtual"]
    assert load_rig("desk", rigs).path == rigs / "desk.toml"
    (rigs / "virtual.toml").write_text('rung = "virtual"\nboard = "esp32c3_generic"\n')
    assert load_rig("virtual", rigs).board.name == "esp32c3_generic"
    with pytest.raises(UsageError) as caught:
        load_rig("dsk", rigs)
    assert str(caught.value) == (
        "There is no rig 'dsk' in rigs. Did you mean 'desk'? "
        "`limpet hil suggest` writes a rig file for what is plugged in."
    )


PLUG = (
    '[power]\nkind = "tasmota"\nhost = "a"\ntopic = "t"\nca = "c"\ncertificate = "d"\nkey = "e"\nrelay = {}\n'
)


@pytest.mark.parametrize(
    ("one", "other", "thing", "line"),
    [
        (
            'port = { mac = "24:0A:C4:00:00:01" }',
            'port = { mac = "240ac4000001" }',
            "MAC 24:0a:c4:00:00:01",
            3,
        ),
        ('port = { usb = "1-2" }', 'port = { usb = "1-2" }', "USB 1-2", 3),
        ('port = { url = "rfc2217://Lab:4000" }', 'port = { url = "socket://lab:4000" }', "port lab:4000", 3),
        ('place = { name = "p" }', 'place = { name = "p" }', "place p", 3),
        (
            'port = { usb = "1-3" }',
            f'port = {{ usb = "1-4" }}\n{SENSOR}[stimulus."bme280/pressure"]\nkind = "board"\n'
            'port = { usb = "1-3" }\ncode = "{value}"',
            "USB 1-3",
            8,
        ),
        (
            'port = { usb = "1-3" }\npower = { kind = "uhubctl", location = "1", port = 3 }',
            'port = { usb = "1-4" }\npower = { kind = "uhubctl", location = "1", port = 3 }',
            "port 3 of USB hub 1",
            4,
        ),
        (
            'port = { usb = "1-3" }\npower = { kind = "relay", port = "/dev/relay" }',
            'port = { usb = "1-4" }\npower = { kind = "relay", port = "/dev/relay", channel = 1 }',
            "relay 1 at /dev/relay",
            4,
        ),
        (
            'port = { usb = "1-3" }\n' + PLUG.format(1),
            'port = { usb = "1-4" }\n' + PLUG.format(1),
            "relay 1 of Tasmota device t at a",
            4,
        ),
    ],
)
def test_two_rigs_that_claim_one_thing_are_refused_with_both_names(one, other, thing, line):
    rigs = Path("rigs")
    rigs.mkdir()
    head = 'rung = "bench"\nboard = "esp32_devkitc"\n'
    (rigs / "a.toml").write_text(head + one)
    (rigs / "b.toml").write_text(head + other)
    with pytest.raises(LimpetError) as caught:
        load_all(rigs)
    assert str(caught.value) == (
        f"rigs/b.toml:{line}: the rigs 'a' and 'b' both claim {thing}. Correct one of them; the other is in "
        "rigs/a.toml."
    )


def test_rigs_that_differ_in_everything_go_together():
    rigs = Path("rigs")
    rigs.mkdir()
    head = 'rung = "bench"\nboard = "esp32_devkitc"\n'
    (rigs / "a.toml").write_text(head + 'port = { usb = "1-3" }\n' + PLUG.format(1))
    (rigs / "b.toml").write_text(head + 'port = { usb = "1-4" }\n' + PLUG.format(2))
    (rigs / "c.toml").write_text(QEMU)
    (rigs / "d.toml").write_text(QEMU)
    loaded = load_all(rigs)
    assert [each.name for each in loaded] == ["a", "b", "c", "d", "virtual"]
    lines = listed(loaded)
    assert lines[0] == "a        bench     esp32_devkitc  USB 1-3"
    assert lines[1] == "    download, power, reset"
    assert lines[4] == "c        emulator  esp32_generic  started by qemu"
    assert lines[8] == "virtual  virtual   virtual        made for each run"
    assert lines[9].startswith("    dns, download, fault:bme280, ")
    assert "stimulus:speed" in lines[9]
    assert "bme280/" not in lines[9]


def test_all_problems_of_all_rigs_are_told_at_once():
    rigs = Path("rigs")
    rigs.mkdir()
    (rigs / "a.toml").write_text(BENCH + "powr = 1")
    (rigs / "b.toml").write_text(BENCH + "wfi = 1")
    with pytest.raises(LimpetError) as caught:
        load_all(rigs)
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == [
        "rigs/a.toml:4",
        "rigs/b.toml:4",
    ]


def test_capabilities_follow_from_the_file():
    assert capabilities(rig(DESK)) == {
        "power",
        "reset",
        "download",
        "network",
        "rf-chamber",
        "sensor:bme280",
        "stimulus:temperature",
        "stimulus:bme280/temperature",
        "stimulus:pressure",
        "stimulus:bme280/pressure",
        *(
            f"reference:{prefix}{leaf}"
            for prefix in ("", "bme280/")
            for leaf in ("temperature", "pressure", "humidity")
        ),
    }
    assert capabilities(rig(BENCH)) == {"reset", "download"}
    bare = BENCH.replace('mac = "24:0A:C4:00:00:01"', 'url = "socket://lab:4000"')
    assert capabilities(rig(bare)) == frozenset()


def test_a_virtual_rig_can_all_that_its_wiring_allows():
    has = capabilities(load_rig("virtual"))
    assert {"power:flash", "wifi", "dns", "fault:ds18b20", "stimulus:wind/speed", "stimulus:speed"} <= has
    unwired = rig('rung = "virtual"\nboard = "virtual"\n')
    assert capabilities(unwired) == {"power", "power:flash", "reset", "download", "network", "wifi", "dns"}


def test_what_a_rig_lacks_is_told_in_the_test_s_order():
    desk = rig(DESK)
    needs = ["wifi", "power", "fault:bme280", "rf-chamber", "wifi", "stimulus:humidity"]
    assert missing(needs, desk) == ["wifi", "fault:bme280", "stimulus:humidity"]
    assert missing(["power", "network"], desk) == []


def test_needs_that_some_rig_could_meet_are_known():
    desk = rig(DESK)
    check_needs(["power:flash", "sensor:current_loop", "fault:ds18b20", "stimulus:temperature"], [])
    # A quantity is the user's own word: this rig has none such, and another may.
    check_needs(["stimulus:level", "rf-chamber", "reference:bme280/humidity"], [desk])


@pytest.mark.parametrize(
    ("need", "remedy"),
    [
        ("powr", "Did you mean 'power'?"),
        ("power:flsh", "Did you mean 'power:flash'?"),
        ("sensor:bme180", "Did you mean 'sensor:bme280'?"),
        ("fault:xyzzy", None),
        ("stimulus:temprature", "Did you mean 'stimulus:temperature'?"),
        ("stimulus:", "Did you mean 'stimulus:"),
        ("rf-chambre", "Did you mean 'rf-chamber'?"),
        (
            "xyzzy",
            "Known are: power, power:flash, reset, download, network, wifi, dns; sensor:KIND, fault:KIND; "
            "stimulus:QUANTITY, reference:QUANTITY; and what a rig file declares in its capabilities.",
        ),
    ],
)
def test_a_need_that_no_rig_can_meet_is_an_error(need, remedy):
    with pytest.raises(UsageError) as caught:
        check_needs(["power", need], [rig(DESK)])
    text = str(caught.value)
    assert text.startswith(f"No rig has the capability '{need}'. ")
    assert remedy is None or remedy in text


def test_a_rig_as_json():
    assert as_json(rig(DESK)) == {
        "name": "desk",
        "file": "desk.toml",
        "rung": "bench",
        "board": "esp32_devkitc",
        "port": "MAC 24:0a:c4:00:00:01",
        "power": "uhubctl",
        "channels": ["bme280/temperature", "bme280/pressure", "bme280/humidity"],
        "capabilities": sorted(capabilities(rig(DESK))),
    }


SECRET = "correct horse"


def wifi_file(data: bytes, mode: int = 0o600) -> WifiSpec:
    path = Path("bench.wifi")
    path.write_bytes(data)
    path.chmod(mode)
    return WifiSpec.model_validate({"ssid": "bench", "password_file": str(path)})


def test_the_password_comes_from_its_file():
    for end in (b"", b"\n", b"\r\n"):
        secret = password(wifi_file(SECRET.encode() + end))
        assert secret is not None
        assert secret.get_secret_value() == SECRET
        assert SECRET not in repr(secret)
    assert password(WifiSpec(ssid="open")) is None


@pytest.mark.parametrize(
    ("data", "mode", "sentence"),
    [
        (
            SECRET,
            0o640,
            "bench.wifi holds a password, and others can read or change it: chmod 600 bench.wifi.",
        ),
        ("", 0o600, "bench.wifi: the password is empty. Leave the key out for an open network."),
        (
            f"{SECRET}\nof two lines\n",
            0o600,
            "bench.wifi: a password has printable ASCII characters only, and this one has others. "
            "Correct it.",
        ),
        ("\x80", 0o600, "bench.wifi: this is not text. Write the password there as one line."),
        (
            None,
            0o600,
            "The Wi-Fi's password cannot be read from bench.wifi (no such file or directory): write "
            "it there as one "
            "line, and chmod 600 the file.",
        ),
    ],
)
def test_a_file_without_a_usable_password_is_refused_in_a_sentence(data, mode, sentence):
    wifi = wifi_file((data or "").encode("latin-1"), mode)
    if data is None:
        Path("bench.wifi").unlink()
    with pytest.raises(LimpetError) as caught:
        password(wifi)
    assert str(caught.value) == sentence
