"""`limpet decommission`: a node goes for good, and nothing of it is left on its board."""

import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_der_private_key

from host_tools import boards, image, partitions
from host_tools.boards import Board
from host_tools.ca import public
from host_tools.decommission.guards import target
from host_tools.decommission.wipe import wipe
from host_tools.errors import RefusedError, UnverifiedError
from host_tools.fleet import Entry, Fleet, Node
from host_tools.pki import partition
from host_tools.pki.profiles import utc_now
from host_tools.spool import ring
from host_tools.virtual.parts.bme280 import BME280
from host_tools.virtual.radio import AccessPoint
from host_tools.virtual.stimulus import constant
from host_tools.virtual.world import I2CBus, World
from tests.host.flashing import NEW_SAYS
from tests.host.provisioning import PASSPHRASE, Site
from tests.host.serving import recorded
from tests.host.shell import DEADLINE, LIMPET, Done, environment
from tests.host.stand import wait_until
from tests.host.virtual_rig import Rig

NODE = "canary-7f3a"
PASSWORD = "canary of a password"
SETTINGS = {
    "v": 1,
    "board": "virtual",
    "prefix": "limpet",
    "wifi": [{"ssid": "factory", "password": PASSWORD}],
    "brokers": [{"host": "127.0.0.1", "port": 9, "name": "localhost"}],
    "ntp": [{"host": "127.0.0.1", "port": 9}],
    "sensors": [
        {"name": "bme280", "kind": "bme280", "period_ms": 200, "scl": 22, "sda": 21, "address": 0x76}
    ],
}
MIB = 1024 * 1024
MAC = "24:0a:c4:00:00:01"


def small_board() -> Board:
    """The virtual board with a quarter of its flash: reading all of it takes its time."""
    board = boards.load_board("virtual")
    sizes = {"factory": 0x10000, "spool": 0x10000}
    at = 0x9000
    cut = []
    for each in board.partition:
        size = MIB - at if each.name == "vfs" else sizes.get(each.name, each.size)
        cut.append(each.model_copy(update={"offset": at, "size": size}))
        at += size
    return board.model_copy(update={"flash_size": MIB, "partition": cut})


BOARD = small_board()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("site")) as made:
        yield made


def put(site: Site, node_id: str, number: int) -> Rig:
    """A board with the firmware and an identity, which takes readings that no broker gets."""
    files = dict(image.firmware_files())
    files[image.SETTINGS_NAME] = json.dumps(SETTINGS).encode()
    identity = partition.encode(site.ca.issue_node_key(node_id))
    flash = image.compose(BOARD, files, identity, stand_in=True)
    sensor = BME280(time.monotonic, constant(21.5), constant(100653.0), constant(45.0))
    world = World(i2c={(22, 21): I2CBus([sensor])}, access_points=[AccessPoint("factory", PASSWORD)])
    rig = Rig(
        site.bench,
        site.folder / f"{node_id}.bin",
        flash,
        kind=BOARD,
        mac=bytes.fromhex("240ac40500") + bytes([number]),
        rfc2217=("127.0.0.1", 0),
        world=world,
    )
    with Fleet(site.fleet_file) as fleet:
        recorded(fleet, site.ca, node_id, rig.mac, rig.url)
    return rig


def words(site: Site, *more: str | Path) -> list[str]:
    return ["decommission", *map(str, (*more, "--fleet", site.fleet_file, "--ca", site.ca_folder))]


def decommission(site: Site, *more: str | Path) -> Done:
    done = site.limpet(*words(site, *more))
    assert "Traceback" not in done.err, done.err
    return done


def part(flash: bytes, name: str) -> bytes:
    place = partitions.find(BOARD.partition_table(), name)
    return flash[place.offset : place.offset + place.size]


def secrets_of(flash: bytes) -> dict[str, bytes]:
    """What must not be on a board that is given away, from the flash of a node."""
    identity = partition.decode(part(flash, "identity")).identity
    key = load_der_private_key(identity.key, None).private_numbers().private_value.to_bytes(32, "big")  # type: ignore[union-attr]
    spool = part(flash, "spool")
    [first, *_] = [at for at in range(0, len(spool), 4096) if spool[at : at + 4] != b"\xff" * 4]
    return {
        "private key": key,
        "private key as it is kept": identity.key,
        "certificate": identity.chain[0],
        "its issuer": identity.chain[1],
        "trusted CA": identity.cas[0],
        "node id": identity.node_id.encode(),
        "Wi-Fi password": PASSWORD.encode(),
        "Wi-Fi network": b"factory",
        "broker": b"127.0.0.1",
        "readings": spool[first + 512 : first + 512 + 64],
    }


def waiting(rig: Rig) -> int:
    """Readings in its spool."""
    return len(ring.decode(part(rig.flash.read_bytes(), "spool"), NODE).readings)


@pytest.mark.security(9, "IEC 62443-4-2 CR 4.2", "ETSI EN 303 645 5.11-1", "NIST SP 800-88 2.5")
def test_nothing_is_left_on_a_board(site: Site) -> None:
    """A node with readings and a Wi-Fi password is decommissioned, by a command killed once and run again:
    its flash holds nothing of key, certificates, names, password or readings, and it is revoked."""
    rig = put(site, NODE, 1)
    wait_until(lambda: waiting(rig) > 60, "readings in the spool")
    rig.power_off()
    before = rig.flash.read_bytes()
    rig.power_on()
    secrets = secrets_of(before)
    for what, secret in secrets.items():
        assert secret in before and len(set(secret)) > 3, what
    with Fleet(site.fleet_file) as fleet:
        serial = fleet.known(NODE).serial
    dump = site.folder / "dump.bin"

    with site.passphrase() as fd:
        killed = subprocess.Popen(
            [LIMPET, *words(site, NODE, "--port", rig.url, "--yes"), "--passphrase-fd", str(fd)],
            pass_fds=[fd],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert killed.stderr
        for line in killed.stderr:
            if line.startswith("erasing"):
                killed.send_signal(signal.SIGKILL)
        killed.communicate(timeout=DEADLINE)
    assert killed.returncode == -signal.SIGKILL
    assert int(serial, 16) in site.revoked()  # from the first moment on
    with Fleet(site.fleet_file) as fleet:
        assert fleet.known(NODE).state == "in service"

    done = decommission(site, NODE, "--port", rig.url, "--yes", "--dump", dump, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["node_id"], told["mac"], told["erased"]) == (NODE, rig.mac, MIB)
    for after in (rig.flash.read_bytes(), dump.read_bytes()):
        assert after == b"\xff" * MIB
        for what, secret in secrets.items():
            for piece in range(0, len(secret) - 7, 8):
                assert secret[piece : piece + 8] not in after, what
    assert dump.stat().st_mode & 0o777 == 0o600
    with Fleet(site.fleet_file) as fleet:
        node, journal = fleet.known(NODE), fleet.journal(rig.mac)
    assert (node.state, node.reason) == ("retired", "decommissioned")
    assert [entry.step for entry in journal][-4:] == ["decommission begun"] * 2 + ["erased", "retired"]
    seen = public(site.ca_folder)
    [told_line] = [line for line in seen.lines if line.event == "decommission"]
    assert told_line.facts == {"node": NODE, "mac": rig.mac, "erased": MIB, "sha256": told["sha256"]}
    assert not seen.state.live(NODE, utc_now())
    said = done.out + done.err + site.fleet_file.read_bytes().decode("latin-1")
    assert PASSWORD not in said and secrets["private key"].decode("latin-1") not in said


def test_what_is_refused_runs_on(site: Site) -> None:
    rig = put(site, "n02", 2)
    rig.says(NEW_SAYS)
    before = part(rig.flash.read_bytes(), "identity")
    for more, code, sentence in (
        (
            ["n03", "--port", rig.url, "--yes"],
            4,
            f"the board {rig.mac} is 'n02' by the fleet record, not 'n03'",
        ),
        (["--port", rig.url], 2, "There is no terminal to confirm at: add --yes."),
        (
            ["n02", "--port", rig.url, "--yes", "--ca", "/none"],
            1,
            "There is no certificate authority in /none",
        ),
    ):
        since = len(rig.log)
        done = site.limpet(*words(site), *more)
        assert (done.code, done.out) == (code, "") and sentence in done.err, done.err
        assert done.err.count("limpet: ") == 1
        rig.says(NEW_SAYS, since)
    assert part(rig.flash.read_bytes(), "identity") == before
    with Fleet(site.fleet_file) as fleet:
        assert fleet.known("n02").state == "in service"
        assert public(site.ca_folder).state.live("n02", utc_now())
        fleet.retire("n02", "lost")
    with Fleet(site.folder / "other.db"):
        pass
    done = site.limpet(
        *words(site), "n02", "--port", rig.url, "--yes", "--fleet", str(site.folder / "other.db")
    )
    assert (done.code, "the fleet record does not have the board" in done.err) == (4, True)


def test_words_that_make_no_sense(site: Site, tmp_path: Path) -> None:
    (tmp_path / "dump").touch()
    with Fleet(site.fleet_file):
        pass
    for more, code, sentence in (
        (["n01"], 2, "Name the board by --port, or say --lost when it is gone: one of the two."),
        (["n01", "--port", "x", "--dump", str(tmp_path / "dump")], 4, "is there already: name another file"),
        (["n77", "--lost", "--yes"], 1, "has no node 'n77': `limpet fleet list` shows those that it has."),
    ):
        done = decommission(site, *more)
        assert (done.code, done.out) == (code, "") and sentence in done.err
        assert done.err.startswith("limpet: ") and done.err.count("\n") == 1


def test_a_board_that_is_gone(site: Site) -> None:
    """Typed at a terminal: first another id, then the right one."""
    with Fleet(site.fleet_file) as fleet:
        site.ca.issue_node_key("n04")
        recorded(fleet, site.ca, "n04", "24:0a:c4:05:00:04")
    typed, said, code = at_terminal(site, "n03\n", *words(site, "n04", "--lost"))
    assert (code, "Not confirmed; 'n04' is as it was." in said) == (4, True), said
    typed, said, code = at_terminal(site, "n04\n", *words(site, "n04", "--lost"))
    assert (code, typed) == (
        0,
        "n04: written off, 1 certificate revoked; board 24:0a:c4:05:00:04 is lost\n",
    ), said
    state = public(site.ca_folder).state
    [issued] = [each for each in state.issued.values() if each.name == "n04"]
    assert state.revoked[issued.serial].reason == "key-compromise"
    with Fleet(site.fleet_file) as fleet:
        assert (fleet.known("n04").state, fleet.known("n04").reason) == ("retired", "lost")
    done = decommission(site, "n04", "--lost", "--yes")
    assert (done.code, "The node 'n04' was retired on 20" in done.err) == (4, True)


def at_terminal(site: Site, typed: str, *more: str) -> tuple[str, str, int]:
    """What a command that has a terminal to ask at says on standard output and error, and its exit code."""
    master, slave = pty.openpty()
    try:
        with site.passphrase(PASSPHRASE) as fd:
            os.write(master, typed.encode())
            done = subprocess.run(
                [LIMPET, *more, "--passphrase-fd", str(fd)],
                pass_fds=[fd],
                stdin=slave,
                capture_output=True,
                text=True,
                env=environment(),
                timeout=DEADLINE,
                check=False,
            )
    finally:
        os.close(master)
        os.close(slave)
    return done.stdout, done.stderr, done.returncode


def test_a_flash_that_does_not_let_itself_be_erased(site: Site, tmp_path: Path) -> None:
    content = b"\xff" * 4096 + b"secret" + b"\xff" * (MIB - 4102)
    rig = Rig(site.bench, tmp_path / "5.bin", content, kind=BOARD, rfc2217=("127.0.0.1", 0))
    rig.faults(read_only=True)
    said = "the flash is not erased, the first byte of what is left is at 0x1000: it is worn out or protected"
    with pytest.raises(UnverifiedError, match=said):
        wipe(rig.url, rig.mac, (921600,), tmp_path / "dump", lambda step: None, lambda done, total: None)
    with pytest.raises(RefusedError, match="it is another board by now"):
        wipe(rig.url, "24:0a:c4:05:00:99", (921600,), None, lambda step: None, lambda done, total: None)
    assert [path.name for path in tmp_path.iterdir()] == ["5.bin"]


def entries(*node_ids: str) -> list[Entry]:
    return [Entry("", MAC, node_id, "step") for node_id in node_ids]


def test_which_node_a_board_is() -> None:
    current = Node("n01", MAC, "in service", "2026-01-01T00:00:00+00:00")
    found = target("x", MAC, current, entries("n01"), None)
    assert (found.node_id, found.is_current) == ("n01", True)
    assert target("x", MAC, current, entries("n00", "n01"), "n01").is_current
    former = target("x", MAC, None, entries("", "n00", "n01", ""), "n01")
    assert (former.node_id, former.is_current) == ("n01", False)
    for mac, now, journal, named, said in (
        ("", None, [], None, "does not tell its MAC address"),
        (MAC, None, entries(""), None, f"does not have the board {MAC}"),
        (MAC, current, entries("n01"), "n02", f"the board {MAC} is 'n01' by the fleet record, not 'n02'"),
        (MAC, None, entries("n01"), "n02", "is 'n01' by the fleet record, not 'n02'"),
    ):
        with pytest.raises(RefusedError, match=said):
            target("x", mac, now, journal, named)
