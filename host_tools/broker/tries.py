"""Tries what must not work, on a Mosquitto with a broker's files and a spare port of this machine."""

import contextlib
import os
import re
import secrets
import socket
import ssl
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from host_tools.broker import account, mosquitto, wire
from host_tools.broker.findings import Finding, NotTriedError, looked_at
from host_tools.broker.process import BrokerProcess
from host_tools.broker.project import BrokerFolder, Settings
from host_tools.broker.service import READY
from host_tools.ca.authority import CertificateAuthority
from host_tools.ca.operator import operator
from host_tools.errors import LimpetError
from host_tools.pki import files
from host_tools.pki.authority import Authority
from host_tools.pki.credential import Credential
from host_tools.scratch import scratch_folder

_HOST = "127.0.0.1"
_DEADLINE = 15.0
_NEEDS_CA = "it takes clients, and so the authority: --ca with its passphrase"
_REVOKED_BECAUSE = "cessation-of-operation"

_Open = Callable[[], "contextlib.AbstractContextManager[_Client]"]


def tries(
    folder: BrokerFolder, settings: Settings, authority: CertificateAuthority | None
) -> Iterator[Finding]:
    """Start Mosquitto on the folder's files and try it, one after the other."""
    executable = mosquitto.find_executable()
    if executable is None or not mosquitto.is_usable(mosquitto.version(executable)):
        yield Finding("Mosquitto starts on it", None, "install the package 'mosquitto', 2.0 or later")
        return
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(scratch_folder("broker-check"))
        trial = _Trial(folder, settings, executable, scratch)
        stack.callback(trial.stop)
        started = looked_at("Mosquitto starts on it", trial.start)
        yield started
        if not started.passed:
            return
        yield looked_at("refused: no certificate", trial.no_certificate)
        yield looked_at("refused: no TLS", trial.plain)
        yield looked_at("refused: TLS 1.1", trial.old_tls)
        yield looked_at("refused: a client of another authority", trial.stranger)
        if authority is None:
            for what in _WITH_CLIENTS:
                yield Finding(what, None, _NEEDS_CA)
        else:
            yield from _with_clients(trial, authority, scratch)


_WITH_CLIENTS = (
    "a node comes in and writes below its own prefix",
    "refused: a node writes as another",
    "refused: a node reads another's commands",
    "refused: a revoked node",
)


def _with_clients(trial: "_Trial", authority: CertificateAuthority, scratch: Path) -> Iterator[Finding]:
    # Each check has a node of its own: nothing of a node that exists is touched.
    node = f"check-{secrets.token_hex(6)}"
    identity = authority.issue_node_key(node, days=1)
    try:
        key, certificate = scratch / "node.key", scratch / "node.crt"
        files.write_private(key, _pem(identity.key, "EC PRIVATE KEY"))
        chain = b"".join(_pem(der, "CERTIFICATE") for der in identity.chain)
        files.write_private(certificate, chain)
        with operator(authority) as tls:

            def as_node() -> "contextlib.AbstractContextManager[_Client]":
                return trial.client(certificate, key, node)

            def as_operator() -> "contextlib.AbstractContextManager[_Client]":
                return trial.client(tls.certificate, tls.key, "operator")

            prefix = trial.settings.prefix
            own, other = f"{prefix}/{node}", f"{prefix}/{node}-other"
            comes_in = looked_at(_WITH_CLIENTS[0], lambda: _writes(as_node, as_operator, own))
            yield comes_in
            yield looked_at(_WITH_CLIENTS[1], lambda: _writes_not(as_node, as_operator, own, other))
            yield looked_at(_WITH_CLIENTS[2], lambda: _reads_not(as_node, as_operator, own, other))
    finally:
        authority.revoke(node, _REVOKED_BECAUSE)
    if not comes_in.passed:
        yield Finding(_WITH_CLIENTS[3], None, "no node comes in")
        return
    yield looked_at(
        _WITH_CLIENTS[3],
        lambda: trial.revoked(
            files.read(authority.folder.crl, "CRL"), lambda: trial.client(certificate, key, node)
        ),
    )


def _writes(as_node: _Open, as_operator: _Open, own: str) -> None:
    with as_operator() as watcher, as_node() as node:
        watcher.subscribe(f"{own}/#")
        node.publish(f"{own}/data")
        watcher.expect(f"{own}/data")


def _writes_not(as_node: _Open, as_operator: _Open, own: str, other: str) -> None:
    with as_operator() as watcher, as_node() as node:
        watcher.subscribe(f"{own}/#")
        watcher.subscribe(f"{other}/#")
        node.publish(f"{other}/data")
        node.publish(f"{own}/end")
        watcher.expect(f"{own}/end")


def _reads_not(as_node: _Open, as_operator: _Open, own: str, other: str) -> None:
    with as_node() as node, as_operator() as sender:
        node.subscribe(f"{other}/cmd/#")
        node.subscribe(f"{own}/cmd/#")
        sender.publish(f"{other}/cmd/1")
        sender.publish(f"{own}/cmd/end")
        node.expect(f"{own}/cmd/end")


class _Refused(LimpetError):
    """The broker did not let us in."""


class _Client:
    """An MQTT client that does one thing after the other."""

    def __init__(self, connection: ssl.SSLSocket, name: str) -> None:
        self._connection = connection
        self._packet_id = 0
        self._early: list[wire.Packet] = []
        connection.sendall(wire.connect(name))
        answer = wire.receive(connection)
        if answer is None or answer.kind != wire.CONNACK or answer.body[1:2] != b"\x00":
            raise _Refused("The broker does not let the client in.")

    def subscribe(self, topic: str) -> None:
        """Subscribe, and wait for the answer, whatever it is: Mosquitto grants all and delivers a part."""
        self._connection.sendall(wire.subscribe(topic))
        self._wait(wire.SUBACK)

    def publish(self, topic: str) -> None:
        """Publish, and wait until it is acknowledged; Mosquitto does that with what it drops, too."""
        self._packet_id += 1
        self._connection.sendall(wire.publish(topic, b"check", self._packet_id))
        self._wait(wire.PUBACK)

    def expect(self, topic: str) -> None:
        """Return if the next message is of this topic.

        Raises LimpetError otherwise.
        """
        packet = self._early.pop(0) if self._early else self._receive()
        if packet.kind != wire.PUBLISH or wire.topic_of(packet) != topic:
            raise LimpetError(f"A message came through that must not: {wire.topic_of(packet)}.")

    def _wait(self, kind: int) -> None:
        while (packet := self._receive()).kind != kind:
            if packet.kind == wire.PUBLISH:
                self._early.append(packet)

    def _receive(self) -> wire.Packet:
        packet = wire.receive(self._connection)
        if packet is None:
            raise LimpetError("The broker ended the connection.")
        return packet


class _Trial:
    """A Mosquitto for a moment, with the folder's files but a port, a store and a CRL of its own."""

    def __init__(self, folder: BrokerFolder, settings: Settings, executable: str, scratch: Path) -> None:
        self.settings = settings
        self._folder = folder
        self._executable = executable
        self._scratch = scratch
        self._port = 0
        self._process: BrokerProcess | None = None

    def start(self, crl: bytes | None = None) -> None:
        """Start it, with another CRL than the folder's if one is given.

        Raises LimpetError if it does not come up, with its last words.
        """
        self._port = mosquitto.free_port(_HOST)
        list_ = self._scratch / "crl.pem"
        files.write_private(list_, crl or files.read(self._folder.crl, "CRL"))
        text = files.read(self._folder.configuration, "configuration").decode(errors="replace")
        for pattern, line in (
            (r"^listener .*$", f"listener {self._port} {_HOST}"),
            (r"^persistence true$", "persistence false"),
            (r"^crlfile .*$", f"crlfile {list_}"),
        ):
            text = re.sub(pattern, lambda _, line=line: line, text, flags=re.MULTILINE)  # type: ignore[misc]
        path = self._scratch / "mosquitto.conf"
        files.write_private(path, text.encode())
        if self.settings.user and os.geteuid() == 0:
            owner = account.find(self.settings.user)
            for each in (self._scratch, list_, path):
                account.lend(each, owner)
        command = [self._executable, "-c", str(path)]
        self._process = BrokerProcess("Mosquitto", command, self._scratch / "log")
        self._process.wait_ready(READY)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.stop()

    @contextlib.contextmanager
    def client(self, certificate: Path, key: Path, name: str) -> Iterator[_Client]:
        """A client that has come in.

        Raises LimpetError if it was not let in, or the broker is not who it should be.
        """
        context = self._context()
        context.load_cert_chain(certificate, key)
        with self._connected(context) as connection:
            try:
                yield _Client(connection, name)
            except OSError as error:
                raise LimpetError(f"The broker broke off: {_said(error)}.") from None

    def no_certificate(self) -> None:
        """Raise LimpetError if one comes in who shows no certificate."""
        self._must_fail(self._context())

    def stranger(self) -> None:
        """Raise LimpetError if one comes in whose certificate is of another authority."""
        strange = self._scratch / "stranger"
        other = Authority.create(strange)
        identity = other.issue_console()
        Credential(identity.key, identity.certificate).save(strange, "client")
        context = self._context()
        context.load_cert_chain(strange / "client.crt", strange / "client.key")
        self._must_fail(context)

    def old_tls(self) -> None:
        """Raise LimpetError if TLS 1.1 is spoken."""
        context = self._context()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        with contextlib.suppress(ssl.SSLError):
            context.set_ciphers("ALL:@SECLEVEL=0")
        if not _can_begin(context):
            raise NotTriedError("this machine's own OpenSSL does not speak it")
        self._must_fail(context)

    def plain(self) -> None:
        """Raise LimpetError if a client without TLS gets an answer."""
        with socket.create_connection((_HOST, self._port), _DEADLINE) as connection:
            try:
                connection.sendall(wire.connect("check"))
                answer = wire.receive(connection)
            except OSError:
                return
        if answer is not None and answer.kind == wire.CONNACK:
            raise LimpetError("The broker answers a client that speaks no TLS.")

    def revoked(self, crl: bytes, as_node: _Open) -> None:
        """Raise LimpetError if a node comes in that `crl` has revoked."""
        self.stop()
        self.start(crl)
        try:
            with as_node():
                pass
        except LimpetError:
            return
        raise LimpetError("The broker lets in a node that is revoked.")

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self._folder.trusted))
        # TLS 1.3 tells a client that it is refused only after its own half of the handshake.
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        return context

    @contextlib.contextmanager
    def _connected(self, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
        with socket.create_connection((_HOST, self._port), _DEADLINE) as plain:
            try:
                secured = context.wrap_socket(plain, server_hostname=self.settings.names[0])
            except ssl.SSLCertVerificationError as error:
                raise LimpetError(
                    f"The broker's certificate is not trusted: {error.verify_message}."
                ) from None
            except OSError as error:
                raise _Refused(f"The broker refuses the connection: {_said(error)}.") from None
            with secured:
                yield secured

    def _must_fail(self, context: ssl.SSLContext) -> None:
        try:
            with self._connected(context):
                pass
        except _Refused:
            return
        raise LimpetError("The broker goes through with the TLS handshake.")


def _can_begin(context: ssl.SSLContext) -> bool:
    """Whether our side gets as far as to send something."""
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    return outgoing.pending > 0


def _said(error: OSError) -> str:
    reason = error.reason if isinstance(error, ssl.SSLError) else None
    return str(reason or error.strerror or error).lower().replace("_", " ")


def _pem(der: bytes, label: str) -> bytes:
    text = ssl.DER_cert_to_PEM_cert(der)
    return text.replace("CERTIFICATE", label).encode()
