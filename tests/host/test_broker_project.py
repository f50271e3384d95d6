"""`limpet broker init` and `check`: a folder that passes its own check, and faults that do not."""

import datetime
import json
import os
import pwd
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from host_tools.broker import account, birth, check, mosquitto, project
from host_tools.broker.findings import Finding
from host_tools.broker.project import BrokerFolder, Settings
from host_tools.ca import birth as authorities
from host_tools.ca.authority import CertificateAuthority
from host_tools.errors import LimpetError, RefusedError
from host_tools.pki import crl, profiles
from host_tools.pki.authority import Authority
from tests.host.broker_project import Project, unlock
from tests.host.in_process import limpet
from tests.host.shell import refused

PORT = 28883  # nobody listens there: a check takes a port of its own

pytestmark = pytest.mark.skipif(
    mosquitto.find_executable() is None, reason="Mosquitto is not installed: install the package `mosquitto`"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """An authority and a broker's folder, with a blank in their names."""
    made = Project(tmp_path_factory.mktemp("a plant"))
    made.broker("broker", PORT, names=("localhost", "127.0.0.1"), nodes=30)
    return made


@pytest.fixture
def folder(made: Project, tmp_path: Path) -> BrokerFolder:
    """A copy of the broker's folder that a test may break."""
    place = BrokerFolder(tmp_path / "broker")
    shutil.copytree(made.folder / "broker", place.path)
    settings = place.load()
    place.configuration.write_text(project.configuration_text(settings, place))
    return place


def examined(folder: BrokerFolder, now: datetime.datetime | None = None) -> dict[str, Finding]:
    found = check.examine(folder, folder.load(), now or datetime.datetime.now(datetime.UTC))
    return {each.what: each for each in found}


def test_init_passes_its_own_check(made: Project) -> None:
    found = list(check.check(made.folder / "broker", made.authority))
    assert len(found) == 16
    assert [each for each in found if not each.passed] == []
    revoked = [each for each in made.authority.state.issued.values() if each.name.startswith("check-")]
    assert revoked and all(each.serial in made.authority.state.revoked for each in revoked)


def test_without_the_authority_it_says_what_was_not_tried(made: Project) -> None:
    done = limpet("broker", "check", "broker", "--json", cwd=made.folder)
    said = json.loads(done.out)
    assert (done.code, said["good"], done.err) == (0, True, "")
    assert [each["passed"] for each in said["findings"]] == [True] * 12 + [None] * 4


def test_files_are_for_their_owner_alone(made: Project, tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        folder = made.broker("open", PORT)
    finally:
        os.umask(umask)
    assert folder.path.stat().st_mode & 0o007 == 0 and folder.store.stat().st_mode & 0o077 == 0
    for path in (*folder.files(), folder.settings):
        assert path.stat().st_mode & 0o137 == 0, path


def test_configuration(tmp_path: Path) -> None:
    folder = BrokerFolder(tmp_path)
    settings = Settings(("broker.plant.example",), "ca", port=8884, nodes=200, user="mosquitto")
    lines = project.configuration_text(settings, folder).splitlines()
    for line in (
        "per_listener_settings false",
        "user mosquitto",
        "listener 8884",
        f"crlfile {folder.crl}",
        "tls_version tlsv1.2",
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",
        "allow_anonymous false",
        f"acl_file {folder.acl}",
        "max_connections 420",
        "max_packet_size 16384",
        "max_queued_messages 80000",
        "persistence true",
        "sys_interval 0",
    ):
        assert lines.count(line) == 1, line
    assert len([line for line in lines if line.startswith("listener")]) == 1
    away = project.configuration_text(Settings(("b",), "ca", address="::1"), folder).splitlines()
    assert "listener 8883 ::1" in away and not [line for line in away if line.startswith("user")]


Break = Callable[[Project, BrokerFolder], object]


def _edit(name: str, old: str, new: str) -> Break:
    def edit(_: Project, folder: BrokerFolder) -> None:
        path = folder.path / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return edit


def _stranger(made: Project, folder: BrokerFolder) -> None:
    stranger = Authority.create(folder.path / "stranger")
    stranger.issue_broker(["localhost", "127.0.0.1"]).save(folder.path, "broker")


def _other_key(made: Project, folder: BrokerFolder) -> None:
    Authority.create(folder.path / "stranger").issue_console().save(folder.path, "other")
    (folder.path / "other.key").replace(folder.key)


def _other_list(made: Project, folder: BrokerFolder) -> None:
    authorities.create(folder.path / "ca2", unlock(), folder.path / "backup")
    folder.crl.write_bytes((folder.path / "ca2" / "crl.pem").read_bytes())


def _forged_list(made: Project, folder: BrokerFolder) -> None:
    authority = x509.load_pem_x509_certificate((made.ca / "chain.crt").read_bytes())
    forger = profiles.Signer(ec.generate_private_key(ec.SECP256R1()), authority)
    folder.crl.write_bytes(crl.to_pem([crl.build(forger, [], 99, profiles.utc_now())]))


FAULTS: dict[str, tuple[Break, str, str]] = {
    "no list": (lambda _, f: f.crl.unlink(), "files are there", "crl.pem is missing"),
    "empty list": (lambda _, f: f.crl.write_bytes(b""), "files are there", "crl.pem is empty"),
    "open key": (
        lambda _, f: f.key.chmod(0o644),
        "files are closed to others",
        "broker.key has the mode 644",
    ),
    "open store": (lambda _, f: f.store.chmod(0o777), "files are closed to others", "store has the mode 777"),
    "another key": (_other_key, "certificate: key, chain, usage, names, dates", "do not belong together"),
    "no root": (
        lambda made, f: f.trusted.write_bytes((made.ca / "chain.crt").read_bytes()),
        "certificate: key, chain, usage, names, dates",
        "trusted.crt has no root in it",
    ),
    "another authority": (_stranger, "certificate: key, chain, usage, names, dates", "would not trust it"),
    "another name": (
        _edit("broker.json", '"localhost"', '"broker.plant.example"'),
        "certificate: key, chain, usage, names, dates",
        "that calls the broker broker.plant.example would not",
    ),
    "junk for a list": (
        lambda _, f: f.crl.write_bytes(b"junk"),
        "CRL: signed, in force",
        "holds no CRL",
    ),
    "another's list": (_other_list, "CRL: signed, in force", "has no CRL of limpet issuing CA"),
    "a forged list": (_forged_list, "CRL: signed, in force", "who has not signed it"),
    "an edited rule": (
        _edit("acl", "topic deny limpet/limpet.console/#\n", ""),
        "acl is as limpet writes it",
        "acl:7 should say 'topic deny",
    ),
    "one more rule": (
        lambda _, f: f.acl.write_text(f.acl.read_text() + "topic readwrite #\n"),
        "acl is as limpet writes it",
        "acl:16 is not from limpet",
    ),
    "no certificates asked": (
        _edit("mosquitto.conf", "require_certificate true", "require_certificate false"),
        "mosquitto.conf is as limpet writes it",
        "should say 'require_certificate true'",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found(fault: str, made: Project, folder: BrokerFolder) -> None:
    assert all(each.passed for each in examined(folder).values())
    break_it, what, text = FAULTS[fault]
    break_it(made, folder)
    finding = examined(folder)[what]
    assert finding.passed is False and text in finding.why, finding


def test_what_ends_soon_and_what_has_ended(folder: BrokerFolder) -> None:
    now = datetime.datetime.now(datetime.UTC)
    soon = examined(folder, now + datetime.timedelta(days=800))
    assert [each.what for each in soon.values() if not each.passed] == ["nothing ends within a month"]
    late = examined(folder, now + datetime.timedelta(days=900))
    assert (
        "set this machine's clock, or issue a new one"
        in late["certificate: key, chain, usage, names, dates"].why
    )
    ended = examined(folder, now + datetime.timedelta(days=5 * 365 + 2))["CRL: signed, in force"]
    assert ended.passed is False and "so every client is refused" in ended.why


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("require_certificate true", "require_certificate false", "refused: no certificate"),
        ("acl_file", "#acl_file", "refused: a node writes as another"),
        ("crlfile", "#crlfile", "refused: a revoked node"),
    ],
)
def test_a_weak_configuration_is_found_out(
    old: str, new: str, what: str, made: Project, folder: BrokerFolder
) -> None:
    folder.configuration.write_text(folder.configuration.read_text().replace(old, new))
    found = {each.what: each for each in check.check(folder.path, made.authority)}
    assert found["a node comes in and writes below its own prefix"].passed or old.startswith("require")
    assert found[what].passed is False, found[what]


def test_a_configuration_that_mosquitto_does_not_take(made: Project, folder: BrokerFolder) -> None:
    folder.configuration.write_text(folder.configuration.read_text() + "max_conections 7\n")
    found = list(check.check(folder.path, None))
    assert found[-1].what == "Mosquitto starts on it" and found[-1].passed is False
    assert "max_conections" in found[-1].why
    done = limpet("broker", "check", str(folder.path))
    assert done.code == 1 and "FAILED     Mosquitto starts on it" in done.out


def test_again_keeps_what_was_said_and_revokes_the_last_certificate(made: Project) -> None:
    folder = made.broker("twice", PORT, prefix="plant/a", nodes=7)
    (folder.store / "mosquitto.db").write_bytes(b"sessions")
    before = folder.certificate.read_bytes()
    with pytest.raises(RefusedError, match="is a broker's folder already: give --again"):
        made.broker("twice", PORT)
    wanted = birth.Wanted(nodes=9, consoles=("console", "wall"))
    done = birth.init(folder.path, made.ca, unlock(), wanted, again=True)
    assert "user limpet.wall\ntopic read plant/a/#\n" in folder.acl.read_text()
    assert (done["prefix"], done["nodes"], done["names"]) == ("plant/a", 9, ["localhost"])
    assert folder.certificate.read_bytes() != before
    assert (folder.store / "mosquitto.db").read_bytes() == b"sessions"
    assert all(each.passed for each in examined(folder).values())
    with CertificateAuthority.open(made.ca, unlock()) as authority:
        brokers = [each for each in authority.state.issued.values() if each.kind == "broker"]
        assert brokers[-1].serial == done["serial"]
        assert authority.state.revoked[brokers[-2].serial].reason == "superseded"


def test_what_cannot_be_is_one_sentence(made: Project, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    cases: list[tuple[Path, dict[str, object], str]] = [
        (tmp_path, {}, "is not empty: name a new folder"),
        (tmp_path / "a", {"names": ("no name",)}, "neither a host name nor an IP address"),
        (tmp_path / "b", {"names": ("b",), "prefix": "a/#"}, "topic prefix"),
        (tmp_path / "c", {"names": ("b",), "port": 70000}, "port 70000 is not valid"),
        (tmp_path / "d", {"names": ("b",), "nodes": 0}, "0 is no number of nodes"),
        (tmp_path / "e", {"names": ("b",), "address": "203.0.113.1"}, "cannot listen on"),
        (tmp_path / "f\nuser root", {"names": ("b",)}, "has a line break"),
    ]
    for place, options, text in cases:
        with pytest.raises(LimpetError, match=text):
            birth.init(place, made.ca, unlock(), birth.Wanted(**options))  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt"]
    for command in ("check", "run"):
        refused(
            limpet("broker", command, str(tmp_path)),
            f"{tmp_path} is no broker's folder, broker.json is missing: make one with 'limpet broker init'.",
        )


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that other accounts can enter."""
    path = Path(tempfile.mkdtemp(prefix="limpet-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def _has_account() -> bool:
    return os.geteuid() == 0 and any(each.pw_name == account.MOSQUITTO for each in pwd.getpwall())


@pytest.mark.skipif(not _has_account(), reason="only root starts Mosquitto as the account `mosquitto`")
def test_started_by_root_mosquitto_becomes_its_own_account(
    made: Project, reachable: Path, tmp_path: Path
) -> None:
    wanted = birth.Wanted(("localhost",), "127.0.0.1", PORT)
    birth.init(reachable / "broker", made.ca, unlock(), wanted)
    folder = BrokerFolder(reachable / "broker")
    assert "user mosquitto" in folder.configuration.read_text().splitlines()
    assert folder.key.stat().st_uid == 0 and folder.key.stat().st_mode & 0o777 == 0o640
    assert [each.line() for each in check.check(folder.path, None) if each.passed is False] == []
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(LimpetError, match="account mosquitto, which Mosquitto runs as, cannot enter"):
        birth.init(closed / "broker", made.ca, unlock(), wanted)
    assert not list(closed.iterdir())
