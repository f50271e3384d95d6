"""Rig files with errors: each way to get one wrong, with its exact message."""

import random

import pytest

from host_tools.errors import LimpetError
from tests.host.rig_files import BENCH, DESK, QEMU, SENSOR, rig

PORT = 'port = { mac = "…" }, { usb = "…" } or { url = "…" }'
KINDS = "none, command, uhubctl, relay, tasmota, labgrid"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


def problems(text: str) -> list[str]:
    """The problems of a rig file, without its name."""
    with pytest.raises(LimpetError) as caught:
        rig(text)
    lines = str(caught.value).splitlines()
    assert all(line.startswith("desk.toml:") and line.endswith((".", "?")) for line in lines)
    assert lines == sorted(lines, key=lambda line: int(line.split(":")[1]))
    return [line.removeprefix("desk.toml:") for line in lines]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # The top of the file
        ('board = "virtual"', ['1: rung: this key is missing. Write "virtual", "emulator" or "bench".']),
        (BENCH + "powr = 1", ["4: powr: unknown key. Did you mean 'power'?"]),
        (
            BENCH.replace("bench", "desk"),
            ['1: rung: expected "virtual", "emulator" or "bench", found "desk".'],
        ),
        (
            BENCH.replace("devkitc", "devkitd"),
            ["2: board: unknown board \"esp32_devkitd\". Did you mean 'esp32_devkitc'?"],
        ),
        (
            BENCH + 'host = "192.168.7.300"',
            [
                "4: host: this looks like an IPv4 address, but is none. Write four numbers from 0 to 255.",
            ],
        ),
        # Where the board is
        (
            'rung = "bench"\nboard = "virtual"',
            [
                f"1: port: this key is missing: where is the board? Write {PORT}, or for a lab "
                'place = { name = "…" }.'
            ],
        ),
        (
            BENCH + 'place = { name = "a" }',
            ["3: port: a place of labgrid has its own port. Keep one of port and place."],
        ),
        (
            BENCH.replace('mac = "', 'usb = "1-1", mac = "'),
            ["3: port: a port goes by one of mac, usb or url, and this names mac and usb. Keep one."],
        ),
        (
            BENCH.replace('{ mac = "24:0A:C4:00:00:01" }', "{}"),
            ["3: port: a port goes by one of mac, usb or url, and this names nothing. Write one of them."],
        ),
        (
            BENCH.replace('{ mac = "24:0A:C4:00:00:01" }', '"/dev/ttyUSB0"'),
            ["3: port: expected a table " + PORT.removeprefix("port = ") + ', found "/dev/ttyUSB0".'],
        ),
        (
            BENCH.replace("C4:00:00:01", "C4"),
            ['3: port.mac: expected a MAC address in quotes, such as "24:0a:c4:00:00:01", found "24:0A:C4".'],
        ),
        (
            BENCH.replace('mac = "24:0A:C4:00:00:01"', 'usb = "ttyUSB0"'),
            [
                '3: port.usb: expected a USB socket as `limpet devices` shows it, such as "1-2.3", '
                'found "ttyUSB0".'
            ],
        ),
        (
            BENCH.replace('mac = "24:0A:C4:00:00:01"', 'url = "/dev/ttyUSB0"'),
            [
                "3: port.url: a port's URL begins with rfc2217:// or socket://, and this does not. "
                "Name a port of "
                "this machine by its mac or its usb socket."
            ],
        ),
        (
            BENCH.replace('mac = "24:0A:C4:00:00:01"', 'url = "rfc2217://lab"'),
            ["3: port.url: this URL lacks its host or its port. Write one such as rfc2217://lab:4000."],
        ),
        (
            BENCH.replace('mac = "24:0A:C4:00:00:01"', 'url = "rfc2217://lab:70000"'),
            [
                "3: port.url: this URL's port is not a number up to 65535. Write one such as rfc2217://lab:4000."
            ],
        ),
        (
            'rung = "bench"\nboard = "virtual"\nplace = { name = "a", coordinator = "lab:x" }',
            [
                "3: place.coordinator: expected host and port of its coordinator, such as "
                '"lab.example:20408", '
                'found "lab:x".'
            ],
        ),
        # Wi-Fi, whose password is never quoted
        (
            BENCH + '[wifi]\nssid = "bench"\npassword = "correct horse"',
            [
                "6: wifi.password: a rig file is shared, so it holds no password. Write the password "
                "into a file "
                "that only you can read, and password_file = with that file's path here."
            ],
        ),
        (BENCH + 'wifi = "correct horse"', ["4: wifi: expected a table [wifi], found text."]),
        (
            BENCH + '[wifi]\nssid = "bench"\npassword_file = ["correct horse"]',
            [
                "6: wifi.password_file: expected the path of a file that holds the password, in "
                "quotes, found a list."
            ],
        ),
        (
            BENCH + '[wifi]\nssid = "bench"\npassword_file = "~nobody-of-this-name/wifi"',
            ["6: wifi.password_file: nobody knows that home folder. Write the whole path."],
        ),
        # Power
        (BENCH + "[power]\nport = 4", [f"4: power.kind: this key is missing. Write one of: {KINDS}."]),
        (
            BENCH + 'power = { kind = "uhubct" }',
            ["4: power.kind: unknown kind of power \"uhubct\". Did you mean 'uhubctl'?"],
        ),
        (BENCH + "power = { kind = 3 }", [f"4: power.kind: unknown kind of power 3. Known are: {KINDS}."]),
        (BENCH + "power = 3", ["4: power: expected a table [power], found 3."]),
        (
            BENCH + '[power]\nkind = "uhubctl"\nlocation = "hub"\nport = 0\nprog = "x"',
            [
                '6: power.location: expected the hub as uhubctl lists it, such as "1-1", found "hub".',
                "7: power.port: expected the number of the hub's port, 1 to 32, found 0.",
                "8: power.prog: unknown key. Did you mean 'program'?",
            ],
        ),
        (
            BENCH + '[power]\nkind = "command"\non = "relay on"\noff = []',
            [
                "6: power.on: a command is a list of its program and arguments, for no shell takes it apart. "
                'Write it as in ["relay", "on", "3"].',
                '7: power.off: expected a list of a program and its arguments, such as ["relay", '
                '"off", "3"], '
                "found an empty list.",
            ],
        ),
        (
            BENCH + '[power]\nkind = "command"\non = ["relay", 3]\noff = [""]',
            [
                '6: power.on: expected a list of a program and its arguments, such as ["relay", "on", "3"], '
                "found a list.",
                '7: power.off: expected a list of a program and its arguments, such as ["relay", '
                '"off", "3"], '
                "found a list.",
            ],
        ),
        (
            BENCH + '[power]\nkind = "relay"\nchannel = 9',
            [
                "4: power.port: this key is missing. Write the relay board's serial port in quotes, such as "
                '"/dev/ttyUSB3".',
                "6: power.channel: expected the number of the relay, 1 to 8, found 9.",
            ],
        ),
        (
            BENCH + '[power]\nkind = "tasmota"\nhost = "mqtt://plugs"\ntopic = "plug/#"\nca = 1\nkey = "k"',
            [
                "4: power.certificate: this key is missing. Write the path of our own certificate "
                "(PEM) in quotes.",
                '6: power.host: expected a host, found a URL. Write host = "plugs".',
                "7: power.topic: '#' and '+' are wildcards of subscriptions. Leave them out.",
                "8: power.ca: expected the path of the authority's certificate (PEM) in quotes, found 1.",
            ],
        ),
        (
            BENCH + 'power = { kind = "labgrid" }',
            ['4: power.kind: labgrid switches the power of its places alone. Write place = { name = "…" }.'],
        ),
        # Stimulus
        (
            BENCH + SENSOR + '[stimulus."bme280/temprature"]\nkind = "bord"',
            [
                '6: stimulus."bme280/temprature": no sensor measures "bme280/temprature". '
                "Did you mean 'bme280/temperature'?",
                '7: stimulus."bme280/temprature".kind: unknown kind of stimulus "bord". Did you mean '
                "'board'?",
            ],
        ),
        (
            BENCH + 'stimulus = { "probe/temperature" = { kind = "command", set = ["oven"] } }',
            [
                '4: stimulus."probe/temperature".set: no argument says where the number goes. '
                "Write {value} in its place.",
                '4: stimulus."probe/temperature": the rig has no sensors to act on. '
                "Write tables [sensors.NAME], or leave this one out.",
            ],
        ),
        (
            BENCH
            + SENSOR
            + '[stimulus."bme280/temperature"]\nkind = "board"\n'
            + 'port = { mac = "240ac4000001" }\ncode = "on()"',
            [
                '9: stimulus."bme280/temperature".code: the code does not say where the number goes. '
                "Write {value} in its place.",
            ],
        ),
        (
            BENCH
            + SENSOR
            + '[stimulus."bme280/temperature"]\nkind = "board"\n'
            + 'port = { mac = "240ac4000001" }\ncode = "{value}"',
            [
                '8: stimulus."bme280/temperature".port: MAC 24:0a:c4:00:00:01 is the board under test. '
                "Name the second board, which acts on it."
            ],
        ),
        (
            BENCH
            + SENSOR
            + '[stimulus."bme280/temperature"]\nkind = "reference"\nread = ["t"]\ntolerance = 0',
            [
                '9: stimulus."bme280/temperature".tolerance: expected a number above 0, in the '
                "channel's unit, "
                "found 0."
            ],
        ),
        (
            BENCH + "stimulus = { x = 1 }\n" + SENSOR,
            [
                "4: stimulus.x: expected a table, found a number.",
                '4: stimulus.x: no sensor measures "x". Known are: bme280/temperature, bme280/pressure, '
                "bme280/humidity.",
            ],
        ),
        # Of a sensor whose table is wrong nobody knows the channels.
        (
            BENCH
            + '[sensors.wind]\nkind = "current_lop"\n'
            + '[stimulus."wind/speed"]\nkind = "command"\nset = ["fan", "{value}"]',
            ["5: sensors.wind.kind: unknown sensor \"current_lop\". Did you mean 'current_loop'?"],
        ),
        (
            BENCH
            + '[sensors.wind]\nkind = "current_loop"\nperiod = 1\npin = 34\nshunt = 100\nquantity = "a b"\n'
            + 'unit = "m/s"\nrange = [0, 30]\n'
            + '[stimulus."wind/speed"]\nkind = "command"\nset = ["fan", "{value}"]',
            [
                '9: sensors.wind.quantity: "a b" is not a valid name. Use letters, digits and any of '
                "'-', ':', '.', '_', and begin with a letter or digit."
            ],
        ),
        # Sensors, as in a node file
        (
            BENCH + SENSOR + "scl = 99\nsda = 21",
            [
                '6: sensors.bme280.scl: the board "esp32_devkitc" has no GPIO 99. Use one of 0 '
                "(boot), 2, 4, 5, 12, "
                "13, 14, 15, 16, 17, 18, 19, 21 (SDA), 22 (SCL), 23, 25, 26, 27, 32, 33."
            ],
        ),
        (
            BENCH
            + '[sensors.wind]\nkind = "current_loop"\nperiod = 1\npin = 34\nshunt = 10\nquantity = "speed"\n'
            + 'unit = "m/s"\nrange = [0, 30]',
            [
                "8: sensors.wind.shunt: 3.6 mA through 10 ohm is less than the 0.15 V that the ADC measures, "
                "so a broken wire would not be seen. Use at least 42 ohm."
            ],
        ),
        # Capabilities
        (
            BENCH + 'capabilities = ["rf-chamber", "power", "sensor:x", "rf-chamber"]',
            [
                '4: capabilities[1]: whether a rig has "power" follows from its other keys. Leave it '
                "out here.",
                '4: capabilities[2]: whether a rig has "sensor:x" follows from its other keys. Leave '
                "it out here.",
                '4: capabilities[3]: "rf-chamber" stands in the list twice. Keep it once.',
            ],
        ),
        (
            BENCH + 'capabilities = ["RF chamber", 3]',
            [
                '4: capabilities[0]: "RF chamber" cannot be a capability. Write lower-case letters, '
                "digits and "
                '\'-\', such as "rf-chamber" or "gas:methane".',
                '4: capabilities[1]: expected a list of words in quotes, such as ["rf-chamber"], found 3.',
            ],
        ),
        # Keys of another rung
        (
            DESK.replace("bench", "virtual", 1),
            [
                "3: port: a virtual board brings its own port. Leave this key out.",
                "4: host: a virtual board reaches this machine by itself. Leave this key out.",
                "6: wifi: a virtual board brings its own network. Leave this key out.",
                "9: power: the power of a virtual board can be cut at any time. Leave this key out.",
                "13: stimulus: what the sensors of a virtual board measure can be set as it is. "
                "Leave this key out.",
            ],
        ),
        (
            BENCH + 'emulator = { kind = "qemu" }',
            [
                '4: emulator: only a rig with rung = "emulator" has this key. Change the rung, or leave it '
                "out."
            ],
        ),
        (
            'rung = "emulator"\nboard = "virtual"\nplace = { name = "a" }',
            [
                '1: emulator: this key is missing. Write emulator = { kind = "qemu" } or { kind = '
                '"esp-emu" }.',
                '2: board: "virtual" has no MicroPython for a chip. Name another, such as esp32_generic.',
                "3: place: an emulator is on this machine, not in a lab. Leave this key out.",
            ],
        ),
        (
            QEMU.replace("esp32_generic", "esp32c3_generic") + '[wifi]\nssid = "a"\n' + SENSOR,
            [
                "2: board: QEMU plays an ESP32 or an ESP32-S3, and this board has an ESP32-C3. "
                "Name another, such as esp32_generic.",
                "4: wifi: QEMU has no Wi-Fi. Leave this key out.",
                "6: sensors: QEMU has none of these sensors. Leave this key out.",
            ],
        ),
        (
            QEMU.replace("qemu", "qmu"),
            ['3: emulator.kind: expected "qemu" or "esp-emu", found "qmu".'],
        ),
    ],
)
def test_every_problem_is_told_with_its_line_and_remedy(text, expected):
    assert problems(text) == expected


def test_a_name_must_serve_on_the_command_line():
    with pytest.raises(LimpetError, match=r"^my rig\.toml:1: a rig's name has letters, digits, '_' and '-'"):
        rig(BENCH, "my rig")


_VALUES = """
    0 -1 1 65536 1e400 nan true 1979-05-27 [] [1] [[]] {} {a=1} {kind="relay"} "" "x" "bench" "virtual"
    "~nobody" ["a",1] "\\u0000" {mac=1} {usb="1-1",url="a"} "rfc2217://[:1" {kind="qemu"} "{value}" "emulator"
    {name="\\n"}
"""
VALUES = _VALUES.split()


def test_whatever_is_written_is_loaded_or_refused_in_sentences():
    chance = random.Random(6)
    loaded = 0
    for _ in range(80):
        lines = DESK.splitlines()
        for _ in range(chance.randint(1, 2)):
            at = chance.randrange(len(lines))
            key, equals, _ = lines[at].partition("=")
            match chance.randrange(3):
                case 0 if equals:
                    lines[at] = f"{key}= {chance.choice(VALUES)}"
                case 1:
                    del lines[at]
                case _:
                    lines.insert(at, chance.choice(lines))
        try:
            rig("\n".join(lines))
            loaded += 1
        except LimpetError as error:
            assert all(line.startswith("desk.toml:") for line in str(error).splitlines())
    assert 0 < loaded < 80
