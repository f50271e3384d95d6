"""Rig files for tests."""

from pathlib import Path

from host_tools.hil.rigs import RigFile, load_rig

# Lines 1 to 3; each case adds some.
BENCH = """\
rung = "bench"
board = "esp32_devkitc"
port = { mac = "24:0A:C4:00:00:01" }
"""
SENSOR = """\
[sensors.bme280]
period = "1s"
"""
DESK = (
    BENCH
    + """\
host = "192.168.7.2"
capabilities = ["rf-chamber"]
[wifi]
ssid = "bench"
password_file = "~/bench.wifi"
[power]
kind = "uhubctl"
location = "1-1"
port = 4
[stimulus."bme280/temperature"]
kind = "board"
port = { usb = "1-1.3" }
code = "heat({value})"
reset_code = "heat(None)"
[stimulus."bme280/humidity"]
kind = "reference"
read = ["hygrometer"]
tolerance = 2.5
[stimulus."bme280/pressure"]
kind = "command"
set = ["~/pump", "--to={value}"]
reset = ["pump", "--off"]
"""
    + SENSOR
)
QEMU = """\
rung = "emulator"
board = "esp32_generic"
emulator = { kind = "qemu" }
"""


def rig(text: str, name: str = "desk") -> RigFile:
    Path(f"{name}.toml").write_bytes(text.encode())
    return load_rig(f"{name}.toml")
