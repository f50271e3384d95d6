"""Nodes in service, as provisioning leaves them: what rotation, refresh and decommissioning begin with."""

import base64
import hashlib
import json
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from host_tools import boards, image, settings
from host_tools.ca import CertificateAuthority
from host_tools.ca.operator import operator
from host_tools.fleet import Fleet, Node, Record
from host_tools.pki import endorsement, partition
from host_tools.pki.credential import key_pem, pem
from host_tools.telemetry.operator import Operator
from host_tools.telemetry.reach import places, reach
from tests.host.provisioning import Site
from tests.host.stand import wait_until
from tests.host.virtual_rig import Rig

IMAGE, SETTINGS = "ab" * 32, "cd" * 32


def recorded(fleet: Fleet, ca: CertificateAuthority, node_id: str, mac: str, location: str = "1-1") -> Node:
    """Record a node, which has its certificate, as in service."""
    [issued] = ca.live(node_id)
    fleet.claim(mac, node_id)
    fleet.record(mac, "virtual", IMAGE)
    fleet.in_service(
        Record(
            node_id=node_id,
            mac=mac,
            location=location,
            board="virtual",
            image=IMAGE,
            serial=issued.serial,
            fingerprint=issued.fingerprint,
            client_id=node_id,
            first_publish="2026-11-01T10:00:00+00:00",
            expires=issued.expires.isoformat(),
            settings=SETTINGS,
        )
    )
    return fleet.known(node_id)


def flash_of(site: Site, node_id: str, board: boards.Board | None = None) -> bytes:
    """The flash of a node of this site, with an identity of its own."""
    checked = settings.check(site.node_file)
    files = dict(image.firmware_files())
    files[image.SETTINGS_NAME] = settings.dump(settings.to_node_json(checked.node_file, checked.board))
    identity = partition.encode(site.ca.issue_node_key(node_id))
    return image.compose(board or boards.load_board("virtual"), files, identity, stand_in=True)


def real_node(site: Site, fleet: Fleet, node_id: str) -> Rig:
    """A virtual board that is a node in service."""
    rig = site.board(flash_of(site, node_id))
    recorded(fleet, site.ca, node_id, rig.mac, rig.url)
    return rig


def wait_for(operator: Operator, node_id: str) -> None:
    """Until the operator has heard that the node is up."""
    wait_until(lambda: operator.of(node_id).is_up, node_id)


@contextmanager
def operating(site: Site) -> Iterator[Operator]:
    """An operator at the site's broker."""
    with operator(site.ca) as files, reach(places(site.node_file), files) as made:
        yield made


@dataclass(eq=False)
class PlayedNode:
    """A node's part of a rotation, played on this host over real TLS to a real broker: many of them cost
    little, and each can misbehave. `on` may answer a command in its place, or with None be silent.

    `refused`: the broker refuses whatever new certificate it gets, and it goes back to the one it had.
    """

    site: Site
    node_id: str
    refused: bool = False
    on: Callable[["PlayedNode", bytes], dict[str, Any] | None] | None = None

    def __post_init__(self) -> None:
        self.folder = self.site.folder / f"played-{self.node_id}"
        self.folder.mkdir()
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.chain = (self.site.ca.issue_node(self.request(self.key), self.node_id).der, *self.site.ca.chain)
        self.trusted: tuple[bytes, ...] = self.site.ca.trusted
        self.pending: ec.EllipticCurvePrivateKey | None = None
        self.put = bytearray()
        self.sequence = 1
        self.commands: list[bytes] = []
        self.on_trial = False
        self._renewed = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._renewed.set()
        self._thread.join()

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.chain[0]).hexdigest()

    def request(self, key: ec.EllipticCurvePrivateKey, name: str | None = None) -> bytes:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name or self.node_id)])
        made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
        return made.public_bytes(Encoding.DER)

    def asked(self, command: bytes) -> dict[str, Any] | None:
        """What the node answers to a command, as the firmware does."""
        name, _, rest = command.partition(b" ")
        if name == b"identity":
            return {"fingerprint": self.fingerprint, "trial": self.on_trial, "pending": bool(self.pending)}
        if name == b"health":
            return {"uptime": 7, "spool": 0, "error": None}
        if command == b"key same":
            self.pending = self.key
            return {"ok": True, "sequence": self.sequence + 1}
        if name == b"key":
            self.pending = self.pending or ec.generate_private_key(ec.SECP256R1())
            csr = base64.b64encode(self.request(self.pending)).decode()
            return {"csr": csr, "sequence": self.sequence + 1}
        if name == b"put":
            offset, _, data = rest.partition(b" ")
            self.put[int(offset) :] = data
            return {"at": len(self.put)}
        if name == b"use":
            length, crc = rest.split()
            if self.pending is None or len(self.put) != int(length) or zlib.crc32(self.put) != int(crc, 16):
                return {"error": "what was put has another CRC: put all again, from 0"}
            if not self._is_endorsed(bytes(self.put)):
                return {"error": "what was put is not endorsed by the authority of this node"}
            self._renewed.set()
            self.on_trial = True
            return {"ok": True}
        return {"error": "unknown command"}

    def _is_endorsed(self, put: bytes) -> bool:
        fields, signature = put[:-67], put[-64:]
        present = bytes.fromhex(self.fingerprint)
        signed = endorsement.message(present, self.sequence + 1, self.node_id, fields)
        r, s = (int.from_bytes(signature[at : at + 32], "big") for at in (0, 32))
        issuer = x509.load_der_x509_certificate(self.chain[1]).public_key()
        assert isinstance(issuer, ec.EllipticCurvePublicKey)
        try:
            issuer.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return put[-67:-64] == b"\x06\x40\x00"

    def _run(self) -> None:
        verdict = ""
        while not self._stop.is_set():
            self._session(verdict)
            verdict = ""
            if self.on_trial and self.pending:
                if self.refused:
                    verdict = "the new certificate is given up (refused 5); the old one stays"
                else:
                    verdict = "the new certificate works; the old one is erased"
                    self.key, (self.chain, self.trusted) = self.pending, _read(bytes(self.put))
                    self.sequence += 1
                self.pending, self.on_trial = None, False
                self.put.clear()

    def _session(self, verdict: str) -> None:
        (self.folder / "ca.crt").write_bytes(pem(*map(x509.load_der_x509_certificate, self.trusted)))
        (self.folder / "node.key").write_bytes(key_pem(self.key))
        (self.folder / "node.crt").write_bytes(pem(*map(x509.load_der_x509_certificate, self.chain)))
        context = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        context.load_cert_chain(self.folder / "node.crt", self.folder / "node.key")
        client = Client(CallbackAPIVersion.VERSION2, self.node_id, clean_session=False)
        client.tls_set_context(context)
        topic = f"limpet/{self.node_id}"
        client.will_set(f"{topic}/state", b'{"up":false}', 1, True)

        def answer(_client: Client, _data: object, message: MQTTMessage) -> None:
            payload = bytes(message.payload)
            self.commands.append(payload)
            said = self.on(self, payload) if self.on else self.asked(payload)
            if said is not None:
                leaf = message.topic.rpartition("/")[2]
                client.publish(f"{topic}/rsp/{leaf}", json.dumps(said), 1)

        client.on_message = answer
        self._renewed.clear()
        client.connect("localhost", self.site.broker.port)
        client.loop_start()
        client.subscribe(f"{topic}/cmd/+", 1)
        client.publish(f"{topic}/state", b'{"up":true}', 1, True)
        about = client.publish(f"{topic}/about", json.dumps({"certificate": self.fingerprint}), 1, True)
        if verdict:
            client.publish(f"{topic}/event", json.dumps({"event": "identity", "text": verdict}), 1)
        about.wait_for_publish(20)
        self._renewed.wait()
        wait_until(lambda: not client.want_write(), "the last answer")
        client.disconnect()
        client.loop_stop()


def _read(data: bytes) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    found: dict[int, list[bytes]] = {3: [], 4: [], 6: []}
    while data:
        length = int.from_bytes(data[1:3], "little")
        found[data[0]].append(data[3 : 3 + length])
        data = data[3 + length :]
    return tuple(found[3]), tuple(found[4])
