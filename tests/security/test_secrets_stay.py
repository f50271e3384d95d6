"""Promise 2: where the secrets of a provisioning are, and that they are nowhere else.

A whole provisioning by the command, once with the key made on the node and once on the host, under watch:
what it prints, leaves on disk, sends over the serial line, shows in the list of processes, has in its memory.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key

from host_tools import paths
from host_tools.fleet import Fleet
from host_tools.partitions import find
from host_tools.pki import partition
from host_tools.virtual.radio import AccessPoint
from tests.host.provisioning import PASSPHRASE, Site
from tests.host.shell import LIMPET, environment
from tests.host.stand import wait_until
from tests.host.virtual_rig import BOARD, Rig
from tests.security.search import Onlooker, descendants, forms, holds, in_files, joined, memory
from tests.security.wire import Tap, relay

pytestmark = pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="there is no /proc")

WIFI = "canary wifi 5b81f0 ~{}"
NETWORK = "canary-net"
DEADLINE = 100.0


@dataclass
class Run:
    """A board that was provisioned, and what was seen of it."""

    rig: Rig
    private: bytes
    """The number that is the node's private key, 32 bytes."""
    public: bytes
    output: bytes
    line: tuple[bytes, bytes]
    """What went over the serial line, to the board and from it."""
    in_memory: set[str] = field(default_factory=set)
    """Of "private" and "public", what the command's processes had in their memory while they waited for the
    node."""


@dataclass
class Scene:
    site: Site
    folder: Path
    runs: dict[str, Run]
    onlooker: Onlooker

    def secrets(self) -> tuple[bytes, ...]:
        keys = [run.private for run in self.runs.values()]
        return joined([*keys, PASSPHRASE.encode(), WIFI.encode()])


def part(name: str) -> slice:
    place = find(BOARD.partition_table(), name)
    return slice(place.offset, place.offset + place.size)


def key_in(flash: bytes) -> ec.EllipticCurvePrivateKey:
    identity = partition.decode(flash[part("identity")]).identity
    key = load_der_private_key(identity.key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def provision(site: Site, folder: Path, kind: str) -> Run:
    """Provision a board by the command. The Wi-Fi comes only when its memory has been looked at."""
    rig = site.board()
    rig.inside(rig.world.access_points.clear)
    port = int(rig.url.rpartition(":")[2])
    reading, writing = os.pipe()
    os.write(writing, PASSPHRASE.encode() + b"\n")
    os.close(writing)
    home = folder / "home"
    private = {
        name: str(home / name.lower()) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "TMPDIR")
    }
    for each in private.values():
        Path(each).mkdir(parents=True, exist_ok=True)
    cache = {"XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())}
    with Tap(relay(port)) as tap:
        words = ["provision", "--node", site.node_file, "--port", f"rfc2217://127.0.0.1:{tap.port}"]
        words += ["--id", f"canary-{kind}", "--key", kind, "--ca", site.ca_folder, "--fleet", site.fleet_file]
        process = subprocess.Popen(
            [LIMPET, *map(str, words), "--passphrase-fd", str(reading)],
            pass_fds=[reading],
            stdin=subprocess.DEVNULL,
            stdout=(output := (folder / f"{kind}.out").open("w+b")),
            stderr=subprocess.STDOUT,
            env=environment(**private, **cache),
            cwd=folder,
        )
        os.close(reading)
        try:
            run = _watched(site, rig, process)
            code = process.wait(DEADLINE)
        finally:
            process.kill()
            process.wait()
        output.seek(0)
        run.output = output.read()
        output.close()
        assert code == 0, run.output.decode()
        # RFC 2217 doubles the bytes that it could take for its own.
        run.line = (
            b"".join(bytes(each.sent) for each in tap.conversations).replace(b"\xff\xff", b"\xff"),
            b"".join(bytes(each.heard) for each in tap.conversations).replace(b"\xff\xff", b"\xff"),
        )
    return run


def _watched(site: Site, rig: Rig, process: "subprocess.Popen[bytes]") -> Run:
    def started() -> bool:
        assert process.poll() is None, "the command ended before its node came"
        with Fleet(site.fleet_file) as fleet:
            return "start" in [entry.step for entry in fleet.journal(rig.mac)]

    wait_until(started, "the node's start")
    key = key_in(rig.flash.read_bytes())
    private = key.private_numbers().private_value.to_bytes(32, "big")
    public = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    run = Run(rig, private, public, b"", (b"", b""))
    for pid in descendants(process.pid):
        for region in memory(pid):
            if public in region:
                run.in_memory.add("public")
            if any(form in region for form in forms(private)):
                run.in_memory.add("private")
    rig.inside(lambda: rig.world.access_points.append(AccessPoint(NETWORK, WIFI)))
    return run


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("secrets")
    with Site(folder) as site, Onlooker() as onlooker:
        text = site.node_file.read_text().replace(
            'ssid = "factory"', f'ssid = "{NETWORK}"\npassword = "{WIFI}"'
        )
        assert WIFI in text
        site.node_file.write_text(text)
        runs = {kind: provision(site, folder, kind) for kind in ("node", "host")}
        for run in runs.values():
            run.rig.power_off()
        yield Scene(site, folder, runs, onlooker)


# -- the search finds what is there ------------------------------------------------------------------------


def test_a_secret_is_found_in_every_form(tmp_path: Path) -> None:
    secret = bytes(range(200, 232))
    number = str(int.from_bytes(secret, "big"))
    pem = b"\n".join([b"-----", *(forms(b"xy" + secret)[6][at : at + 20] for at in range(0, 60, 20))])
    for at, planted in enumerate(
        (
            secret,
            secret[::-1],
            secret.hex().encode(),
            secret.hex().upper().encode(),
            repr(b"a" + secret).encode(),
            number.encode(),
            pem,
        )
    ):
        (tmp_path / f"{at}").write_bytes(b"\x00before" + planted + b"behind\x00")
    (tmp_path / "clean").write_bytes(b"nothing")
    assert [path.name for path in in_files([tmp_path], forms(secret))] == [str(n) for n in range(7)]


def test_the_onlooker_sees_arguments_and_environments() -> None:
    sleep = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    for words, extra in (([*sleep, "a canary 1"], {}), (sleep, {"CANARY": "a canary 2"})):
        with (
            Onlooker() as onlooker,
            subprocess.Popen(words, env=os.environ | extra, stdin=subprocess.PIPE) as process,
        ):
            wait_until(lambda: onlooker.saw([b"a canary"]), "the canary")
            process.communicate()
        assert not onlooker.saw([b"no canary"])


def test_memory_is_searched() -> None:
    code = "import sys; kept = sys.stdin.buffer.readline(); print('kept', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin and process.stdout
        process.stdin.write(b"a canary in memory\n")
        process.stdin.flush()
        process.stdout.readline()
        regions = list(memory(process.pid))
        process.stdin.close()
    assert any(b"a canary in memory" in region for region in regions)
    assert not any(bytes(range(100, 140)) in region for region in regions)


# -- and it finds nothing ----------------------------------------------------------------------------------


@pytest.mark.security(2, "ETSI EN 303 645 5.4-1", "IEC 62443-4-2 CR 1.5", "IEC 62443-4-2 CR 4.1")
@pytest.mark.parametrize("kind", ["node", "host"])
def test_the_key_is_in_the_identity_partition_alone(scene: Scene, kind: str) -> None:
    """Of the whole flash, the identity partition has the node's private key, once, and the filesystem the
    Wi-Fi password; no other part has either, and none the passphrase."""
    run = scene.runs[kind]
    flash = run.rig.flash.read_bytes()
    identity, vfs = part("identity"), part("vfs")
    assert flash.count(run.private) == flash[identity].count(run.private) == 1
    assert holds(flash[vfs], [WIFI.encode()])
    elsewhere = flash[: identity.start] + flash[identity.stop :]
    assert not holds(elsewhere, joined([run.private, PASSPHRASE.encode()]))
    elsewhere = flash[: vfs.start] + flash[vfs.stop :]
    assert not holds(elsewhere, joined([WIFI.encode(), PASSPHRASE.encode()]))


@pytest.mark.security(
    2, "ETSI EN 303 645 5.4-1", "ETSI EN 303 645 5.5-8", "IEC 62443-4-2 CR 1.5", "IEC 62443-4-2 CR 4.1"
)
def test_nothing_secret_is_on_the_hosts_disk(scene: Scene) -> None:
    """Neither the project's folder with ledger, journal and fleet record, nor home, temporary folders and
    caches have a node's key or the passphrase in any form; the node file alone has the Wi-Fi password."""
    flashes = {run.rig.flash for run in scene.runs.values()}
    places = [scene.folder, paths.cache_dir(), paths.ROOT / ".pytest_cache"]
    assert set(in_files(places, scene.secrets())) - flashes == {scene.site.node_file}
    assert WIFI in scene.site.node_file.read_text()
    rest = joined([PASSPHRASE.encode(), *(run.private for run in scene.runs.values())])
    assert not holds(scene.site.node_file.read_bytes(), rest)


@pytest.mark.security(2, "ETSI EN 303 645 5.5-7", "IEC 62443-4-2 CR 1.5", "IEC 62443-4-2 CR 3.7")
def test_nothing_secret_is_printed(scene: Scene) -> None:
    """Neither the command's output nor what the board prints has a key, the passphrase or the password."""
    for kind, run in scene.runs.items():
        assert b"is in service" in run.output
        assert not holds(run.output, scene.secrets()), kind
        assert "uplink: connected" in run.rig.log
        assert not holds(run.rig.log.encode(), scene.secrets()), kind


@pytest.mark.security(2, "ETSI EN 303 645 5.4-1", "IEC 62443-4-2 CR 4.1")
def test_nothing_secret_is_in_the_list_of_processes(scene: Scene) -> None:
    """No command line and no environment of any process had a key, the passphrase or the password in it."""
    assert scene.onlooker.saw([b"--passphrase-fd"]), "it has seen the command"
    assert not scene.onlooker.saw(scene.secrets())


@pytest.mark.security(2, "ETSI EN 303 645 5.4-1", "ETSI EN 303 645 5.4-4", "IEC 62443-4-2 CR 1.5")
def test_a_nodes_own_key_is_not_in_the_commands_memory(scene: Scene) -> None:
    """A core of the command and its processes, taken when the node has its key and its certificate, has the
    public half of the key, and not the private one."""
    assert scene.runs["node"].in_memory == {"public"}


@pytest.mark.security(2, "ETSI EN 303 645 5.4-1", "ETSI EN 303 645 5.5-7", "IEC 62443-4-2 CR 4.1")
def test_a_nodes_own_key_does_not_cross_the_serial_line(scene: Scene) -> None:
    """Of the key that was made on the node its public half crossed the serial line, and nothing else."""
    run = scene.runs["node"]
    sent, heard = run.line
    assert holds(heard, forms(run.public)), "the request came over this line"
    for way in (sent, heard):
        assert not holds(way, forms(run.private))


# -- a test's own report -----------------------------------------------------------------------------------

INNER = """
import logging
from pathlib import Path
from host_tools import settings
from host_tools.ca import CertificateAuthority, keys
from host_tools.ca.operator import operator
from tests.host.provisioning import unlock

def test_it():
    folder = Path({folder!r})
    checked = settings.check(folder / "node.toml")
    opener = unlock()
    with CertificateAuthority.open(folder / "ca", opener) as authority:
        identity = authority.issue_node_key("inner")
        Path({out!r}).write_bytes(identity.key)
        broker = authority.issue_broker(["localhost"])
        signer = authority._signer()
        with operator(authority) as files:
            everything = (checked, checked.node_file, opener, authority, identity, broker, signer, files)
            logging.getLogger().debug("%r", everything)
            print(everything)
            assert everything == None
"""


@pytest.mark.security(2, "ETSI EN 303 645 5.4-1", "IEC 62443-4-2 CR 3.7")
def test_nothing_secret_is_in_a_tests_report(scene: Scene, tmp_path: Path) -> None:
    """A test that fails with every secret in its hands, and shows its variables, its log and its output, has
    none of them in its JUnit file or on the screen: what holds a secret does not show it."""
    inner, out, junit = tmp_path / "test_inner.py", tmp_path / "key", tmp_path / "junit.xml"
    inner.write_text(INNER.format(folder=str(scene.folder), out=str(out)))
    words = ["--showlocals", "-vv", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", "-c", "/dev/null"]
    words += [f"--junitxml={junit}", "-o", "junit_logging=all", "--log-level=DEBUG", str(inner)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=paths.ROOT,
        capture_output=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 1 and b"identity   = Identity(node_id='inner')" in done.stdout, (
        done.stdout.decode()
    )
    key = load_der_private_key(out.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    mine = key.private_numbers().private_value.to_bytes(32, "big")
    for said in (done.stdout, done.stderr, junit.read_bytes()):
        assert not holds(said, joined([mine, PASSPHRASE.encode(), WIFI.encode()]))
