"""`limpet ca` as a user runs it, with the passphrase on a file descriptor or typed at a terminal."""

import json
import os
import pty
import select
import shutil
import stat
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from host_tools.ca import public
from tests.host.authorities import PASSPHRASE, request
from tests.host.in_process import limpet
from tests.host.shell import DEADLINE, LIMPET, Done, environment, refused


def ca(*words: str | Path, cwd: Path, passphrase: str = PASSPHRASE) -> Done:
    """`limpet ca …` with the passphrase on a pipe."""
    done = limpet("ca", *words, passphrase=passphrase, cwd=cwd)
    assert "Traceback" not in done.err and PASSPHRASE not in done.out + done.err
    return done


@pytest.fixture(scope="module")
def born(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's folder with an authority that the command has made."""
    folder = tmp_path_factory.mktemp("born")
    done = ca("init", "--backup", "birth.backup", "--organisation", "Plant 7", cwd=folder)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("ca: made; its root is limpet root CA ")
    return folder


@pytest.fixture
def project(born: Path, tmp_path: Path) -> Path:
    shutil.copytree(born, tmp_path / "project")
    return tmp_path / "project"


def events(project: Path) -> list[str]:
    return [line.event for line in public(project / "ca").lines]


def test_the_life_of_an_authority(project: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (project / "n01.csr").write_bytes(request("n01", key))
    node = ca("issue", "node", "n01", "--csr", "n01.csr", cwd=project)
    leaf, issuing = x509.load_pem_x509_certificates(node.out.encode())
    assert leaf.public_key() == key.public_key()
    leaf.verify_directly_issued_by(issuing)
    again = ca("issue", "node", "n01", "--csr", "n01.csr", "-o", "n01.crt", "--json", cwd=project)
    told = json.loads(again.out)
    assert (told["kind"], told["name"], told["certificate"]) == ("node", "n01", node.out)
    assert (project / "n01.crt").read_text() == node.out
    broker = ca("issue", "broker", "localhost", "127.0.0.1", "--into", "out", cwd=project)
    assert broker.out.startswith("out/broker.key, out/broker.crt: until ")
    assert stat.S_IMODE((project / "out" / "broker.key").stat().st_mode) == 0o600
    console = ca("issue", "console", "wall-2", "--into", "out", "--days", "30", cwd=project)
    assert console.code == 0 and (project / "out" / "wall-2.crt").exists()
    listed = limpet("ca", "list", cwd=project)
    assert [line.split()[:3] for line in listed.out.splitlines()] == [
        ["kind", "name", "state"],
        ["node", "n01", "live"],
        ["broker", "localhost", "127.0.0.1"],
        ["console", "limpet.wall-2", "live"],
    ]
    gone = ca("revoke", "n01", "--reason", "key-compromise", cwd=project)
    assert gone.out == f"revoked: node n01, {told['serial']}\n"
    [entry] = json.loads(limpet("ca", "list", "n01", "--all", "--json", cwd=project).out)["certificates"]
    assert (entry["state"], entry["reason"]) == ("revoked", "key-compromise")
    shown = json.loads(limpet("ca", "show", "--json", cwd=project).out)
    assert (shown["live"], shown["revoked"], shown["lines"]) == (
        {"nodes": 0, "brokers": 1, "consoles": 1},
        1,
        6,
    )
    assert events(project) == ["init", "backup", "issue", "issue", "issue", "revoke"]
    audited = limpet("ca", "audit", cwd=project)
    assert (
        audited.out == (f"ca: 6 lines, nothing was touched; the last line is 6:{shown['hash']}\n")
        and not audited.err
    )


def test_rotation_backup_and_restoring(project: Path) -> None:
    rotated = ca("rotate", "--root", "--backup", "second.backup", cwd=project)
    assert (
        rotated.out.startswith("issuing now: limpet issuing CA ") and "'limpet rotate --trust'" in rotated.out
    )
    shutil.rmtree(project / "ca")
    restored = ca("restore", "second.backup", "--json", cwd=project)
    assert json.loads(restored.out)["folder"] == "ca"
    assert restored.err.startswith("what was issued or revoked after that is not in it")
    retired = ca("retire-root", "--json", cwd=project)
    assert len(json.loads(retired.out)["trusted"]) == 1
    assert ca("backup", "third.backup", cwd=project).out.startswith("third.backup: ")
    assert events(project) == ["init", "backup", "rotate", "restore", "retire-root", "backup"]
    assert limpet("ca", "audit", cwd=project).code == 0


def test_an_audit_that_finds_something(project: Path) -> None:
    path = project / "ca" / "ledger.jsonl"
    path.write_text(path.read_text().replace('"birth.backup"', '"death.backup"'))
    text = (
        "ca was touched: line 2 was changed: its seal is wrong; line 2 is not the one that ledger.head knows."
    )
    refused(limpet("ca", "audit", cwd=project), text, 5)
    said = limpet("ca", "audit", "--json", cwd=project)
    told = json.loads(said.out)
    assert (said.code, told["error"], told["exit_code"], told["findings"][0]["line"]) == (5, text, 5, 2)
    done = ca("issue", "broker", "localhost", "--into", "out", cwd=project)
    assert done.code == 5 and "line 2 was changed" in done.err and "limpet ca audit" in done.err
    assert not (project / "out").exists()


def test_a_command_that_was_cut_short_is_told(project: Path) -> None:
    path = project / "ca" / "ledger.jsonl"
    path.write_bytes(path.read_bytes() + b'{"n": 3')
    looked = limpet("ca", "audit", cwd=project)
    assert looked.code == 0 and "a command was cut short: the line after line 2 was cut short" in looked.err
    done = ca("issue", "console", "--into", "out", cwd=project)
    assert done.code == 0
    assert done.err == "ca: a command was cut short: line 3 was cut short, its 7 bytes were removed\n"
    assert events(project) == ["init", "backup", "mended", "issue"]


def test_what_is_refused(project: Path, tmp_path: Path) -> None:
    text = "There is no certificate authority in ca: make one with 'limpet ca init', or name its folder with"
    refused(limpet("ca", "show", cwd=tmp_path), f"{text} --ca.")
    wrong = ca("issue", "broker", "b", "--into", "x", cwd=project, passphrase="another one altogether")
    assert wrong.code == 4 and "is not the passphrase of ca/issuing.key" in wrong.err
    (project / "out").mkdir()
    (project / "out" / "broker.key").write_text("precious")
    text = "out/broker.key is there already: choose another folder, or move it away."
    refused(ca("issue", "broker", "b", "--into", "out", cwd=project), text, 4)
    assert (project / "out" / "broker.key").read_text() == "precious"
    text = "The folder precious cannot be made or read: Not a directory."
    (project / "precious").write_text("no folder")
    refused(ca("issue", "console", "--into", "precious", cwd=project), text)
    text = "'12' is no line and its hash: give what an audit has shown, such as 12:0a1b…."
    refused(limpet("ca", "audit", "--known", "12", cwd=project), text, 2)
    assert events(project) == ["init", "backup"]


@pytest.mark.security(12, "IEC 62443-4-2 CR 3.5", "ETSI EN 303 645 5.13-1")
def test_a_malformed_request(project: Path) -> None:
    """`limpet ca issue node` with a malformed request says one sentence, and nothing is issued."""
    good = request("n01")
    pem = x509.load_der_x509_csr(good).public_bytes(Encoding.PEM)
    path = project / "n01.csr"
    for junk in (good[:-1], pem[:90]):
        path.write_bytes(junk)
        text = f"{path}: These {len(junk)} bytes are no certificate request in DER or PEM"
        done = limpet("ca", "issue", "node", "n01", "--csr", path, cwd=project)
        refused(done, f"{text}: let the node make a new request.")
    assert events(project) == ["init", "backup"]


@pytest.mark.security(12, "IEC 62443-4-2 CR 3.5", "ETSI EN 303 645 5.13-1")
def test_malformed_files_of_the_authority(project: Path) -> None:
    """Junk in the place of the authority's key makes a command say one sentence."""
    (project / "ca" / "issuing.key").write_bytes(b"\x30\x82\x01\x00" + os.urandom(60))
    text = "ca/issuing.key is not an encrypted private key in PEM: restore it from a backup."
    refused(ca("issue", "console", "--into", "out", cwd=project), text)
    assert not (project / "out").exists()


@pytest.mark.security(2, "IEC 62443-4-2 CR 1.5", "ETSI EN 303 645 5.4-1")
def test_the_passphrase_is_typed_unseen(project: Path) -> None:
    """The passphrase of the authority, typed at a terminal, is not shown, and is in no process's words."""
    child, terminal = pty.fork()
    if not child:
        os.chdir(project)
        os.execve(LIMPET, [LIMPET, "ca", "issue", "console", "--into", "out"], environment())
    said = b""
    typed = False
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if not select.select([terminal], [], [], 0.1)[0]:
            continue
        try:
            said += os.read(terminal, 1000)
        except OSError:  # it has ended
            break
        if b"Passphrase of the authority in ca: " in said and not typed:
            os.write(terminal, f"{PASSPHRASE}\n".encode())
            typed = True
            assert PASSPHRASE not in (Path("/proc") / str(child) / "cmdline").read_text()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert typed and PASSPHRASE.encode() not in said and b"out/console.crt: until" in said
