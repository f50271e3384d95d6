"""The subscriber against a real Mosquitto over mutual TLS, with certificates that live as long as a test."""

import contextlib
import datetime
import ipaddress
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from host_tools.telemetry import subscriber
from host_tools.telemetry.subscriber import Event, Link, Message, Subscriber, SubscriberError, TlsFiles
from tests.host.stand import wait_until

PATIENCE_S = 30.0
MOSQUITTO = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def pem_of_key(key: ec.EllipticCurvePrivateKey, password: bytes = b"") -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


class Authority:
    """Signs certificates; its own is in `folder/name.crt`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = self._write(name, self._key, self._name, x509.BasicConstraints(True, None))

    def issue(self, name: str, *alt_names: x509.GeneralName) -> TlsFiles:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        extension = x509.SubjectAlternativeName(alt_names or [x509.DNSName(name)])
        certificate = self._write(name, key, subject, extension)
        (self._folder / f"{name}.key").write_bytes(pem_of_key(key))
        return TlsFiles(self.file, certificate, self._folder / f"{name}.key")

    def _write(
        self, stem: str, key: ec.EllipticCurvePrivateKey, subject: x509.Name, extension: x509.ExtensionType
    ) -> Path:
        now = datetime.datetime.now(datetime.UTC)
        ca = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        signs = stem == self._name.rdns[0].rfc4514_string().removeprefix("CN=")
        usage = x509.KeyUsage(not signs, False, False, False, False, signs, signs, False, False)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        path = self._folder / f"{stem}.crt"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path


@dataclass
class Bench:
    """A folder of certificates and a Mosquitto that admits only our authority's."""

    folder: Path
    authority: Authority
    console: TlsFiles
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return (self.folder / "mosquitto.log").read_text()

    def start(self) -> None:
        assert MOSQUITTO
        config = self.folder / "mosquitto.conf"
        with (self.folder / "mosquitto.log").open("ab") as log:
            self.process = subprocess.Popen([MOSQUITTO, "-v", "-c", config], stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            assert self.process.poll() is None and time.monotonic() < deadline, self.log
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def subscriber(self, *, tls: TlsFiles | None = None, name: str = "") -> Subscriber:
        return Subscriber("127.0.0.1", self.port, tls or self.console, client_id="console", name=name)

    def publish(self, *messages: tuple[str, bytes], retain: bool = False) -> None:
        """Publish with QoS 1; returns when the broker has confirmed all."""
        client = Client(CallbackAPIVersion.VERSION2, "publisher")
        client.tls_set(str(self.console.ca), str(self.console.certificate), str(self.console.key))
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        for info in [client.publish(topic, payload, 1, retain) for topic, payload in messages]:
            info.wait_for_publish(PATIENCE_S)
        client.disconnect()
        client.loop_stop()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def certificates(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


@pytest.fixture
def bench(tmp_path: Path, certificates: Authority) -> Iterator[Bench]:
    if not MOSQUITTO:
        pytest.skip("needs Mosquitto: apt-get install mosquitto")
    broker = certificates.issue("broker", x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    bench = Bench(tmp_path, certificates, certificates.issue("console"), free_port())
    (tmp_path / "mosquitto.conf").write_text(
        f"listener {bench.port} 127.0.0.1\ncafile {broker.ca}\ncertfile {broker.certificate}\n"
        f"keyfile {broker.key}\nrequire_certificate true\nuse_identity_as_username true\n"
        + ("user root\n" if os.geteuid() == 0 else "")
    )
    bench.start()
    yield bench
    bench.stop()


def next_one(source: Subscriber) -> Event:
    event = source.next_event(PATIENCE_S)
    assert event is not None, "nothing came"
    return event


def test_messages_come_with_size_and_time(bench: Bench) -> None:
    bench.publish(("limpet/n01/state", b'{"up":true}'), retain=True)
    before = time.time()
    with bench.subscriber() as source:
        # The broker may send what is retained before it confirms the subscription.
        first, second = sorted((next_one(source), next_one(source)), key=lambda event: type(event).__name__)
        assert first == Link(True)
        assert isinstance(second, Message) and second.topic == "limpet/n01/state"
        bench.publish(
            ("limpet/n01/data", b"\x00\xff" * 40), ("limpet/n02/health", b""), ("limpet/n01/cmd/x", b"deeper")
        )
        bench.publish(("other/n01/data", b"other prefix"), ("limpet/n02/data", b"last"))
        events = [next_one(source) for _ in range(3)]
        after = time.time()
    messages = [event for event in events if isinstance(event, Message)]
    assert [(each.topic, each.payload, each.size) for each in messages] == [
        ("limpet/n01/data", b"\x00\xff" * 40, 80),
        ("limpet/n02/health", b"", 0),
        ("limpet/n02/data", b"last", 4),
    ]
    assert all(before <= each.received <= after for each in messages)
    assert "limpet/+/+ (QoS 1)" in bench.log


def test_stop_takes_leave_and_ends_the_thread(bench: Bench) -> None:
    threads = threading.active_count()
    source = bench.subscriber()
    source.start()
    assert threading.active_count() == threads + 1
    source.stop()
    assert threading.active_count() == threads
    wait_until(lambda: "Client console disconnected." in bench.log, "the leave-taking")


def test_nothing_is_lost_when_the_reader_is_slow(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriber, "_BACKLOG", 3)
    sent = [(f"limpet/n01/d{number}", str(number).encode()) for number in range(100)]
    with bench.subscriber() as source:
        assert next_one(source) == Link(True)
        bench.publish(*sent)
        events = [next_one(source) for _ in sent]
    assert [(each.topic, each.payload) for each in events if isinstance(each, Message)] == sent


def test_stop_does_not_wait_for_a_reader(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriber, "_BACKLOG", 1)
    threads = threading.active_count()
    with bench.subscriber():
        bench.publish(*((f"limpet/n01/d{number}", b"") for number in range(10)))
    assert threading.active_count() == threads


def test_a_lost_broker_is_told_and_found_again(bench: Bench) -> None:
    with bench.subscriber() as source:
        assert next_one(source) == Link(True)
        bench.stop()
        assert next_one(source) == Link(False, "it closed the connection")
        bench.start()
        assert next_one(source) == Link(True)
        bench.publish(("limpet/n01/data", b"again"))
        event = next_one(source)
    assert isinstance(event, Message) and event.payload == b"again"


def test_next_event_ends_without_one(bench: Bench) -> None:
    with bench.subscriber() as source:
        assert next_one(source) == Link(True)
        assert source.next_event(0.01) is None


def test_a_broker_of_another_authority_is_not_trusted(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "ca")
    tls = TlsFiles(other.file, bench.console.certificate, bench.console.key)
    with pytest.raises(SubscriberError, match=r"is not trusted .*from the authority that is trusted here"):
        bench.subscriber(tls=tls).start()
    assert "console" not in bench.log


def test_the_brokers_name_is_checked(bench: Bench, certificates: Authority) -> None:
    with pytest.raises(SubscriberError, match=r"is not trusted .* certificate for 'plant.example'"):
        bench.subscriber(name="plant.example").start()
    assert "as console" not in bench.log
    certificates.issue("broker")
    bench.stop()
    bench.start()
    with pytest.raises(SubscriberError, match=r"is not trusted .* certificate for '127.0.0.1'"):
        bench.subscriber().start()
    with bench.subscriber(name="broker") as source:
        assert next_one(source) == Link(True)


def test_a_certificate_of_another_authority_is_not_admitted(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    theirs = Authority(tmp_path / "other", "ca").issue("console")
    threads = threading.active_count()
    with pytest.raises(SubscriberError, match=r"Cannot subscribe at the broker .* admits the certificates"):
        bench.subscriber(tls=TlsFiles(bench.console.ca, theirs.certificate, theirs.key)).start()
    assert threading.active_count() == threads


def test_nobody_listens(certificates: Authority) -> None:
    tls = certificates.issue("console")
    with pytest.raises(SubscriberError, match=r"Cannot subscribe at the broker .*: connection refused"):
        Subscriber("127.0.0.1", free_port(), tls, client_id="console").start()


def test_a_server_without_tls_gets_no_word_in_plaintext(certificates: Authority) -> None:
    heard: list[bytes] = []

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            heard.append(connection.recv(4096))
            connection.sendall(b"\x20\x02\x00\x00")  # a CONNACK in plaintext

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        source = Subscriber(
            "127.0.0.1", server.getsockname()[1], certificates.issue("console"), client_id="console"
        )
        with pytest.raises(SubscriberError, match="Cannot subscribe"):
            source.start()
        thread.join()
    assert heard[0][0] == 0x16  # a TLS handshake record
    assert b"console" not in heard[0]


@pytest.mark.parametrize(
    ("connack", "suback", "says"),
    [
        (b"\x20\x02\x00\x05", b"", "it refused us, not authorized"),
        (b"\x20\x02\x00\x00", b"\x90\x03\x00\x01\x80", r"it does not let us read limpet/\+/\+"),
        (b"\x20\x02\x00\x00", b"", "it does not answer"),
        (b"", b"", "it does not answer"),
    ],
)
def test_a_broker_that_refuses_or_says_nothing(
    certificates: Authority, connack: bytes, suback: bytes, says: str
) -> None:
    files = certificates.issue("broker", x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)

    def serve() -> None:
        with contextlib.suppress(OSError), context.wrap_socket(server.accept()[0], server_side=True) as peer:
            for answer in (connack, suback):
                peer.recv(4096)
                peer.sendall(answer)
            while peer.recv(4096):
                pass

    threads = threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        tls = certificates.issue("console")
        source = Subscriber("127.0.0.1", server.getsockname()[1], tls, client_id="console")
        with pytest.raises(SubscriberError, match=says):
            source.start(timeout=1.0 if says == "it does not answer" else PATIENCE_S)
        thread.join()
    assert threading.active_count() == threads


def test_files_that_cannot_be_used(certificates: Authority, tmp_path: Path) -> None:
    good = certificates.issue("console")
    other = certificates.issue("other")
    junk = tmp_path / "junk"
    junk.write_text("not a key")
    locked = tmp_path / "locked"
    key = serialization.load_pem_private_key(good.key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    locked.write_bytes(pem_of_key(key, b"s3cr3t"))
    missing = tmp_path / "missing"
    for tls, says in (
        (TlsFiles(missing, good.certificate, good.key), f"authority's certificate {missing}: no such file"),
        (TlsFiles(junk, good.certificate, good.key), f"authority's certificate {junk}: it is not the PEM"),
        (TlsFiles(good.ca, missing, good.key), f"certificate {missing} with the key .*: no such file"),
        (TlsFiles(good.ca, good.certificate, missing), f"with the key {missing}: no such file"),
        (TlsFiles(good.ca, good.certificate, junk), f"with the key {junk}: it is not the PEM"),
        (TlsFiles(good.ca, good.certificate, other.key), f"with the key {other.key}: .* do not belong"),
        (TlsFiles(good.ca, good.certificate, locked), f"with the key {locked}: it is not the PEM"),
    ):
        with pytest.raises(SubscriberError, match=says):
            Subscriber("127.0.0.1", 1, tls, client_id="console").start()
