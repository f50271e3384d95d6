"""A node's key and request as others read them, and enrolments up to a broker that demands mutual TLS."""

import json
import os
import runpy
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID

from host_tools import micropython
from host_tools.broker import mosquitto
from host_tools.broker.acl import Access
from host_tools.broker.config import BrokerConfig
from host_tools.paths import FIRMWARE, ROOT, VIRTUAL_BOARD
from host_tools.pki.authority import Authority
from host_tools.pki.partition import PARTITION_SIZE, SLOT_SIZE, decode
from host_tools.pki.request import check_request

VECTORS = ROOT / "tests" / "vectors"
DEADLINE = 60.0

# Follows orders, one a line, on the identity partition in a file; answers with a line of JSON each.
NODE = """
import json, sys
from enrolling import Flash, use
from limpet import enrol, identity
sys.path.pop()  # the virtual board's, with a network of its own
path = sys.argv[1]
with open(path, "rb") as f:
    flash = use(Flash(f.read()))
for line in sys.stdin:
    order, *words = json.loads(line)
    if order == "request":
        answer = enrol.request(*words).hex()
    elif order == "put":
        answer = enrol.put(words[0], bytes.fromhex(words[1]))
    elif order == "connect":
        import socket
        sock = socket.socket()
        sock.connect(socket.getaddrinfo("127.0.0.1", words[0])[0][-1])
        who = identity.load()
        name = who.node_id.encode()
        tls = who.context().wrap_socket(sock, server_hostname="127.0.0.1")
        body = b"\\x00\\x04MQTT\\x04\\x02\\x00\\x3c" + bytes([0, len(name)]) + name
        tls.write(b"\\x10" + bytes([len(body)]) + body)
        answer = tls.read(4).hex()
        sock.close()
    else:
        answer = getattr(enrol, order)(*words)
    print(json.dumps(answer))
    with open(path, "wb") as f:
        f.write(flash.data)
"""


class Board:
    """A board's identity partition, in a file. All that its MicroPython ever said is in `said`."""

    def __init__(self, folder: Path) -> None:
        self.flash = folder / "identity.bin"
        self.flash.write_bytes(b"\xff" * PARTITION_SIZE)
        self.said = ""

    def do(self, *orders: list[Any]) -> list[Any]:
        """Start the board, and have it follow the orders; its answers."""
        search = [FIRMWARE, ROOT / "tests" / "firmware", VIRTUAL_BOARD]
        done = subprocess.run(
            [*micropython.command(), "-X", "heapsize=512k", "-c", NODE, str(self.flash)],
            env=os.environ | {"MICROPYPATH": ":".join([".frozen", *map(str, search)])},
            input="".join(json.dumps(order) + "\n" for order in orders),
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        self.said += done.stdout + done.stderr
        assert "Traceback" not in self.said, self.said
        return [json.loads(line) for line in done.stdout.splitlines()]

    def request(self, node_id: str) -> bytes:
        [made] = self.do(["request", node_id])
        return bytes.fromhex(made)

    def key(self, slot: int) -> ec.EllipticCurvePrivateKey:
        """The private key in a slot, which only this test's hands can get at."""
        data = self.flash.read_bytes()[slot * SLOT_SIZE :]
        at = data.index(b"\x30\x77\x02\x01\x01\x04\x20")
        key = load_der_private_key(data[at : at + 121], password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        again = key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        assert again == data[at : at + 121]
        return key


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("pki") / "ca")


@pytest.fixture(scope="module")
def broker(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a Mosquitto that wants client certificates."""
    executable = mosquitto.find_executable()
    if executable is None:
        pytest.skip("Mosquitto is not installed: install the package `mosquitto`")
    folder = tmp_path_factory.mktemp("broker")
    authority.issue_broker(["127.0.0.1"]).save(folder, "broker")
    (folder / "ca.crt").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    files = (folder / "ca.crt", folder / "broker.crt", folder / "broker.key")
    process, port = mosquitto.start(executable, BrokerConfig("127.0.0.1", 0, Access(), *files), folder)
    try:
        yield port
    finally:
        process.stop()


def fields(*parts: tuple[int, bytes]) -> bytes:
    return b"".join(bytes([tag]) + len(value).to_bytes(2, "little") + value for tag, value in parts)


def installed(authority: Authority, request: bytes, node_id: str) -> tuple[x509.Certificate, list[list[Any]]]:
    """The certificate for a request, and the orders that bring it onto the board."""
    certificate = authority.sign_node(node_id, check_request(request, node_id))
    ca = authority.certificate.public_bytes(Encoding.DER)
    data = fields((3, certificate.public_bytes(Encoding.DER)), (4, ca))
    pieces: list[list[Any]] = [["put", at, data[at : at + 200].hex()] for at in range(0, len(data), 200)]
    return certificate, [*pieces, ["commit", len(data), zlib.crc32(data)]]


def test_vectors_are_what_their_generator_makes() -> None:
    generator = runpy.run_path(str(VECTORS / "make_enrol.py"))
    assert (VECTORS / "enrol.json").read_text() == generator["document"]()


@pytest.mark.parametrize("node_id", ["n", "n01", "A" + "b-9" * 10 + "Z"])
def test_request_as_others_read_it(tmp_path: Path, node_id: str) -> None:
    board = Board(tmp_path)
    made = board.request(node_id)
    read = x509.load_der_x509_csr(made)
    assert read.is_signature_valid
    assert read.signature_algorithm_oid == SignatureAlgorithmOID.ECDSA_WITH_SHA256
    assert [(name.oid, name.value) for name in read.subject] == [(NameOID.COMMON_NAME, node_id)]
    assert not read.extensions and not list(read.attributes)
    assert read.public_bytes(Encoding.DER) == made
    assert read.public_key() == board.key(0).public_key() == check_request(made, node_id)


def test_request_as_openssl_reads_it(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    made = Board(tmp_path).request("n01")
    words = [openssl, "req", "-inform", "DER", "-verify", "-noout", "-subject"]
    done = subprocess.run(words, input=made, capture_output=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0 and b"verify OK" in done.stdout + done.stderr
    assert done.stdout.split(b"=", 1)[1].replace(b" ", b"").strip() == b"CN=n01"


def test_from_a_blank_board_to_the_broker_and_on(authority: Authority, broker: int, tmp_path: Path) -> None:
    """A first identity, a rotation on trial, and its end, each used against a broker with mutual TLS."""
    board = Board(tmp_path)
    secrets = []
    for number in range(3):
        slot = number % 2
        request = board.request("n01")
        assert board.request("n01") == request
        certificate, orders = installed(authority, request, "n01")
        *_, fingerprint = board.do(*orders)
        der = certificate.public_bytes(Encoding.DER)
        assert fingerprint == certificate.fingerprint(SHA256()).hex()
        found = decode(board.flash.read_bytes())
        assert (found.slot, found.sequence, found.trial) == (slot, number + 1, number > 0)
        assert found.identity.chain == (der,)
        assert board.do(["connect", broker]) == ["20020000"]
        secrets.append(board.key(slot).private_numbers().private_value)
        if number:
            board.do(["settle", True])
            assert not decode(board.flash.read_bytes()).trial
            assert board.do(["connect", broker]) == ["20020000"]
            assert secrets[number - 1].to_bytes(32, "big") not in board.flash.read_bytes()
    assert len(set(secrets)) == 3
    for secret in secrets:
        assert f"{secret:064x}" not in board.said and str(secret) not in board.said


def test_the_trial_that_fails_leaves_the_old_one(authority: Authority, broker: int, tmp_path: Path) -> None:
    board = Board(tmp_path)
    first, orders = installed(authority, board.request("n01"), "n01")
    board.do(*orders)
    stranger = Authority.create(tmp_path / "other")
    board.do(*installed(stranger, board.request("n01"), "n01")[1])
    assert decode(board.flash.read_bytes()).trial
    board.do(["settle", False])
    found = decode(board.flash.read_bytes())
    assert found.identity.chain == (first.public_bytes(Encoding.DER),) and not found.trial
    assert board.do(["connect", broker]) == ["20020000"]


def test_host_shows_what_waits_and_what_is_on_trial(authority: Authority, tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.do(*installed(authority, board.request("n01"), "n01")[1])
    board.request("n01")
    found = decode(board.flash.read_bytes())
    assert found.pending and not found.trial and found.damage == (None, "pending")
    assert "30770201" not in repr(found)


@pytest.mark.soak
def test_more_power_cuts() -> None:
    """More ways in which an operation can be torn, and thousands of rotations that are cut off."""
    calls = "".join(f"t.{name}(); " for name in _campaigns())
    code = f"import test_enrol_power as t; t.TEARS = 100; t.ROUNDS = 3000; t.SEED = 99; {calls}"
    search = [FIRMWARE, VIRTUAL_BOARD, ROOT / "tests" / "firmware"]
    done = subprocess.run(
        [*micropython.command(), "-X", "heapsize=1m", "-c", code],
        env=os.environ | {"MICROPYPATH": ":".join([".frozen", *map(str, search)])},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert not done.stdout + done.stderr, done.stdout + done.stderr


def _campaigns() -> list[str]:
    source = (ROOT / "tests" / "firmware" / "test_enrol_power.py").read_text()
    return [line[4:].split("(")[0] for line in source.splitlines() if line.startswith("def test_")]
