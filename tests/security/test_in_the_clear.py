"""Promise 4: what a node sends while there is no TLS, captured where it would be read."""

import contextlib
import random
import ssl
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from host_tools.broker.mosquitto import find_executable
from host_tools.pki.authority import Authority
from tests.host.stand import BME280_SPEC, Node, Stand
from tests.security.wire import (
    APPLICATION_DATA,
    CERTIFICATE,
    CHANGE_CIPHER_SPEC,
    CLIENT_HELLO,
    HANDSHAKE,
    Behaviour,
    Conversation,
    Tap,
    clear_messages,
    records,
    relay,
)

pytestmark = pytest.mark.skipif(not find_executable(), reason="Mosquitto is not installed")

NODE = "canary-7f3a9c"
SENSOR = "canarysensor"
SECRETS = (NODE, SENSOR, "canary", "limpet", "MQTT", "temperature", "21.5", "readings", '"up"', '"epoch"')
"""What must not show: ids, topics, protocol, channels, values, and the ends of payloads."""

CONNACK_SUBACK = b"\x20\x02\x00\x00" + b"\x90\x03\x00\x01\x01"
# A ServerHello of TLS 1.0 that chooses TLS_RSA_WITH_NULL_SHA (RFC 5246 section 7.4.1.3, appendix A.5).
NULL_HELLO = b"\x03\x01" + bytes(32) + b"\x00" + b"\x00\x02" + b"\x00"
NULL_RECORD = b"\x16\x03\x01\x00\x2a" + b"\x02\x00\x00\x26" + NULL_HELLO


def says(answer: bytes, at_once: bool = False) -> Behaviour:
    """A server that knows no TLS, and answers with this."""

    def behave(conversation: Conversation) -> None:
        if not at_once:
            conversation.read()
        conversation.sock.sendall(answer)
        conversation.read_all()

    return behave


def nearly_done(sent: bytes) -> bool:
    """Whether the client has said all that belongs to the handshake: the server's end of it is missing."""
    return CHANGE_CIPHER_SPEC in [kind for kind, _ in records(sent)]


def hangs_up(conversation: Conversation) -> None:
    conversation.read()


def speaks_tls(context: ssl.SSLContext) -> Behaviour:
    """A server with a context of its own; whatever a client says to it inside TLS is kept too."""

    def behave(conversation: Conversation) -> None:
        inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(inward, outward, server_side=True)
        while data := conversation.read():
            inward.write(data)
            with contextlib.suppress(ssl.SSLWantReadError):
                try:
                    tls.do_handshake()
                    conversation.sent += tls.read()
                except ssl.SSLError:
                    conversation.sock.sendall(outward.read())
                    break
            conversation.sock.sendall(outward.read())
        conversation.read_all()

    return behave


def server_context(folder: Path, stem: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{stem}.crt", folder / f"{stem}.key")
    return context


def old_context(folder: Path, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = server_context(folder, "broker")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    return context


def without_cipher(folder: Path) -> ssl.SSLContext:
    """TLS 1.2 with our own certificate, and with nothing but NULL ciphers."""
    context = server_context(folder, "broker")
    context.set_ciphers("eNULL:@SECLEVEL=0")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


@dataclass
class Scene:
    """A node that met all of these before it met its broker."""

    stand: Stand
    node: Node
    taps: dict[str, Tap]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("clear")
    stranger = folder / "stranger"
    Authority.create(stranger).issue_broker(["localhost"]).save(stranger, "broker")
    with contextlib.ExitStack() as stack:
        stand = stack.enter_context(Stand(folder, "mosquitto"))
        stand.authority.issue_broker(["another.example"]).save(stand.pki, "another")
        port = stand.broker.port
        behaviours: dict[str, Behaviour] = {
            "plaintext, at once": says(CONNACK_SUBACK, at_once=True),
            "plaintext": says(CONNACK_SUBACK),
            "HTTP": says(b"HTTP/1.1 400 The plain HTTP request was sent to HTTPS port\r\n\r\n"),
            "noise": says(random.Random(4).randbytes(4096)),
            "hangs up": hangs_up,
            "null cipher of TLS 1.0": says(NULL_RECORD),
            "null cipher of TLS 1.2": speaks_tls(without_cipher(stand.pki)),
            "TLS 1.0": speaks_tls(old_context(stand.pki, ssl.TLSVersion.TLSv1)),
            "TLS 1.1": speaks_tls(old_context(stand.pki, ssl.TLSVersion.TLSv1_1)),
            "stranger": speaks_tls(server_context(stranger, "broker")),
            "another name": speaks_tls(server_context(stand.pki, "another")),
            **{f"cut after {size}": relay(port, size) for size in (3, 90, 400, 700)},
            "cut before its end": relay(port, stop=nearly_done),
            "broker": relay(port),
        }
        taps = {name: stack.enter_context(Tap(each)) for name, each in behaviours.items()}
        known = [{"host": "127.0.0.1", "port": tap.port, "name": "localhost"} for tap in taps.values()]
        spec = {**BME280_SPEC, "name": SENSOR}
        node = stand.node(stand.settings(spec, brokers=known), NODE).start()
        stand.wait_for_readings(node, 6)
        yield Scene(stand, node, taps)


def leaks(sent: bytes) -> list[str]:
    return [secret for secret in SECRETS if secret.encode() in sent]


def test_the_search_would_find_it(scene: Scene) -> None:
    """What is searched for is what the node says: it stands in what reaches the receiver."""
    said = b" ".join(m.topic.encode() + b" " + m.payload for m in list(scene.stand.messages))
    assert set(leaks(said)) == set(SECRETS) - {"MQTT", "readings"}
    assert leaks(b"\x10\x10\x00\x04MQTT") == ["MQTT"]


def without_certificates(sent: bytes) -> bytes:
    """What a node sent, but for the certificate that TLS 1.2 shows to a broker which proved who it is."""
    for kind, body in clear_messages(sent):
        if kind == CERTIFICATE:
            sent = sent.replace(body, b"")
    return sent


@pytest.mark.security(
    4, "IEC 62443-4-2 CR 4.1", "IEC 62443-4-2 CR 3.1", "ETSI EN 303 645 5.5-1", "ETSI EN 303 645 5.5-7"
)
def test_nothing_is_said_without_tls(scene: Scene) -> None:
    """To servers without TLS, with old TLS, NULL ciphers or a wrong certificate, and to its broker while the
    handshake is not over, a node sends handshake and alerts: no byte of a topic or a reading."""
    for name, tap in scene.taps.items():
        assert tap.conversations, f"the node never met '{name}':\n{scene.node.log}"
        if name == "broker":
            continue
        for each in tap.conversations:
            sent = bytes(each.sent)
            kinds = [kind for kind, _ in records(sent)]
            assert kinds[:1] in ([], [HANDSHAKE]), name
            assert APPLICATION_DATA not in kinds, name
            assert not leaks(without_certificates(sent)), name
    shown = [CERTIFICATE in dict(clear_messages(t.sent)) for n, t in scene.taps.items() if n != "broker"]
    assert shown == [False] * (len(shown) - 1) + [True], "an impostor was shown who the node is"


@pytest.mark.security(4, "IEC 62443-4-2 CR 4.1", "ETSI EN 303 645 5.6-2")
def test_what_a_handshake_shows(scene: Scene) -> None:
    """Of a session with its broker a listener sees the broker's name, and the node's id where TLS 1.2 shows
    the certificate: no topic, no reading."""
    for each in scene.taps["broker"].conversations:
        sent = bytes(each.sent)
        assert APPLICATION_DATA in [kind for kind, _ in records(sent)], "there is a session to look at"
        (hello,) = [body for kind, body in clear_messages(sent) if kind == CLIENT_HELLO]
        assert b"localhost" in hello and not leaks(hello)
        assert not leaks(without_certificates(sent))


def test_a_tap_sees_what_is_not_encrypted() -> None:
    with pytest.raises(ValueError, match="no TLS record at 0"):
        records(b"\x10\x10\x00\x04MQTT")
    with pytest.raises(ValueError, match="no TLS record at 7"):
        records(b"\x15\x03\x03\x00\x02\x02\x28" + b"\x30\x10\x00\x04data")
