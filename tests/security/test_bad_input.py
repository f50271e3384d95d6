"""Promise 12: whatever is in the files that a command is given, it ends with a sentence."""

import json
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from host_tools import image
from host_tools.ca import CertificateAuthority, scrypt
from host_tools.errors import DONE, FAILED, NO_DEVICE, REFUSED, UNVERIFIED, USAGE
from host_tools.fleet import Fleet, Record
from host_tools.partitions import find
from host_tools.pki import partition
from tests.host.in_process import Ended, limpet, sentences
from tests.host.virtual_rig import BOARD
from tests.security import junk
from tests.security.ground import PASSPHRASE, mosquitto, new_authority, unlock
from tests.security.test_broker_refuses import request

CODES = (DONE, FAILED, USAGE, NO_DEVICE, REFUSED, UNVERIFIED)
SEED = 12
ROUNDS, MANY_ROUNDS = 8, 300  # of each command and file
LONGEST = 700  # characters of a sentence
NODE_FILE = """\
board = "virtual"
ntp = ["127.0.0.1"]

[[wifi]]
ssid = "x"

[[broker]]
host = "127.0.0.1"
port = 1
name = "localhost"

[sensors.bme280]
period = "1s"
"""


@dataclass(frozen=True)
class Command:
    """A command, and the file that it reads and that is spoiled, both in the world's folder."""

    name: str
    file: str
    words: tuple[str, ...]
    opens: bool = False
    """It gets the passphrase."""
    good: int = DONE
    """How it ends when the file is good."""
    refuses: bool = True
    """Junk is not taken: else the command mends it, or explains it, which is its work."""
    is_slow: bool = False
    """It gets a sample of the junk."""
    tells_findings: bool = False
    """It has more than one sentence to say, and says them as its result."""


AS_ROOT = ("--user", "root") if os.geteuid() == 0 else ()
CA_FILES = ("ledger.jsonl", "ledger.head", "issuing.crt", "root.crt", "trusted.crt", "crl.pem")
COMMANDS = [
    Command("ca issue node", "n02.csr", ("ca", "issue", "node", "n02", "--csr", "n02.csr", "--json"), True),
    Command("ca show", "ca/ledger.jsonl", ("ca", "show")),
    Command("ca list", "ca/ledger.jsonl", ("ca", "list")),
    *(Command("ca audit", f"ca/{file}", ("ca", "audit"), tells_findings=True) for file in CA_FILES),
    Command("ca issue broker", "ca/issuing.key", ("ca", "issue", "broker", "x", "--into", "made"), True),
    Command(
        "ca revoke", "ca/crl.pem", ("ca", "revoke", "n01", "--reason", "superseded"), True, refuses=False
    ),
    Command("ca restore", "ca.backup", ("ca", "restore", "ca.backup", "--ca", "restored"), True),
    Command(
        "broker init",
        "ca/ledger.jsonl",
        ("broker", "init", "new", "--name", "localhost", *AS_ROOT),
        True,
    ),
    *(
        Command("broker check", f"broker/{file}", ("broker", "check", "broker"), tells_findings=True)
        for file in ("broker.json", "broker.key", "broker.crt", "trusted.crt", "crl.pem")
    ),
    *(
        Command(f"fleet {verb[0]}", "fleet.db", ("fleet", *verb))
        for verb in (("list",), ("show", "n01"), ("export", "--json"), ("labels", "n01", "--as", "csv"))
    ),
    Command("image show", "identity.bin", ("image", "show", "flash.bin"), refuses=False, is_slow=True),
    Command(
        "provision",
        "ca/ledger.jsonl",
        ("provision", "--node", "node.toml", "--port", "rfc2217://127.0.0.1:1", "--id", "n05"),
        True,
        good=NO_DEVICE,
    ),
    Command("rotate", "fleet.db", ("rotate", "n01"), True, good=FAILED, refuses=False),
    Command("decommission", "fleet.db", ("decommission", "n01", "--lost", "--yes"), True),
]
"""Each command that reads what somebody may have spoiled; identity.bin stands for that part of flash.bin."""


def ids(command: Command) -> str:
    return f"{command.name}: {command.file}"


MAC = "24:0a:c4:00:00:01"
IDENTITY = "identity.bin"
FLASH = "flash.bin"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project folder in which every command does what it should."""
    folder = tmp_path_factory.mktemp("world")
    with mock.patch.object(scrypt, "N", 2**8):  # cheap keys: this is not about them
        with CertificateAuthority.open(new_authority(folder), unlock()) as authority:
            issued = authority.issue_node(request("n01")[1], "n01")
            identity = partition.encode(authority.issue_node_key("n03"))
            with mosquitto(authority, folder / "broker"):
                pass
        (folder / "n02.csr").write_bytes(request("n02")[1])
        (folder / "node.toml").write_text(NODE_FILE)
        (folder / IDENTITY).write_bytes(identity)
        (folder / FLASH).write_bytes(image.compose(BOARD, {}, identity, stand_in=True))
        with Fleet(folder / "fleet.db") as fleet:
            fleet.claim(MAC, "n01")
            fleet.in_service(
                Record(
                    "n01",
                    MAC,
                    "1-1.2",
                    "virtual",
                    "a" * 64,
                    issued.serial,
                    issued.fingerprint,
                    "n01",
                    "2026-11-22T12:00:00+00:00",
                    issued.expires.isoformat(),
                    "b" * 64,
                )
            )
        yield folder


class Bench:
    """A copy of the world, in which one file is spoiled after the other."""

    def __init__(self, world: Path, folder: Path, command: Command) -> None:
        self._world, self._folder, self._command = world, folder, command
        self._as_json = "--json" in command.words
        self._is_ready = False
        os.chdir(folder)

    def run(self, data: bytes | None, what: str, as_json: bool = False) -> Ended:
        """Run the command where its file has these contents; with None, as it is."""
        command = self._command
        if self._is_ready and not command.opens:
            self._spoil(data)
            return self.end(what, as_json)
        for path in self._folder.iterdir():
            if path.name != FLASH:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in self._world.iterdir():
            if path.is_dir():
                shutil.copytree(path, self._folder / path.name)
            elif path.name != FLASH:
                shutil.copy(path, self._folder)
        configuration = self._folder / "broker" / "mosquitto.conf"  # its paths are absolute
        configuration.write_text(configuration.read_text().replace(str(self._world), str(self._folder)))
        self._is_ready = True
        self._spoil(data)
        return self.end(what, as_json)

    def _spoil(self, data: bytes | None) -> None:
        name = self._command.file
        if data is None:
            data = (self._world / name).read_bytes()
        if name != IDENTITY:
            (self._folder / name).write_bytes(data)
            return
        flash = self._folder / FLASH
        if not flash.exists():
            shutil.copy(self._world / FLASH, flash)
        place = find(BOARD.partition_table(), "identity")
        with flash.open("r+b") as file:
            file.seek(place.offset)
            file.write(data[: place.size].ljust(place.size, b"\xff"))

    def end(self, what: str, as_json: bool = False) -> Ended:
        """Run the command with the files as they stand, and see that it ends as it may."""
        words = [*self._command.words, *(["--json"] if as_json and not self._as_json else [])]
        ended = limpet(*words, passphrase=PASSPHRASE if self._command.opens else None)
        told = f"{ids(self._command)}, {what}: {ended}"
        assert not ended.traceback, f"{told}\n{ended.traceback}"
        assert ended.code in CODES, told
        assert "Traceback" not in ended.err + ended.out, told
        assert PASSPHRASE not in ended.err + ended.out, told
        if ended.code not in (DONE, USAGE) and not self._command.tells_findings:
            [sentence] = sentences(ended.err) or [""]
            assert sentence.endswith(".") and len(sentence) < LONGEST, told
            assert sentence.isprintable(), told
            if "--json" in words:
                said = json.loads(ended.out)
                assert said["exit_code"] == ended.code and sentence.endswith(said["error"]), told
        return ended


@pytest.fixture
def bench(
    world: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Bench, bytes]]:
    """Where the command finds its file, and the file as it should be."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    made = Bench(world, tmp_path, command)
    right = made.run(None, "as it should be")
    assert right.code == command.good, f"{right.out}\n{right.err}"
    yield made, (world / command.file).read_bytes()


EACH = pytest.mark.parametrize("command", COMMANDS, ids=ids)


@pytest.mark.security(12, "IEC 62443-4-2 CR 3.5", "IEC 62443-4-2 CR 3.7", "ETSI EN 303 645 5.13-1")
@EACH
def test_junk_ends_in_a_sentence(bench: tuple[Bench, bytes], command: Command) -> None:
    """Each command, given thirty kinds of junk in place of a certificate, a request, a CRL, a ledger, a key,
    a backup, a record or an identity, ends with one sentence and a documented exit code."""
    work, good = bench
    refused = 0
    for number, (what, data) in enumerate(junk.by_hand(good).items()):
        if command.is_slow and number % 4:
            continue
        refused += work.run(data, what, as_json=number % 2 == 1).code != command.good
    assert refused or not command.refuses, "nothing of it was refused"


@pytest.mark.security(12, "IEC 62443-4-2 CR 3.5", "IEC 62443-4-2 CR 3.7", "ETSI EN 303 645 5.13-1")
@EACH
def test_chance_ends_in_a_sentence(bench: tuple[Bench, bytes], command: Command) -> None:
    """Each command, given files that a seeded die has cut, flipped, shuffled and mixed, ends so too."""
    work, good = bench
    dice = random.Random(f"{SEED}/{ids(command)}")
    for number in range(ROUNDS):
        work.run(junk.by_chance(dice, good), f"round {number}", as_json=dice.random() < 0.5)


@pytest.mark.soak
@pytest.mark.security(12, "IEC 62443-4-2 CR 3.5", "IEC 62443-4-2 CR 3.7", "ETSI EN 303 645 5.13-1")
@pytest.mark.timeout(900)
@EACH
def test_much_chance_ends_in_a_sentence(bench: tuple[Bench, bytes], command: Command) -> None:
    """The same with forty times as many files."""
    work, good = bench
    dice = random.Random(f"soak {SEED}/{ids(command)}")
    for number in range(MANY_ROUNDS):
        work.run(junk.by_chance(dice, good), f"round {number}", as_json=dice.random() < 0.5)


@pytest.mark.security(12, "IEC 62443-4-2 CR 3.5", "IEC 62443-4-2 CR 7.1", "ETSI EN 303 645 5.13-1")
@EACH
def test_what_is_no_file_ends_in_a_sentence(bench: tuple[Bench, bytes], command: Command) -> None:
    """A file that is missing, a folder, a broken link, or larger than any memory: one sentence."""
    work, _ = bench
    if command.file == IDENTITY:
        return
    path = Path(command.file)
    for what in ("missing", "a folder", "a broken link", "huge"):
        work.run(None, "as it should be")
        path.unlink()
        if what == "a folder":
            path.mkdir()
        elif what == "a broken link":
            path.symlink_to("nowhere")
        elif what == "huge":
            junk.make_huge(path)
        work.end(what)
        if what == "a folder":
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
