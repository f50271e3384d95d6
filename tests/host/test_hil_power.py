"""What switches a board's supply: programs, hub ports, relays, outlets, and cuts at a chosen moment."""

import contextlib
import functools
import json
import os
import pty
import re
import ssl
import stat
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import paho.mqtt.client as mqtt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from paho.mqtt.enums import CallbackAPIVersion

from host_tools.broker import mosquitto
from host_tools.broker.process import BrokerProcess
from host_tools.hil.blocked import Blocked
from host_tools.hil.power import Power, PowerControl, make_power
from host_tools.hil.power.relay import message
from host_tools.hil.power.tasmota import Tasmota
from host_tools.hil.power.uhubctl import refusal
from host_tools.hil.program import Ended, ended, run
from host_tools.hil.rigs.power import (
    CommandPower,
    LabgridPower,
    NoPower,
    PowerSpec,
    RelayPower,
    TasmotaPower,
    UhubctlPower,
    VirtualPower,
)
from host_tools.hil.timeline import Timeline
from host_tools.pki.authority import Authority, Credential
from tests.host.stand import wait_until


def program(path: Path, code: str) -> str:
    """A program of this test's."""
    path.write_text(f"#!{sys.executable} -IS\n{code}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def powered(spec: PowerSpec, timeline: Timeline | None = None) -> Power:
    power = make_power(spec, timeline or Timeline())
    assert power is not None
    return power


def by_command(on: list[str], off: list[str]) -> CommandPower:
    return CommandPower.model_validate({"on": on, "off": off})


def refused(act: Callable[[], object]) -> str:
    with pytest.raises(Blocked) as caught:
        act()
    return str(caught.value)


# Programs


def test_a_program_says_what_it_says() -> None:
    assert run([sys.executable, "-ISc", "print('a'); import sys; print('b', file=sys.stderr)"]) in (
        "a\nb\n",
        "b\na\n",
    )
    assert ended([sys.executable, "-ISc", "print('x y'); raise SystemExit(7)"]).code == 7


def test_a_program_that_fails_is_one_sentence(tmp_path: Path) -> None:
    failing = program(tmp_path / "switch", "print('looking for it'); raise SystemExit('no such relay.')")
    assert refused(lambda: run([failing])) == f"'{failing}' failed with exit code 1: no such relay."
    silent = program(tmp_path / "silent", "raise SystemExit(3)")
    assert refused(lambda: run([silent])).endswith("failed with exit code 3: it said nothing.")
    assert "cannot be run (no such file or directory): install it" in refused(lambda: run(["./nothing"]))
    assert "cannot be run (permission denied)" in refused(lambda: run([str(tmp_path)]))


def test_a_program_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    hanging = program(
        tmp_path / "hang",
        "import os, time, pathlib\n"
        f"child = os.fork()\n"
        f"pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch()\n"
        "time.sleep(600)\n",
    )
    assert refused(lambda: run([hanging], 1.0)).startswith(f"'{hanging}' did not end within 1 s")
    pids = [each.name for each in tmp_path.iterdir() if each.name.isdigit()]
    assert len(pids) == 2
    for pid in pids:
        wait_until(functools.partial(_is_over, pid), f"the end of {pid}")


def test_what_a_program_leaves_running_is_not_waited_for() -> None:
    """A heater's daemon, which keeps its standard output open."""
    code = "import os, time\nif os.fork() == 0: time.sleep(5); os._exit(0)\nprint('heating')"
    assert run([sys.executable, "-ISc", code], 4.0) == "heating\n"


def _is_over(pid: str) -> bool:
    with contextlib.suppress(OSError):
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


# A command


def test_commands_switch_without_a_shell(tmp_path: Path) -> None:
    log = tmp_path / "log"
    tool = program(
        tmp_path / "tool",
        f"import sys\nwith open({str(log)!r}, 'a') as file: file.write(repr(sys.argv[1:]) + '\\n')",
    )
    timeline = Timeline()
    power = powered(by_command([tool, "on; $HOME"], [tool, "off"]), timeline)
    power.off()
    power.on()
    assert log.read_text() == "['off']\n['on; $HOME']\n"
    assert [(event.source, event.text) for event in timeline.events()] == [("power", "off"), ("power", "on")]


def test_what_could_not_be_switched_is_in_the_timeline() -> None:
    timeline = Timeline()
    power = powered(by_command(["./nothing"], ["./nothing"]), timeline)
    why = refused(power.off)
    assert [event.text for event in timeline.events()] == [f"could not be switched off: {why}"]


@pytest.mark.parametrize("spec", [NoPower(), VirtualPower(), LabgridPower()], ids=lambda spec: spec.kind)
def test_power_that_is_none_or_comes_with_the_board(spec: PowerSpec) -> None:
    assert make_power(spec, Timeline()) is None


# uhubctl

UHUBCTL = """
import json, pathlib, sys
state = pathlib.Path({state!r})
hub = json.loads(state.read_text())
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
location, port, to = words["-l"], int(words["-p"]), words["-a"]
def show(when):
    print(f"{{when}} status for hub {{location}} [2109:2817 VIA Labs, Inc. USB2.0 Hub, USB 2.10, 4 ports]")
    known = "0103 power enable connect [10c4:ea60 Silicon Labs CP2102 USB to UART Bridge Controller 0001]"
    print(f"  Port {{port}}: " + (known if hub["on"] else "0000 off"))
if location != hub["location"]:
    print(f"No compatible devices detected at location {{location}}!", file=sys.stderr)
    print("Run with -h to get usage info.", file=sys.stderr)
    raise SystemExit(1)
show("Current")
if hub["switches"]:
    hub["on"] = to == "on"
print(f"Sent power {{to}} request")
show("New")
state.write_text(json.dumps(hub))
"""
"""Says what uhubctl 2.5.0 says, and does what a hub does."""


class Hub:
    """A hub at 1-1 behind such a program."""

    def __init__(self, folder: Path) -> None:
        self._state = folder / "hub.json"
        self.set(on=True, switches=True, location="1-1")
        self.program = program(folder / "uhubctl", UHUBCTL.format(state=str(self._state)))

    def set(self, **values: object) -> None:
        known = json.loads(self._state.read_text()) if self._state.exists() else {}
        self._state.write_text(json.dumps({**known, **values}))

    @property
    def on(self) -> bool:
        return bool(json.loads(self._state.read_text())["on"])

    def power(self, **changes: Any) -> Power:
        return powered(UhubctlPower(**{"location": "1-1", "port": 4, "program": self.program, **changes}))


def test_a_hub_switches(tmp_path: Path) -> None:
    hub = Hub(tmp_path)
    power = hub.power()
    power.off()
    assert not hub.on
    power.off()  # what is off already
    power.on()
    assert hub.on


def test_a_hub_that_only_says_that_it_switches(tmp_path: Path) -> None:
    hub = Hub(tmp_path)
    hub.set(switches=False)
    assert refused(hub.power().off) == (
        "Port 4 of the USB hub 1-1 stays on though uhubctl asked it to go off: the hub does not switch that "
        "port; take another hub."
    )
    hub.power().on()  # which it is


def test_a_hub_elsewhere_and_no_uhubctl(tmp_path: Path) -> None:
    hub = Hub(tmp_path)
    assert refused(hub.power(location="2").off).startswith("uhubctl finds no hub at 2 that can switch")
    assert "'no/uhubctl' cannot be run" in refused(hub.power(program="no/uhubctl").off)


# What uhubctl has printed on real machines, from its issues 473, 609 and 198.
OFF_473 = """\
There were permission problems while accessing USB.
Follow https://git.io/JIB2Z for a fix!
Current status for hub 2-3.4 [2109:2817 VIA Labs, Inc. USB2.0 Hub, USB 2.10, 4 ports, ppps]
  Port 4: 0107 power suspend enable connect [2357:0604]
Sent power off request
New status for hub 2-3.4 [2109:2817 VIA Labs, Inc. USB2.0 Hub, USB 2.10, 4 ports, ppps]
  Port 4: 0000 off
"""
OFF = OFF_473[OFF_473.index("Current") :]
OFF_609 = """\
Current status for hub 2-1.4 [17ef:a357 VIA Labs, Inc. USB3.1 Hub, USB 3.10, 4 ports, ppps]
  Port 4: 02a0 power 5gbps Rx.Detect
Failed to set port status by writing to /sys/…/2-1.4-port4/disable (Permission denied).
Follow https://git.io/JIB2Z to make sure that udev is set up correctly.
Falling back to libusb based port control.
Use -S to skip trying the sysfs interface and printing this message.
Sent power off request
New status for hub 2-1.4 [17ef:a357 VIA Labs, Inc. USB3.1 Hub, USB 3.10, 4 ports, ppps]
  Port 4: 00a0 off
Current status for hub 1-1.4 [17ef:1029 VIA Labs, Inc. USB2.0 Hub, USB 2.10, 4 ports, ppps]
  Port 4: 0503 power highspeed enable connect [12d1:1506 HUAWEI HUAWEI Mobile]
Sent power off request
New status for hub 1-1.4 [17ef:1029 VIA Labs, Inc. USB2.0 Hub, USB 2.10, 4 ports, ppps]
  Port 4: 0000 off
"""
FORBIDDEN_198 = """\
There were permission problems while accessing USB.
Follow https://git.io/JIB2Z for a fix!
No compatible devices detected at location 1-1!
Run with -h to get usage info.
"""


def said(text: str, to: str = "off", code: int = 0) -> str | None:
    return refusal(Ended("uhubctl", code, text), "1-1.4", 4, "on" if to == "on" else "off")


def test_complaints_beside_a_port_that_did_go_off() -> None:
    assert said(OFF_473) is None
    assert said(OFF_609) is None


def test_both_halves_of_a_usb_3_hub_count() -> None:
    half = OFF_609.replace("  Port 4: 0000 off", "  Port 4: 0503 power highspeed enable connect [12d1:1506]")
    assert half != OFF_609
    assert "udev" in (said(half) or "")
    without = half.replace("(Permission denied)", "(it will not)")
    assert (said(without) or "").startswith("Port 4 of the USB hub 1-1.4 stays on though")


def test_on_is_not_what_it_was_before() -> None:
    assert "stays off" in (said(OFF, "on") or "")


def test_permission_comes_with_the_udev_rule() -> None:
    text = said(FORBIDDEN_198, code=1) or ""
    assert text.startswith("uhubctl may not switch port 4 of the USB hub 1-1.4: put the line ")
    assert """'SUBSYSTEM=="usb", DRIVER=="usb", MODE="0664", GROUP="dialout"' into /etc/udev""" in text
    assert "udevadm trigger" in text


def test_what_uhubctl_does_not_say() -> None:
    assert "does not say what became of port 4" in (said("Current status for hub 1-1.4 [x]\n") or "")
    # Status alone, or that of another port, is not what became of ours.
    assert "does not say" in (said(OFF.replace("New", "Current")) or "")
    assert "does not say" in (said(OFF.replace("Port 4", "Port 3")) or "")
    assert said("Error: bad luck.\n", code=1) == "uhubctl failed with exit code 1: Error: bad luck."


# A relay on a serial port


class LcusRelay:
    """An LCUS board at the end of a pseudo-terminal: it knows messages of four bytes, and drops what does not
    add up."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        self.port = os.ttyname(slave)
        os.close(slave)  # the relay's side is the other one
        self.closed = [False] * 4
        self._gone = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._gone.set()
        self._thread.join(10)
        os.close(self._master)

    @property
    def speed(self) -> int:
        return int(termios.tcgetattr(self._master)[5])

    def _run(self) -> None:
        heard = b""
        while not self._gone.wait(0.005):
            with contextlib.suppress(OSError):  # EIO while nobody has the port open
                heard += os.read(self._master, 64)
            while len(heard) >= 4:
                start, channel, closed, check = heard[:4]
                if start == 0xA0 and (start + channel + closed) & 0xFF == check and 1 <= channel <= 4:
                    self.closed[channel - 1] = bool(closed)
                    heard = heard[4:]
                else:
                    heard = heard[1:]


def test_a_relay_closes_and_opens() -> None:
    with LcusRelay() as relay:
        power = powered(RelayPower(port=relay.port, channel=2))
        power.on()
        wait_until(lambda: relay.closed == [False, True, False, False], "the relay to close")
        assert relay.speed == termios.B9600
        power.off()
        wait_until(lambda: not any(relay.closed), "the relay to open")


def test_what_a_relay_is_told() -> None:
    """The maker's own examples, and a sum that does not fit into a byte."""
    assert (message(1, True), message(1, False)) == (b"\xa0\x01\x01\xa2", b"\xa0\x01\x00\xa1")
    assert message(0x60, True) == b"\xa0\x60\x01\x01"


def test_a_relay_that_is_not_there(tmp_path: Path) -> None:
    power = powered(RelayPower(port=str(tmp_path / "ttyUSB3")))
    assert refused(power.on).startswith(
        f"The relay cannot be reached: The serial port '{tmp_path / 'ttyUSB3'}' does not exist: "
    )


# Tasmota


class Plug:
    """A Tasmota device at its broker: a stand-in that answers as Tasmota does. A `deaf` one says nothing, a
    `stubborn` one stays as it is."""

    def __init__(self, site: "Site", topic: str, relays: int = 1, *, retains: bool = False) -> None:
        self.states = ["ON"] * relays
        self.deaf = False
        self.stubborn = False
        self._topic = topic
        self._retains = retains
        self._client = client = site.client(f"tasmota-{topic}")
        client.will_set(f"tele/{topic}/LWT", "Offline", qos=1, retain=True)
        client.on_message = self._told
        self._ready = threading.Event()
        client.on_subscribe = lambda *_: self._ready.set()

    def __enter__(self) -> Self:
        self._client.loop_start()
        self._client.subscribe(f"cmnd/{self._topic}/#")
        assert self._ready.wait(20)
        self._client.publish(f"tele/{self._topic}/LWT", "Online", qos=1, retain=True).wait_for_publish(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.publish(f"tele/{self._topic}/LWT", "Offline", qos=1, retain=True).wait_for_publish(20)
        self._client.disconnect()
        self._client.loop_stop()

    def says(self, relay: int) -> None:
        """What follows each command for a relay, and each press of its button."""
        name = f"POWER{relay}" if len(self.states) > 1 else "POWER"
        state = self.states[relay - 1]
        self._client.publish(f"stat/{self._topic}/RESULT", json.dumps({name: state}))
        self._client.publish(f"stat/{self._topic}/{name}", state, retain=self._retains)

    def _told(self, client: mqtt.Client, data: object, message: mqtt.MQTTMessage) -> None:
        command = re.fullmatch(r"power(\d?)", message.topic.rpartition("/")[2], re.IGNORECASE)
        wanted = message.payload.decode().upper()
        if self.deaf or not command:
            return
        relay = int(command[1] or 1)
        if relay <= len(self.states):
            if wanted in ("ON", "OFF") and not self.stubborn:
                self.states[relay - 1] = wanted
            self.says(relay)


class Site:
    """A Mosquitto of somebody's, where everybody with a certificate may do everything."""

    def __init__(self, folder: Path, executable: str) -> None:
        self.pki = folder / "pki"
        authority = Authority.create(self.pki)
        authority.issue_broker(["localhost", "127.0.0.1"]).save(self.pki, "broker")
        key = ec.generate_private_key(ec.SECP256R1())
        Credential(key, authority.sign_node("rig", key.public_key())).save(self.pki, "rig")
        self.port = mosquitto.free_port("127.0.0.1")
        lines = (
            *(["user root"] if os.geteuid() == 0 else []),
            f"listener {self.port} 127.0.0.1",
            f"cafile {self.pki / 'ca.crt'}",
            f"certfile {self.pki / 'broker.crt'}",
            f"keyfile {self.pki / 'broker.key'}",
            "require_certificate true",
            "use_identity_as_username true",
            "log_dest stderr",
        )
        settings = folder / "mosquitto.conf"
        settings.write_text("\n".join(lines) + "\n")
        self.process = BrokerProcess("Mosquitto", [executable, "-c", str(settings)], folder / "log")
        self.process.wait_ready(re.compile("running"))

    def client(self, name: str) -> mqtt.Client:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, name, protocol=mqtt.MQTTv311)
        context = ssl.create_default_context(cafile=str(self.pki / "ca.crt"))
        context.load_cert_chain(self.pki / "rig.crt", self.pki / "rig.key")
        client.tls_set_context(context)
        client.connect("localhost", self.port)
        return client

    def spec(self, topic: str, **changes: object) -> TasmotaPower:
        values: Mapping[str, object] = {
            "host": "localhost",
            "port": self.port,
            "topic": topic,
            "ca": str(self.pki / "ca.crt"),
            "certificate": str(self.pki / "rig.crt"),
            "key": str(self.pki / "rig.key"),
        }
        return TasmotaPower.model_validate({**values, **changes})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    executable = mosquitto.find_executable()
    if executable is None:
        pytest.skip("Mosquitto is not installed: install the package `mosquitto`")
    made = Site(tmp_path_factory.mktemp("site"), executable)
    yield made
    made.process.stop()


def test_a_plug_switches(site: Site) -> None:
    timeline = Timeline()
    power = powered(site.spec("plug"), timeline)
    with Plug(site, "plug") as plug:
        power.off()
        assert plug.states == ["OFF"]
        power.off()  # what is off already
        power.on()
        assert plug.states == ["ON"]
    assert [event.text for event in timeline.events()] == ["off", "off", "on"]


def test_one_relay_of_several(site: Site) -> None:
    with Plug(site, "strip", 3) as plug:
        powered(site.spec("strip", relay=2)).off()
        assert plug.states == ["ON", "OFF", "ON"]
        powered(site.spec("strip")).off()
        assert plug.states == ["OFF", "OFF", "ON"]
        assert "topic and relay" in refused(Tasmota(site.spec("strip", relay=4), 0.5).off)


def test_a_state_that_the_broker_has_kept_is_no_answer(site: Site) -> None:
    with Plug(site, "kept", retains=True) as plug:
        power = Tasmota(site.spec("kept"), 0.5)
        power.off()
        plug.deaf = True
        assert "does not answer within 0.5 s" in refused(power.off)


def test_a_plug_that_keeps_its_state(site: Site) -> None:
    """As one with PulseTime or a rule of its own."""
    with Plug(site, "rules") as plug:
        plug.stubborn = True
        assert refused(Tasmota(site.spec("rules"), 0.5).off) == (
            "The Tasmota device 'rules' says 'ON' where it was told OFF: see what else switches it."
        )


def test_a_plug_that_is_gone(site: Site) -> None:
    with Plug(site, "gone"):
        pass
    assert refused(powered(site.spec("gone")).off) == (
        "The Tasmota device 'gone' is not at its broker: see to its power and its Wi-Fi."
    )


def test_a_broker_that_does_not_let_us_in(site: Site, tmp_path: Path) -> None:
    nobody = mosquitto.free_port("127.0.0.1")
    assert "cannot be reached: Cannot subscribe at" in refused(powered(site.spec("x", port=nobody)).off)
    stranger = Authority.create(tmp_path / "pki")
    stranger.issue_console().save(tmp_path / "pki", "rig")
    theirs = {"certificate": str(tmp_path / "pki/rig.crt"), "key": str(tmp_path / "pki/rig.key")}
    why = refused(powered(site.spec("x", **theirs)).off)
    assert why.startswith(
        "The Tasmota device 'x' cannot be reached: Cannot subscribe at the broker localhost"
    )
    assert "is not trusted" in refused(powered(site.spec("x", ca=str(tmp_path / "pki/ca.crt"))).off)


# A cut at a chosen moment


class Supply:
    """What was done to it, in order."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def on(self) -> None:
        self.done.append("on")

    def off(self) -> None:
        self.done.append("off")


class BrokenSupply(Supply):
    def __init__(self) -> None:
        super().__init__()
        self.tried = threading.Event()

    def off(self) -> None:
        self.tried.set()
        raise Blocked("It is welded.")


class FlashSupply(Supply):
    """Fails when `fails` is set, as a virtual board's at a flash operation."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = threading.Event()

    def cut_at_flash(self, operation: int, how: str, partition: str | None) -> None:
        self.done.append(f"cut {operation} {how} {partition}")

    def wait_until_off(self, seconds: float) -> None:
        if not self.fails.wait(seconds):
            raise AssertionError("not yet")


class Said:
    """A board's log."""

    def __init__(self) -> None:
        self._text = ""
        self._changed = threading.Condition()

    def say(self, text: str) -> None:
        with self._changed:
            self._text += text
            self._changed.notify_all()

    def __call__(self, wanted: str) -> Callable[[float], bool]:
        since = len(self._text)

        def hears(seconds: float) -> bool:
            with self._changed:
                return self._changed.wait_for(lambda: wanted in self._text[since:], seconds)

        return hears


def test_a_cut_comes_by_itself() -> None:
    supply = Supply()
    power = PowerControl(supply, Said())
    power.on()
    power.cut(after=0.05)
    power.wait_until_off()
    assert supply.done == ["on", "off"]


def test_a_cut_when_the_board_says_something() -> None:
    supply, log = Supply(), Said()
    log.say("boot: 2")
    power = PowerControl(supply, log)
    power.cut_when("boot: 2")
    power.on()
    assert supply.done == ["on"]
    log.say("boot: 2")
    power.wait_until_off()
    assert supply.done == ["on", "off"]


def test_a_cut_for_which_the_board_does_not_say_what_it_should() -> None:
    supply = Supply()
    power = PowerControl(supply, Said())
    power.cut_when("never", seconds=0.05)
    with pytest.raises(AssertionError, match=r"not within 0\.05 s 'never'"):
        power.wait_until_off()
    assert supply.done == []


def test_a_planned_cut_ends_with_the_test_and_with_another_plan() -> None:
    supply, log = Supply(), Said()
    power = PowerControl(supply, log)
    power.cut_when("now")
    power.cut(after=600)
    log.say("now")
    power.close()
    assert supply.done == []
    power.cut_when("later")
    power.off()
    assert supply.done == ["off"]
    log.say("later")
    with pytest.raises(AssertionError, match="no cut of the power is planned"):
        power.wait_until_off()


def test_a_cut_that_does_not_come_in_time() -> None:
    power = PowerControl(Supply(), Said())
    power.cut(after=600)
    with pytest.raises(AssertionError, match=r"not cut within 0\.01 s"):
        power.wait_until_off(0.01)


def test_a_supply_that_does_not_do_its_part() -> None:
    broken = BrokenSupply()
    power = PowerControl(broken, Said())
    power.cut()
    assert refused(power.wait_until_off) == "It is welded."
    broken.tried.clear()
    power.cut()
    assert broken.tried.wait(20)
    assert refused(power.close) == "It is welded."  # for the test that did not look
    nothing = PowerControl(None, Said())
    for act in (nothing.on, nothing.off, nothing.cut, lambda: nothing.cut_at_flash(1)):
        assert "This rig cannot cut its board's power" in refused(act)


def test_a_cut_at_a_flash_operation() -> None:
    supply = FlashSupply()
    power = PowerControl(supply, Said())
    power.cut_at_flash(3, "after", "spool")
    with pytest.raises(AssertionError, match="not yet"):
        power.wait_until_off(0.01)
    power.cut_at_flash(1)
    supply.fails.set()
    power.wait_until_off()
    assert supply.done == ["cut 3 after spool", "cut 1 torn None"]
    assert "Only a virtual board's power" in refused(lambda: PowerControl(Supply(), Said()).cut_at_flash(1))
