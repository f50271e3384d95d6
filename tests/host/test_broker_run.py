"""`limpet broker run`: revoked nodes go at once, others stay, and Mosquitto runs on the newest files."""

import contextlib
import json
import os
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from host_tools.broker import birth, mosquitto, wire
from host_tools.broker.project import BrokerFolder
from tests.host.broker_project import Project, unlock
from tests.host.mqtt_clients import DEADLINE, Client, Refused, tls_context
from tests.host.shell import Running, limpet, refused
from tests.host.stand import wait_until

pytestmark = pytest.mark.skipif(
    mosquitto.find_executable() is None, reason="Mosquitto is not installed: install the package `mosquitto`"
)


@dataclass
class Plant:
    """A project whose broker runs. Its node n00 is revoked, n02 is not."""

    project: Project
    folder: BrokerFolder
    port: int
    running: Running

    def told(self, event: str, text: str = "") -> dict[str, Any]:
        """The next thing of this kind that the command tells, with `text` in its sentence."""
        while True:
            said: dict[str, Any] = json.loads(self.running.line(f'"event": "{event}"'))
            if text in said["text"]:
                return said

    def client(self, stem: str, client_id: str | None = None, **options: Any) -> Client:
        return self.project.client(self.port, stem, client_id, **options)

    def console(self) -> Client:
        return self.client("console", "limpet.console")

    def mosquitto(self) -> int:
        """The process id of its Mosquitto (Linux)."""
        (line,) = [each for each in self.running.left() if "mosquitto" in each and "guard" not in each]
        folders = Path("/proc").glob("[0-9]*/cmdline")
        found = [each for each in folders if _read(each) == line]
        return int(found[0].parent.name)


def _read(path: Path) -> str | None:
    try:
        return path.read_text().replace("\0", " ")
    except OSError:
        return None


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    project = Project(tmp_path_factory.mktemp("plant"))
    for node in ("n00", "n02"):
        project.node(node)
    project.authority.revoke("n00", "unspecified")
    port = mosquitto.free_port("127.0.0.1")
    folder = project.broker("broker", port)
    with Running("broker", "run", folder.path, "--json") as running:
        plant = Plant(project, folder, port, running)
        assert plant.told("running")["port"] == port
        yield plant


def comes_in(plant: Plant, stem: str, client_id: str) -> bool:
    try:
        with plant.client(stem, client_id):
            return True
    except (Refused, OSError):
        return False


def test_revoked_while_connected_goes_at_once_and_stays_out(plant: Plant) -> None:
    plant.project.node("n01")
    with (
        plant.console() as console,
        plant.client("n01", will=("limpet/n01/state", b"down")) as thief,
        plant.client("n02") as other,
    ):
        assert console.subscribe("limpet/#")
        thief.publish("limpet/n01/data", b"still trusted")
        plant.project.authority.revoke("n01", "key-compromise")
        assert plant.told("put-out")["client"] == "n01"
        assert thief.gone.wait(DEADLINE)
        assert not comes_in(plant, "n01", "n01")
        other.publish("limpet/n02/data", b"never noticed")
        assert console.until("limpet/n02/data", b"never noticed") == [
            ("limpet/n01/data", b"still trusted"),
            ("limpet/n01/state", b"down"),
        ]
        assert not other.gone.is_set() and not console.gone.is_set()


def test_a_rotated_node_keeps_its_connection(plant: Plant) -> None:
    plant.project.node("n03", stem="n03-old")
    with plant.client("n03-old", "n03") as old:
        rotated = plant.project.rotate("n03", "n03-new")
        with plant.client("n03-new", "n03") as new:
            assert old.gone.wait(DEADLINE)
            plant.project.authority.keep_only("n03", rotated.fingerprint)
            plant.told("reloaded", "crl.pem")
            new.publish("limpet/n03/data", b"here I am")
            assert not new.gone.is_set()
    assert not comes_in(plant, "n03-old", "n03") and comes_in(plant, "n03-new", "n03")


def test_a_replaced_board_goes_at_once(plant: Plant) -> None:
    plant.project.node("n04", stem="n04-stolen")
    with plant.client("n04-stolen", "n04") as stolen:
        begun = time.time()
        wait_until(lambda: time.time() > begun + 1, "the next second, for certificates count whole ones")
        plant.project.node("n04", stem="n04-new", replace=True)
        said = plant.told("put-out")
        assert (said["client"], said["reason"]) == ("n04", "superseded")
        assert stolen.gone.wait(DEADLINE)
        assert not comes_in(plant, "n04-stolen", "n04") and comes_in(plant, "n04-new", "n04")


def test_who_waits_with_its_name_until_it_is_revoked_is_put_out_again(plant: Plant) -> None:
    plant.project.node("n05")
    context = tls_context(plant.project.pki / "ca.crt", plant.project.pki / "n05.crt")
    with (
        socket.create_connection(("localhost", plant.port), timeout=DEADLINE) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as sly,
    ):
        # The handshake, and with it the look at the certificate, is over; CONNECT comes later.
        plant.project.authority.revoke("n05", "privilege-withdrawn")
        assert plant.told("put-out")["client"] == "n05"
        sly.sendall(wire.connect("n05"))
        answer = wire.receive(sly)
        assert answer is not None and answer.kind == wire.CONNACK
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            assert wire.receive(sly) is None
        assert plant.told("put-out")["text"] == "n05 is out again."


def test_a_list_that_is_none_is_not_taken(plant: Plant) -> None:
    path = plant.project.authority.folder.crl
    good = path.read_bytes()
    path.write_bytes(plant.project.first_list)  # nobody is revoked there
    plant.told("not-taken", "is older than the one in use")
    ours = plant.folder.crl.read_bytes()
    path.write_bytes(good[: len(good) // 2])  # as while it is being copied
    plant.told("not-taken", f"{path} holds no CRL")
    assert plant.folder.crl.read_bytes() == ours
    plant.folder.crl.write_bytes(b"junk")
    plant.told("not-taken", f"{plant.folder.crl} holds no CRL")
    assert not comes_in(plant, "n00", "n00") and comes_in(plant, "n02", "n02")
    path.write_bytes(good)  # the authority's own mends the broker's
    plant.told("reloaded")
    assert plant.folder.crl.read_bytes() == good
    assert not comes_in(plant, "n00", "n00") and comes_in(plant, "n02", "n02")


def test_a_new_certificate_is_shown_without_a_restart(plant: Plant) -> None:
    with plant.client("n02") as node:
        done = birth.init(plant.folder.path, plant.project.ca, unlock(), birth.Wanted(), again=True)
        plant.told("reloaded", "broker.crt")
        context = tls_context(plant.project.pki / "ca.crt", plant.project.pki / "n02.crt")
        with (
            socket.create_connection(("localhost", plant.port), timeout=DEADLINE) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            assert f"{int(secured.getpeercert()['serialNumber'], 16):x}" == done["serial"]  # type: ignore[index,arg-type]
        node.publish("limpet/n02/data", b"still here")


def test_killed_it_comes_back_and_a_second_one_is_refused(plant: Plant) -> None:
    refused(
        limpet("broker", "run", plant.folder.path),
        f"Another 'limpet broker run' works in {plant.folder.path}: end it first.",
        4,
    )
    os.kill(plant.mosquitto(), signal.SIGKILL)
    plant.told("ended")
    assert plant.told("restarted")["port"] == plant.port
    assert comes_in(plant, "n02", "n02") and not comes_in(plant, "n00", "n00")


def test_killed_with_its_guard_it_comes_back(plant: Plant) -> None:
    child = plant.mosquitto()
    guard = int(Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill(guard, signal.SIGKILL)
    assert plant.told("restarted")["port"] == plant.port
    wait_until(lambda: not Path(f"/proc/{child}").exists(), "the Mosquitto without its guard has ended")
    assert comes_in(plant, "n02", "n02")


def test_a_port_that_is_busy(plant: Plant) -> None:
    folder = plant.project.broker("second", plant.port)
    text = f"Port {plant.port} of 127.0.0.1 is busy: stop what listens there, or choose another port."
    done = limpet("broker", "run", folder.path)
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[-1] == f"limpet: {text}"


def test_what_waits_for_a_console_outlives_a_revocation(plant: Plant) -> None:
    """Mosquitto 2.0.11 keeps nothing more for a client that is away when its files are read again."""
    plant.project.node("n07")
    with plant.client("console", "limpet.console", keeps_session=True) as console:
        assert console.subscribe("limpet/#")
    plant.project.authority.revoke("n07", "key-compromise")
    assert "messages wait for limpet.console" in plant.told("restarted")["text"]
    with plant.client("n02") as node:
        node.publish("limpet/n02/data", b"while it was away")
    with plant.client("console", "limpet.console", keeps_session=True) as console:
        console.until("limpet/n02/data", b"while it was away")
    assert not comes_in(plant, "n07", "n07")
    with plant.console():
        pass  # which forgets the session


def test_nothing_that_waits_is_lost_when_nobody_knows_whose_it_was(plant: Plant) -> None:
    plant.project.node("n06")
    with plant.client("n06") as node, plant.client("n02") as other:
        other.publish("limpet/n02/state", b"up", retain=True)
        serial = plant.project.authority.live("n06")[0].serial
        plant.project.authority.folder.certificate(serial).unlink()
        plant.project.authority.revoke("n06", "unspecified")
        plant.told("restarted", "does not say whose")
        assert node.gone.wait(DEADLINE)
    assert not comes_in(plant, "n06", "n06")
    with plant.console() as console:
        assert console.subscribe("limpet/n02/state")
        assert console.next_message() == ("limpet/n02/state", b"up")


def test_its_end_is_mosquittos_end(plant: Plant) -> None:
    assert plant.running.left()
    plant.running.send(signal.SIGTERM, group=False)
    assert plant.running.wait() == 128 + signal.SIGTERM
    wait_until(lambda: not plant.running.left(), "the end of what it had started")
    assert (plant.folder.store / "mosquitto.db").exists()
