"""What is written for Mosquitto, and which Mosquitto is taken."""

import contextlib
import os
import socket
from pathlib import Path

import pytest

from host_tools.broker import mosquitto, start_broker
from host_tools.broker.acl import Access, mosquitto_acl
from host_tools.broker.config import BrokerConfig
from host_tools.errors import LimpetError
from host_tools.pki.authority import Authority
from tests.host.stand import wait_until


def config() -> BrokerConfig:
    ca, certificate, key = Path("/p k/ca.crt"), Path("/p k/broker.crt"), Path("/p k/broker.key")
    return BrokerConfig("127.0.0.1", 8883, Access("plant/a", ("limpet.console",)), ca, certificate, key)


def test_acl_file() -> None:
    rules = [line for line in mosquitto_acl(config().access).splitlines() if not line.startswith("#")]
    assert rules == [
        "pattern write plant/a/%u/#",
        "pattern read plant/a/%u/cmd/#",
        "",
        "user limpet.console",
        "topic read plant/a/#",
        "topic deny plant/a/limpet.console/#",
        "",
        "user limpet.operator",
        "topic read plant/a/#",
        "topic write plant/a/+/cmd/+",
        "topic deny plant/a/limpet.operator/#",
    ]


def test_configuration_insists_on_certificates() -> None:
    lines = mosquitto.configuration(config(), Path("/run/acl"), as_root=False).splitlines()
    for line in (
        "listener 8883 127.0.0.1",
        "cafile /p k/ca.crt",
        "certfile /p k/broker.crt",
        "keyfile /p k/broker.key",
        "tls_version tlsv1.2",
        "require_certificate true",
        "allow_anonymous false",
        "use_identity_as_username true",
        "use_username_as_clientid true",
        "acl_file /run/acl",
        "persistence false",
    ):
        assert lines.count(line) == 1, line
    assert len([line for line in lines if line.startswith("listener")]) == 1
    assert not [line for line in lines if line.startswith("user ")]


def test_root_stays_root_to_read_the_key() -> None:
    assert "user root" in mosquitto.configuration(config(), Path("/run/acl"), as_root=True).splitlines()


def test_a_persistent_one_saves_every_change(tmp_path: Path) -> None:
    text = mosquitto.configuration(config(), Path("/run/acl"), as_root=False, store=tmp_path)
    lines = text.splitlines()
    assert "persistence false" not in lines
    for line in ("persistence true", f"persistence_location {tmp_path}", "autosave_on_changes true"):
        assert lines.count(line) == 1, line


@pytest.mark.parametrize(
    ("user", "topic", "write", "read"),
    [
        ("n01", "limpet/n01/data", True, False),
        ("n01", "limpet/n01/cmd/7", True, True),
        ("n01", "limpet/n01/cmd/#", True, True),
        ("n01", "limpet/n01/command", True, False),
        ("n01", "limpet/n02/data", False, False),
        ("n01", "limpet/n02/cmd/7", False, False),
        ("n01", "limpet/n011/data", False, False),
        ("n01", "limpet/#", False, False),
        ("n01", "#", False, False),
        ("n01", "", False, False),
        ("limpet.console", "limpet/n01/data", False, True),
        ("limpet.console", "limpet/#", False, True),
        ("limpet.console", "limpet/limpet.console/x", False, True),
        ("limpet.console", "limpets/n01/data", False, False),
        ("limpet.console", "limpet/n01/cmd/7", False, True),
        ("limpet.console", "#", False, False),
        ("limpet.operator", "limpet/n01/data", False, True),
        ("limpet.operator", "limpet/#", False, True),
        ("limpet.operator", "limpet/n01/cmd/7", True, True),
        ("limpet.operator", "limpet/n01/cmd", False, True),
        ("limpet.operator", "limpet/n01/cmd/7/8", False, True),
        ("limpet.operator", "limpet/n01/rsp/7", False, True),
        ("limpet.operator", "limpet/limpet.operator/cmd/7", False, True),
        ("limpet.operator", "plant/limpet/n01/cmd/7", False, False),
        ("limpet.operator", "cmd", False, False),
        ("limpet.operator", "", False, False),
    ],
)
def test_rules(user: str, topic: str, write: bool, read: bool) -> None:
    access = Access("limpet", ("limpet.console",))
    assert (access.may_write(user, topic), access.may_read(user, topic)) == (write, read)


def install(folder: Path, text: str) -> Path:
    """A program called `mosquitto` that prints `text` and fails, as Mosquitto does when asked for help."""
    folder.mkdir()
    program = folder / "mosquitto"
    program.write_text(f"#!/bin/sh\necho '{text}'\nexit 3\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    ("text", "version", "usable"),
    [
        ("mosquitto version 2.0.11", (2, 0, 11), True),
        ("mosquitto version 2.1", (2, 1), True),
        ("mosquitto version 10.0.0", (10, 0, 0), True),
        ("mosquitto version 1.6.12", (1, 6, 12), False),
        ("something else", None, False),
    ],
)
def test_version(tmp_path: Path, text: str, version: tuple[int, ...] | None, usable: bool) -> None:
    found = mosquitto.version(str(install(tmp_path / "bin", text)))
    assert found == version
    assert mosquitto.is_usable(found) is usable


def test_version_of_no_program(tmp_path: Path) -> None:
    assert mosquitto.version(str(tmp_path / "missing")) is None


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    Authority.create(tmp_path / "pki").issue_broker(["localhost"]).save(tmp_path / "pki", "broker")
    return tmp_path / "pki"


@pytest.mark.parametrize("version", [None, "1.6.12"])
def test_without_a_usable_mosquitto(
    version: str | None, pki: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if version:
        install(tmp_path / "bin", f"mosquitto version {version}")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(mosquitto, "_MORE_FOLDERS", ())
    with start_broker(pki) as broker:
        assert broker.kind == "embedded" and "amqtt" in broker.title
    reason = "is too old" if version else "is not installed"
    with pytest.raises(LimpetError, match=f"{reason}: install the package `mosquitto`"):
        start_broker(pki, prefer="mosquitto")


@pytest.mark.skipif(
    mosquitto.find_executable() is None, reason="Mosquitto is not installed: install the package `mosquitto`"
)
def test_mosquitto_is_taken_where_it_is_installed(pki: Path) -> None:
    with start_broker(pki) as broker:
        assert broker.kind == "mosquitto"
        assert broker.title.startswith("Mosquitto 2.")


def _is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.skipif(
    mosquitto.find_executable() is None, reason="Mosquitto is not installed: install the package `mosquitto`"
)
def test_pause_and_kill(pki: Path, tmp_path: Path) -> None:
    with start_broker(pki, run_folder=tmp_path / "run", persistent=True) as broker:
        broker.pause()
        with socket.create_connection(("127.0.0.1", broker.port), timeout=5) as client:
            client.settimeout(0.3)
            client.sendall(b"no TLS")
            with pytest.raises(TimeoutError):
                client.recv(1)
            broker.resume()
            client.settimeout(20)
            with contextlib.suppress(ConnectionResetError):
                client.recv(100)  # an alert, or the end
        broker.kill()
        assert not broker.alive
        wait_until(lambda: _is_refused(broker.port), "the broker's end")
    with start_broker(pki, port=broker.port, run_folder=tmp_path / "run", persistent=True) as again:
        assert again.alive


def test_a_broker_that_dies_says_its_last_words(
    pki: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = install(tmp_path / "bin", "mosquitto version 2.0.11")
    program.write_text(
        "#!/bin/sh\n"
        '[ "$1" = -h ] && echo mosquitto version 2.0.11 || echo "1700000000: Error: no luck."\n'
        "exit 3\n"
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(LimpetError, match=r"^Mosquitto did not start: Error: no luck\.$"):
        start_broker(pki)
    assert not list(tmp_path.glob("limpet-broker-*")), "files left behind"


def test_a_broker_that_never_listens_is_ended(
    pki: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = install(tmp_path / "bin", "")
    program.write_text(
        "#!/bin/sh\n"
        '[ "$1" = -h ] && echo mosquitto version 2.0.11 && exit 3\n'
        f"echo $$ > '{tmp_path}/pid'\n"
        "echo thinking\n"
        "exec sleep 1000\n"
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr("host_tools.broker.process._START_DEADLINE", 3.0)
    with pytest.raises(LimpetError, match=r"was not ready after .* seconds: thinking"):
        start_broker(pki, prefer="mosquitto")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
