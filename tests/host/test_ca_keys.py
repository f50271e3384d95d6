"""The keys of an authority in files, and where their passphrase comes from."""

import base64
import os
import pty
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import keyring
import keyring.backends.fail
import keyring.backends.null
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from keyring.backend import KeyringBackend
from keyring.backends.chainer import ChainerBackend
from keyring.errors import KeyringLocked

from host_tools.ca import keys, passphrase, pkcs8
from host_tools.ca.deadline import within
from host_tools.ca.passphrase import Unlock
from host_tools.errors import LimpetError, RefusedError

SECRET = "correct horse battery staple"
SUBJECT = "the authority in ca"
DEADLINE = 60.0
Made = tuple[Path, ec.EllipticCurvePrivateKey]


def told(text: bytes | str) -> Unlock:
    """By a descriptor that has `text` and no more."""
    reader, writer = os.pipe()
    os.write(writer, text.encode() if isinstance(text, str) else text)
    os.close(writer)
    return passphrase.from_descriptor(reader, SUBJECT)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    path = tmp_path_factory.mktemp("keys") / "root.key"
    return path, keys.create(path, told(SECRET))


@pytest.mark.security(2, "IEC 62443-4-2 CR 1.9", "ETSI EN 303 645 5.4-1")
def test_a_key_is_encrypted_in_a_file_for_its_owner_alone(made: Made) -> None:
    """The authority's private key is on the disk under scrypt and AES-256 alone, in a file of mode 0600."""
    path, key = made
    lines = path.read_text().splitlines()
    assert path.stat().st_mode & 0o777 == 0o600
    assert (lines[0], lines[-1]) == (
        "-----BEGIN ENCRYPTED PRIVATE KEY-----",
        "-----END ENCRYPTED PRIVATE KEY-----",
    )
    assert max(map(len, lines[1:-1])) == 64
    der = base64.b64decode("".join(lines[1:-1]))
    assert key.private_numbers().private_value.to_bytes(32) not in der
    assert bytes.fromhex("06 09 2b06010401da47040b") in der, "scrypt"
    assert bytes.fromhex("0202 4000  0201 08  0201 05") in der, "its costs"
    assert bytes.fromhex("06 09 60864801650304012a") in der, "AES-256-CBC"
    assert keys.load(path, told(SECRET)).private_numbers() == key.private_numbers()
    assert not keys.in_token(path)


def test_two_files_of_one_key_share_nothing(made: Made, tmp_path: Path) -> None:
    again = pkcs8.encrypt(made[1], SECRET.encode()).splitlines()
    assert not set(again[2:-1]) & set(made[0].read_bytes().splitlines()), "salt and IV are new"


@pytest.mark.skipif(not shutil.which("openssl"), reason="the openssl command is not installed")
def test_openssl_reads_it(made: Made) -> None:
    path, key = made
    command = ["openssl", "pkey", "-in", str(path), "-passin", "stdin", "-pubout", "-outform", "DER"]
    done = subprocess.run(command, input=SECRET.encode(), capture_output=True, timeout=DEADLINE, check=True)
    assert done.stdout == key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_a_wrong_passphrase_is_refused_and_forgotten(made: Made) -> None:
    unlock = told("not the right one\n" + SECRET)
    with pytest.raises(RefusedError, match=r"^That is not the passphrase of .*root\.key: try again\.$"):
        keys.load(made[0], unlock)
    assert keys.load(made[0], unlock).key_size == 256, "asked anew"


def test_a_wrong_passphrase_that_seems_to_fit_for_a_moment(tmp_path: Path) -> None:
    """One in 256 ends in proper padding, before which there is no key. It is a wrong one all the same."""
    path = tmp_path / "root.key"
    path.write_bytes(encrypted(ec.generate_private_key(ec.SECP256R1())))
    for i in range(10_000):
        wrong = f"wrong {i}"
        try:
            load_pem_private_key(path.read_bytes(), wrong.encode())
        except ValueError as error:
            if "Incorrect password" not in str(error):
                break
    with pytest.raises(RefusedError, match=r"^That is not the passphrase of "):
        keys.load(path, told(wrong))


def test_a_key_is_never_written_over(made: Made) -> None:
    before = made[0].read_bytes()
    with pytest.raises(RefusedError, match="is there already: keep that key"):
        keys.create(made[0], told(SECRET))
    assert made[0].read_bytes() == before


def encrypted(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(SECRET.encode()))


@pytest.mark.security(12, "IEC 62443-4-2 CR 3.5")
def test_files_that_are_no_key_of_ours(made: Made, tmp_path: Path) -> None:
    """Each file that is no key, or a damaged one, is told in one sentence that shows nothing of it."""
    whole = made[0].read_bytes()
    plain = made[1].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    cases: dict[str, tuple[bytes, str]] = {
        "empty": (b"", "is not an encrypted private key in PEM: restore it from a backup."),
        "text": (b"hello\n", "is not an encrypted private key in PEM: restore it from a backup."),
        "large": (whole * 100, "is not a private key: restore it from a backup."),
        "cut": (whole[:200], "is damaged: restore it from a backup."),
        "salt": (whole[:60] + b"!" + whole[61:], "is damaged: restore it from a backup."),
        "no base64": (whole.replace(b"MI", b"\xff\xff", 1), "is damaged: restore it from a backup."),
        "plain": (plain, "is a private key without encryption: "),
        "Ed25519": (encrypted(ed25519.Ed25519PrivateKey.generate()), "is not a key on the curve P-256: "),
        "P-384": (encrypted(ec.generate_private_key(ec.SECP384R1())), "is not a key on the curve P-256: "),
        "URI": (b"pkcs11:token=\xe4", "is damaged: restore it from a backup."),
    }
    path = tmp_path / "root.key"
    for name, (data, sentence) in cases.items():
        path.write_bytes(data)
        with pytest.raises(LimpetError) as caught:
            keys.load(path, told(SECRET))
        assert str(caught.value).startswith(f"{path} {sentence}"), name
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 300 + len(str(path)) * 2
    with pytest.raises(LimpetError, match=r"^The key .*absent\.key cannot be read: No such file"):
        keys.load(tmp_path / "absent.key", told(SECRET))


@pytest.mark.parametrize("weak", ["short", "elevenchars", "aaaaaaaaaaaaaaaa", "abababababababab"])
def test_a_weak_passphrase_makes_no_key(weak: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"^The new passphrase is too weak: .* at least 12 characters"):
        keys.create(tmp_path / "root.key", told(weak))
    assert not list(tmp_path.iterdir())


def test_one_text_is_one_passphrase_however_it_was_typed() -> None:
    composed, decomposed = told("Schlüssel für die Wurzel"), told("Schlu\u0308ssel fu\u0308r die Wurzel")
    assert composed() == decomposed() == "Schlüssel für die Wurzel".encode()


def test_an_unlock_shows_nothing_and_forgets() -> None:
    unlock = told(f"{SECRET}\nanother one of those\n1234\n")
    with unlock as entered:
        assert entered() == unlock() == entered.new() == SECRET.encode(), "it is asked for once"
    assert unlock() == b"another one of those"
    assert unlock.pin("token a") == b"1234"
    shown = repr(unlock) + str(unlock) + f"{unlock}"
    assert "another" not in shown and "1234" not in shown


def test_a_descriptor_gives_a_line_to_each_who_asks() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"the first of two\r\nthe second of two\n")
    first, second = (passphrase.from_descriptor(reader, SUBJECT) for _ in range(2))
    assert (first(), second()) == (b"the first of two", b"the second of two")
    os.close(writer)
    with pytest.raises(LimpetError, match="gave an empty line"):
        passphrase.from_descriptor(reader, SUBJECT)()
    os.close(reader)


def test_a_descriptor_that_is_fed_slowly() -> None:
    reader, writer = os.pipe()

    def feed() -> None:
        for byte in SECRET.encode():
            os.write(writer, bytes((byte,)))
        os.close(writer)

    thread = threading.Thread(target=feed)
    thread.start()
    assert passphrase.from_descriptor(reader, SUBJECT)() == SECRET.encode()
    thread.join()
    os.close(reader)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (b"", "gave an empty line: write the passphrase to it."),
        (b"\n", "gave an empty line: write the passphrase to it."),
        (b"\xff\xfe\n", "gave a line that is not UTF-8: give the passphrase alone."),
        (b"x" * 1025 + b"\n", "gave a line of more than 1024 bytes: give the passphrase alone."),
        (b"x" * 1025, "gave a line of more than 1024 bytes: give the passphrase alone."),
    ],
)
def test_what_a_descriptor_cannot_give(given: bytes, sentence: str) -> None:
    with pytest.raises(LimpetError) as caught:
        told(given)()
    assert str(caught.value).startswith("--passphrase-fd ") and str(caught.value).endswith(sentence)


def test_descriptors_that_do_not_serve() -> None:
    reader, writer = os.pipe()
    with pytest.raises(LimpetError, match=r"gave no whole line within 0\.05 s"):
        passphrase.from_descriptor(reader, SUBJECT, deadline=0.05)()
    os.write(writer, b"half a line")
    with pytest.raises(LimpetError, match=r"gave no whole line within 0\.05 s"):
        passphrase.from_descriptor(reader, SUBJECT, deadline=0.05)()
    os.close(reader)
    with pytest.raises(LimpetError, match=r"cannot be read \(Bad file descriptor\): open it"):
        passphrase.from_descriptor(writer, SUBJECT)()  # it is there, and only for writing
    os.close(writer)
    for number in (reader, 2**31):
        with pytest.raises(LimpetError, match=f"^--passphrase-fd {number} cannot be read"):
            passphrase.from_descriptor(number, SUBJECT)()
    master, slave = pty.openpty()
    with pytest.raises(LimpetError, match="is a terminal, which would show it"):
        passphrase.from_descriptor(slave, SUBJECT)()
    os.close(master)
    os.close(slave)


PROGRAM = """
from host_tools.ca import passphrase
from host_tools.errors import LimpetError
unlock = passphrase.from_terminal("the authority in ca")
try:
    print("got", {what}.hex(), unlock().hex())
except LimpetError as error:
    print("refused:", error)
"""


def at_terminal(what: str, *answers: bytes) -> str:
    """What a program shows that has a terminal, where `answers` are typed when it asks."""
    pid, master = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", PROGRAM.format(what=what)])
    screen = b""
    waiting = list(answers)
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        try:
            screen += os.read(master, 4096)
        except OSError:  # it has ended
            break
        if waiting and screen.endswith(b": "):
            os.write(master, waiting.pop(0))
    os.waitpid(pid, 0)
    os.close(master)
    return screen.decode()


@pytest.mark.security(2, "IEC 62443-4-2 CR 1.10")
def test_a_terminal_asks_and_does_not_show(tmp_path: Path) -> None:
    """A passphrase that is typed is not shown, and is asked for once."""
    screen = at_terminal("unlock()", SECRET.encode() + b"\n")
    assert screen.split("\r\n")[0] == "Passphrase of the authority in ca: "
    assert f"got {SECRET.encode().hex()} {SECRET.encode().hex()}" in screen
    assert SECRET not in screen


def answered(secret: str) -> str:
    return f"got {secret.encode().hex()} {secret.encode().hex()}"


def test_a_new_passphrase_is_typed_twice() -> None:
    typed = SECRET.encode() + b"\n"
    screen = at_terminal("unlock.new()", typed, typed)
    assert "New passphrase of the authority in ca: " in screen and "The same once more: " in screen
    assert answered(SECRET) in screen
    assert "refused: The two passphrases differ: " in at_terminal("unlock.new()", typed, b"something else\n")
    weak = at_terminal("unlock.new()", b"1234\n")
    assert "refused: The new passphrase is too weak: " in weak and "once more" not in weak
    assert "refused: The terminal gave no passphrase: " in at_terminal("unlock()", b"\x04")


def test_without_a_terminal_it_says_what_to_do() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(what="unlock()")],
        capture_output=True,
        text=True,
        input=f"{SECRET}\n",
        start_new_session=True,  # so that there is none
        timeout=DEADLINE,
        check=True,
    )
    assert (done.stdout, done.stderr) == (
        "refused: There is no terminal to ask for the passphrase: run it in one, "
        "or give --passphrase-fd or --passphrase-keyring.\n",
        "",
    )


class Ring(KeyringBackend):
    """A keyring in memory, for the tests."""

    priority = 1

    def __init__(self, locked: bool = False) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = locked

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise KeyringLocked(f"locked, and {SECRET} shows")
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


class PlaintextRing(Ring):
    pass


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> Ring:
    ring = Ring()
    monkeypatch.setattr(keyring, "get_keyring", lambda: ring)
    return ring


def test_the_keyring_gives_what_it_keeps(ring: Ring) -> None:
    ring.set_password("limpet", "/plant/ca", SECRET)
    ring.set_password("limpet", "token plant", "1234")
    unlock = passphrase.from_keyring("/plant/ca", SUBJECT)
    assert unlock() == unlock.new() == SECRET.encode()
    assert unlock.pin("token plant") == b"1234"


def test_what_the_keyring_lacks(ring: Ring) -> None:
    unlock = passphrase.from_keyring("/the plant/ca", SUBJECT)
    with pytest.raises(LimpetError) as caught:
        unlock()
    assert str(caught.value) == (
        f"The keyring has nothing for {SUBJECT}: put it there with 'keyring set limpet '/the plant/ca''."
    )
    ring.set_password("limpet", "/the plant/ca", "1234")
    with pytest.raises(RefusedError, match="too weak"):
        unlock.new()


def test_a_new_one_is_put_into_the_keyring(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passphrase, "_typed", lambda prompt: SECRET)
    assert passphrase.from_keyring("/plant/ca", SUBJECT).new() == SECRET.encode()
    assert ring.kept == {("limpet", "/plant/ca"): SECRET}


def chained(*rings: KeyringBackend) -> KeyringBackend:
    class Chain(ChainerBackend):
        backends: Sequence[KeyringBackend] = rings

    return Chain()


@pytest.mark.security(2, "ETSI EN 303 645 5.4-1")
def test_keyrings_that_will_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A keyring that is missing, locked, or keeps passwords in plain text is told, or refused."""
    nothing = "There is no keyring on this machine that can be used: leave --passphrase-keyring out."
    plain = "The keyring PlaintextRing keeps passwords where others can read them: "
    cases: list[tuple[KeyringBackend, str]] = [
        (keyring.backends.fail.Keyring(), nothing),
        (keyring.backends.null.Keyring(), nothing),
        (PlaintextRing(), plain),
        (chained(Ring(), PlaintextRing()), plain),
        (Ring(locked=True), "The keyring gave no answer (KeyringLocked): unlock it, or leave "),
    ]
    for backend, sentence in cases:
        monkeypatch.setattr(keyring, "get_keyring", lambda backend=backend: backend)
        for ask in (Unlock.__call__, Unlock.new):
            with pytest.raises(LimpetError) as caught:
                ask(passphrase.from_keyring("/plant/ca", SUBJECT))
            assert str(caught.value).startswith(sentence), backend
            assert SECRET not in str(caught.value)


def test_a_call_that_does_not_come_back() -> None:
    stuck = threading.Event()
    with pytest.raises(
        LimpetError, match=r"^The keyring did not answer within 0\.05 s: see whether it waits"
    ):
        within(0.05, "The keyring", lambda: stuck.wait(DEADLINE))
    stuck.set()
    with pytest.raises(ZeroDivisionError):
        within(DEADLINE, "It", lambda: 1 / 0)
    assert within(DEADLINE, "It", lambda: None) is None
